"""The dispatcher: assigns when the bell rings, and looks by itself every two seconds, for bells that were lost.

Flow: 3 dispatch
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connections

from server import pool
from server.accounts import services as accounts
from server.audit.keeping import keep_sealed
from server.core.clocks import Reading, jump_between
from server.dispatch import assigner, housekeeping, survey, wakeups
from server.dispatch.node import NODE
from server.dispatch.threads import database_threads, in_thread
from server.imaging.services import tidy
from server.jobs.outbox import topic_of
from server.jobs.pruning import prune
from server.jobs.services import is_own_clock
from server.topics import pokes

log = structlog.get_logger(__name__)

TICK_SECONDS = 2.0
TIDY_SECONDS = 900.0
SOON_SECONDS = 0.2
HELD_UP_SECONDS = 0.02
"""A heartbeat or another dispatcher has a row for a few milliseconds."""
STUCK_SECONDS = 15.0

_last_tick: float | None = None


class NotTicking(Exception):
    """The dispatcher has not looked at the queue for too long."""


def assert_ticking() -> None:
    """Raises NotTicking unless the dispatcher of this process has looked at the queue lately."""
    if _last_tick is None or time.monotonic() - _last_tick > STUCK_SECONDS:
        raise NotTicking


def _both_clocks() -> Reading:
    return Reading(wall=time.time(), monotonic=time.monotonic())


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

    def __init__(self, *, on_server_job: Callable[[], None], read: Callable[[], Reading] = _both_clocks) -> None:
        self.on_server_job = on_server_job
        self._read = read
        self._reading = read()
        self._told: Mapping[str, tuple[int, float | None]] = {}
        self._tick_at = self._reading.monotonic

    def seconds_to_tick(self) -> float:
        """How long the bell may stay silent."""
        return max(0.0, self._tick_at - self._read().monotonic)

    async def look(self) -> None:
        """Assign what can be assigned; on a tick take back before what ran out, and look around afterwards."""
        global _last_tick  # noqa: PLW0603  (read by the readiness check)
        is_tick = self.seconds_to_tick() == 0.0
        try:
            if is_tick:
                # Several dispatchers shall not look at the same moment for ever.
                self._tick_at = self._read().monotonic + TICK_SECONDS * random.uniform(0.8, 1.0)  # noqa: S311
                await in_thread(pool.mend)
                await in_thread(housekeeping.expire, jump=self._jump())
            found = await in_thread(assigner.assign_round)
            standings = await in_thread(survey.look_around) if is_tick else None
        except Exception:
            # A locked or absent database passes; a dispatcher that ended would be missed only at the next click.
            log.exception("the dispatcher could not look at the queue")
            return
        _last_tick = time.monotonic()
        for channel_name in found.pokes:
            await wakeups.send(channel_name, wakeups.OFFERS)
        if found.wants_server:
            self.on_server_job()
        if found.was_held_up:
            asyncio.get_running_loop().call_later(HELD_UP_SECONDS, wakeups.bell.ring)
        if standings is not None:
            await self._tell(standings)

    def _jump(self) -> float:
        """By how much the wall clock was set since the last tick; of no interest where leases follow the database's."""
        before, self._reading = self._reading, self._read()
        jump = jump_between(before, self._reading)
        if jump and is_own_clock():
            log.warning("the clock of this machine was set; the leases are put right", seconds=round(jump, 1))
            return jump
        return 0.0

    async def _tell(self, standings: survey.Standings) -> None:
        if standings.is_behind:
            self._tick_at = self._read().monotonic + SOON_SECONDS
        told, self._told = self._told, standings.places
        for job_id, (place, eta) in standings.places.items():
            if told.get(job_id) != (place, eta):
                body = {"stage": None, "progress": 0.0, "eta_seconds": eta, "queue_position": place}
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
        accounts.tidy()
        prune()
    finally:
        connections.close_all()


def _is_alone() -> bool:
    """With the in-memory layer only one process can reach the sockets, so there is only one."""
    layer = get_channel_layer()
    return settings.DATABASES["default"]["ENGINE"].endswith("sqlite3") or type(layer).__name__ == "InMemoryChannelLayer"
