"""Giving queued jobs to workers with room, and saying why the others wait.

Flow: 3 dispatch
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from django.db import connection, transaction

from server.core.events import Leased
from server.core.job import Route, State, WaitingReason
from server.core.machine import Refused
from server.core.scheduler import Assignment, Candidate, Waiting, assign, model_for, waiting_reason
from server.dispatch import selectors
from server.dispatch.models import Worker, WorkerSession
from server.jobs import rows, services
from server.jobs.models import Job

LOOK_AT = 500
"""How far down the queue one round looks; the rest has nobody free anyway."""


@dataclass(frozen=True)
class Round:
    """What one look at the queue came to: sockets to poke, places in the queue, whether the server's own is wanted."""

    pokes: tuple[str, ...] = ()
    positions: Mapping[str, int] = field(default_factory=dict)
    wants_server: bool = False


def assign_round() -> Round:
    """Give out what can be given out. Every claim is a conditional update of one row, all in one transaction."""
    if not Job.objects.filter(state=State.QUEUED).exists():
        return Round()
    with transaction.atomic():
        queue = _queue()
        at = services.now()
        sessions = {session.worker_id: session for session in _sessions(at)}
        workers = selectors.candidates(at, sessions=sessions.values())
        wishes = {row.id: rows.waiting_of(row) for row in queue}
        given = [one for one in assign(wishes.values(), workers, at=at) if _claim(one, wishes, workers, sessions, at)]
        taken = {one.job_id for one in given}
        left = [row for row in queue if row.id not in taken]
        room = _less(workers, given)
        for row in left:
            reason = waiting_reason(wishes[row.id], room, at=at)
            if row.waiting_reason != reason:
                services.note_waiting(row.id, reason)
    return Round(
        pokes=tuple({sessions[one.worker_id].channel_name for one in given}),
        positions=_positions(left),
        wants_server=any(row.route == Route.SERVER for row in queue),
    )


def outlook(job: Job) -> WaitingReason | None:
    """Why a job that is just being queued will have to wait; None when somebody is free."""
    at = services.now()
    return waiting_reason(rows.waiting_of(job), selectors.candidates(at), at=at)


def _queue() -> list[Job]:
    queued = Job.objects.filter(state=State.QUEUED).order_by("rank", "created_at", "id")
    # SQLite takes the whole database by BEGIN IMMEDIATE and would ignore the clause without a word.
    if connection.features.has_select_for_update_skip_locked:
        queued = queued.select_for_update(skip_locked=True)
    return list(queued[:LOOK_AT])


def _sessions(at: datetime) -> list[WorkerSession]:
    alive = selectors.alive_sessions(at).filter(worker__state=Worker.State.ACTIVE).select_related("worker")
    if connection.features.has_select_for_update_skip_locked:
        alive = alive.select_for_update(skip_locked=True, of=("self",))
    return list(alive)


def _claim(
    one: Assignment,
    wishes: Mapping[str, Waiting],
    workers: Sequence[Candidate],
    sessions: Mapping[str, WorkerSession],
    at: datetime,
) -> bool:
    wish = wishes[one.job_id]
    worker = next(worker for worker in workers if worker.worker_id == one.worker_id)
    model = model_for(wish.model_name, wish.model_version, worker.models)
    lease = services.Lease(worker_name=sessions[one.worker_id].worker.name, run_model=asdict(model) if model else None)
    try:
        services.record(one.job_id, Leased(at=at, worker_id=one.worker_id), lease=lease)
    except (Refused, services.RowMoved):
        return False
    return True


def _less(workers: Sequence[Candidate], given: Sequence[Assignment]) -> list[Candidate]:
    taken = Counter(one.worker_id for one in given)
    return [replace(worker, free=worker.free - taken[worker.worker_id]) for worker in workers]


def _positions(left: Sequence[Job]) -> dict[str, int]:
    found: dict[str, int] = {}
    for route in Route:
        found |= {row.id: place for place, row in enumerate((row for row in left if row.route == route), start=1)}
    return found
