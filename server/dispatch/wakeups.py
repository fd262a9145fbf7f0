"""Waking the assigner and the workers' sockets; any of it may be lost, since a timer looks too.

Flow: 3 dispatch
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from channels.layers import get_channel_layer

from server.dispatch.models import WorkerSession
from server.dispatch.selectors import Offer
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


class Doors:
    """The worker sockets of this process, by the name of their channel: what is for them need not go by the layer."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[asyncio.AbstractEventLoop, Callable[[Offer], None]]] = {}

    def open(self, channel_name: str, take: Callable[[Offer], None]) -> None:
        """From now on `take` is called on the running loop with every offer for this socket."""
        self._open[channel_name] = (asyncio.get_running_loop(), take)

    def close(self, channel_name: str) -> None:
        """The socket is gone."""
        self._open.pop(channel_name, None)

    def put(self, channel_name: str, offer: Offer) -> bool:
        """Hand an offer in, from any thread; False when there is no such socket here."""
        loop, take = self._open.get(channel_name, (None, None))
        if loop is None or take is None or loop.is_closed():
            return False
        loop.call_soon_threadsafe(take, offer)
        return True


doors = Doors()


def hand_over(channel_name: str, offer: Offer) -> None:
    """Bring a committed offer to its worker's socket: itself when the socket is here, else a poke. For threads."""
    if not doors.put(channel_name, offer):
        aside(send, channel_name, OFFERS)


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
