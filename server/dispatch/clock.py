"""The dispatcher: assigns when the bell rings, and looks by itself every two seconds, for bells that were lost.

Flow: 3 dispatch
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connections

from server.audit.keeping import keep_sealed
from server.dispatch import assigner, housekeeping, wakeups
from server.dispatch.node import NODE
from server.dispatch.threads import database_threads, in_thread
from server.imaging.services import tidy
from server.jobs.outbox import topic_of
from server.topics import pokes

log = structlog.get_logger(__name__)

TICK_SECONDS = 2.0
TIDY_SECONDS = 900.0
STUCK_SECONDS = 15.0

_last_tick: float | None = None


class NotTicking(Exception):
    """The dispatcher has not looked at the queue for too long."""


def assert_ticking() -> None:
    """Raises NotTicking unless the dispatcher of this process has looked at the queue lately."""
    if _last_tick is None or time.monotonic() - _last_tick > STUCK_SECONDS:
        raise NotTicking


async def run(*, stop: asyncio.Event, on_server_job: Callable[[], None]) -> None:
    """Assign, expire and tell places in the queue until `stop` is set.

    `on_server_job` is called whenever a job waits for the server's own worker.
    """
    wakeups.bell.listen()
    pokes.speak_on(asyncio.get_running_loop())
    async with database_threads(), asyncio.TaskGroup() as tasks:
        await in_thread(housekeeping.on_start, node=NODE, is_alone=_is_alone())
        chores = [tasks.create_task(_keep_tidy()), tasks.create_task(keep_sealed())]
        end = tasks.create_task(stop.wait())
        end.add_done_callback(lambda _: wakeups.bell.ring())
        dispatcher = Dispatcher(on_server_job=on_server_job)
        while not stop.is_set():
            await wakeups.bell.heard(seconds=dispatcher.seconds_to_tick())
            if not stop.is_set():
                await dispatcher.look()
        for chore in chores:
            chore.cancel()
    pokes.speak_on(None)


class Dispatcher:
    """One process's looks at the queue, and what it told the waiting last time."""

    def __init__(self, *, on_server_job: Callable[[], None]) -> None:
        self.on_server_job = on_server_job
        self._positions: Mapping[str, int] = {}
        self._tick_at = time.monotonic()

    def seconds_to_tick(self) -> float:
        """How long the bell may stay silent."""
        return max(0.0, self._tick_at - time.monotonic())

    async def look(self) -> None:
        """Assign what can be assigned; on a tick first take back what ran out."""
        global _last_tick  # noqa: PLW0603  (read by the readiness check)
        is_tick = self.seconds_to_tick() == 0.0
        try:
            if is_tick:
                self._tick_at = time.monotonic() + TICK_SECONDS
                await in_thread(housekeeping.expire)
            found = await in_thread(assigner.assign_round)
        except Exception:
            # A locked or absent database passes; a dispatcher that ended would be missed only at the next click.
            log.exception("the dispatcher could not look at the queue")
            return
        _last_tick = time.monotonic()
        for channel_name in found.pokes:
            await wakeups.send(channel_name, wakeups.OFFERS)
        if found.wants_server:
            self.on_server_job()
        await self._tell_positions(found.positions)

    async def _tell_positions(self, positions: Mapping[str, int]) -> None:
        told, self._positions = self._positions, positions
        for job_id, position in positions.items():
            if told.get(job_id) != position:
                body = {"stage": None, "progress": 0.0, "eta_seconds": None, "queue_position": position}
                await pokes.anews(topic_of(job_id), kind="progress", body=body)


async def _keep_tidy() -> None:
    with suppress(asyncio.CancelledError):
        while True:
            try:
                await asyncio.to_thread(_tidy_in_thread)
            except Exception:
                log.exception("could not tidy up")
            await asyncio.sleep(TIDY_SECONDS)


def _tidy_in_thread() -> None:
    try:
        tidy()
    finally:
        connections.close_all()


def _is_alone() -> bool:
    """With the in-memory layer only one process can reach the sockets, so there is only one."""
    layer = get_channel_layer()
    return settings.DATABASES["default"]["ENGINE"].endswith("sqlite3") or type(layer).__name__ == "InMemoryChannelLayer"
