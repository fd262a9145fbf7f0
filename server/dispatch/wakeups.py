"""Waking the assigner and the workers' sockets; any of it may be lost, since a timer looks too.

Flow: 3 dispatch
"""

import asyncio
from typing import Any

import structlog
from channels.layers import get_channel_layer

from server.dispatch.models import WorkerSession
from server.topics.pokes import aside

log = structlog.get_logger(__name__)

POKE = {"type": "worker.poke"}
"""Look at everything there is to say to the worker."""
OFFERS = {"type": "worker.offers"}
"""Look for offers only: the quick way of a click."""


class Bell:
    """Rung from any thread, heard on the loop that listens."""

    def __init__(self) -> None:
        self._rung: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self) -> None:
        """From now on the running loop hears it; it starts as rung, for what happened before."""
        self._loop, self._rung = asyncio.get_running_loop(), asyncio.Event()
        self._rung.set()

    def ring(self) -> None:
        """Wake the listener, if there is one in this process."""
        loop, rung = self._loop, self._rung
        if loop is not None and rung is not None and not loop.is_closed():
            loop.call_soon_threadsafe(rung.set)

    async def heard(self, *, seconds: float) -> bool:
        """Wait until it is rung; False when `seconds` pass first."""
        rung = self._rung
        if rung is None:
            raise RuntimeError("nobody listens to the bell")
        try:
            async with asyncio.timeout(seconds):
                await rung.wait()
        except TimeoutError:
            return False
        rung.clear()
        return True


bell = Bell()


def poke_worker(worker_id: str) -> None:
    """Let the worker's socket look for what it is to be told. For threads."""
    alive = WorkerSession.objects.filter(worker_id=worker_id, closed_at=None)
    for channel_name in alive.values_list("channel_name", flat=True):
        aside(send, channel_name, POKE)


async def send(channel_name: str, message: dict[str, Any]) -> None:
    """Put a message into a socket's channel; a layer that is away loses it."""
    try:
        await get_channel_layer().send(channel_name, message)
    except Exception as error:  # noqa: BLE001  (the layer may be anything and away; the rows have the truth)
        log.warning("a poke to a worker was lost", cause=type(error).__name__)
