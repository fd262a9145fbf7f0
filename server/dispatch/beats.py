"""Heartbeats of many workers, stored together.

A thousand idle workers say two hundred times a second that they are alive, and a commit each would fill a core. Those
that hold no job wait up to a quarter of a second for each other and share one transaction of a few statements; a beat
that renews a job's lease is stored at once, on its own.

Flow: 3 dispatch
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import transaction

from server.core.reconcile import Hold
from server.dispatch import selectors
from server.dispatch.models import Worker, WorkerSession
from server.dispatch.sessions import Beat, Pulse, SessionOver
from server.dispatch.threads import in_thread
from server.jobs import services as jobs

GATHER_SECONDS = 0.25
LOAD_STEP = 0.05
"""A smaller change of the load is not worth a statement: it only breaks ties between workers."""


@dataclass(frozen=True)
class IdleBeat:
    """A heartbeat of a worker that holds no job."""

    worker_id: str
    session: int
    pulse: Pulse


class Gathering:
    """The idle beats that wait to be stored, one list an event loop."""

    def __init__(self) -> None:
        self._waiting: WeakKeyDictionary[
            asyncio.AbstractEventLoop, list[tuple[IdleBeat, asyncio.Future[Beat | SessionOver]]]
        ] = WeakKeyDictionary()
        self._storing: set[asyncio.Task[None]] = set()

    async def heard(self, beat: IdleBeat) -> Beat:
        """Store a beat together with those that come at the same time.

        Raises:
            SessionOver: the words of an old session do not count.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Beat | SessionOver] = loop.create_future()
        waiting = self._waiting.setdefault(loop, [])
        waiting.append((beat, answer))
        if len(waiting) == 1:
            storing = loop.create_task(self._store(loop))
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)
        found = await answer
        if isinstance(found, SessionOver):
            raise found
        return found

    async def _store(self, loop: asyncio.AbstractEventLoop) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        waiting = self._waiting.pop(loop)
        try:
            found = await in_thread(idle_beats, [beat for beat, _ in waiting])
        except Exception as error:  # noqa: BLE001  (each conversation that waits decides what a broken database means)
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (beat, answer), one in zip(waiting, found, strict=True):
            if not answer.done():
                answer.set_result(one or SessionOver(beat.worker_id))


gathering = Gathering()


@transaction.atomic
def idle_beats(beats: Sequence[IdleBeat]) -> list[Beat | None]:
    """Renew the sessions of workers that hold no job; None for the words of an old session."""
    at = jobs.now()
    worker_ids = {beat.worker_id for beat in beats}
    # Locked in the order of their ids, workers before sessions, as signing in does it.
    list(Worker.objects.select_for_update().filter(pk__in=worker_ids).order_by("pk").values_list("pk"))
    found = WorkerSession.objects.select_for_update().filter(worker_id__in=worker_ids, closed_at=None)
    rows = {row.worker_id: row for row in found.order_by("worker_id")}
    is_current = [beat.worker_id in rows and rows[beat.worker_id].session == beat.session for beat in beats]
    answers = _renewed([beat for beat, counts in zip(beats, is_current, strict=True) if counts], rows, at=at)
    return [answers[beat.worker_id] if counts else None for beat, counts in zip(beats, is_current, strict=True)]


def _renewed(alive: Sequence[IdleBeat], rows: Mapping[str, WorkerSession], *, at: datetime) -> dict[str, Beat]:
    alive_ids = {beat.worker_id for beat in alive}
    until = at + timedelta(seconds=settings.POLICY.lease_seconds)
    Worker.objects.filter(pk__in=alive_ids).update(last_seen=at)
    WorkerSession.objects.filter(worker_id__in=alive_ids, closed_at=None).update(lease_until=until)
    _note_figures(alive, rows)
    stops: dict[str, list[Hold]] = {}
    for worker_id, hold in selectors.stops_of(alive_ids):
        stops.setdefault(worker_id, []).append(hold)
    snapshots = {snapshot["id"]: snapshot for snapshot in selectors.snapshots_of(alive_ids)}
    return {
        worker_id: Beat(lost=(), stops=tuple(stops.get(worker_id, ())), state=snapshot["state"], snapshot=snapshot)
        for worker_id, snapshot in snapshots.items()
    }


def _note_figures(beats: Sequence[IdleBeat], rows: Mapping[str, WorkerSession]) -> None:
    changed = []
    for beat in beats:
        row, pulse = rows[beat.worker_id], beat.pulse
        gpu = dict(pulse.gpu) if pulse.gpu else None
        is_same = abs(row.load - pulse.load) < LOAD_STEP and row.gpu == gpu
        if is_same and (row.rtt_ms is not None or pulse.rtt_ms is None):
            continue
        row.load, row.gpu = pulse.load, gpu
        row.rtt_ms = pulse.rtt_ms if pulse.rtt_ms is not None else row.rtt_ms
        changed.append(row)
    if changed:
        WorkerSession.objects.bulk_update(changed, ["load", "gpu", "rtt_ms"], batch_size=100)
