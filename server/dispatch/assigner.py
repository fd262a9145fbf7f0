"""Giving queued jobs to workers with room, and saying why the others wait.

Flow: 3 dispatch
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial

from django.db import connection, transaction

from server.core.events import Leased
from server.core.job import Route, State
from server.core.machine import Refused
from server.core.scheduler import Assignment, Candidate, Waiting, assign, model_for, waiting_reason
from server.dispatch import selectors, wakeups
from server.dispatch.models import Worker, WorkerSession
from server.jobs import rows, services
from server.jobs.models import Job
from server.jobs.outlook import Lease, Prospect, Taker
from server.topics.pokes import aside

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
    with transaction.atomic():
        queue = {row.id: row for row in _queue()}
        at = services.now()
        sessions = {session.worker_id: session for session in _sessions(at)}
        workers = selectors.candidates(at, sessions=sessions.values())
        wishes = {row.id: rows.waiting_of(row) for row in queue.values()}
        given = [
            one
            for one in assign(wishes.values(), workers, at=at)
            if _claim(queue[one.job_id], wishes[one.job_id], sessions[one.worker_id], at)
        ]
        for one in given:
            del queue[one.job_id]
        room = _less(workers, given)
        for row in queue.values():
            reason = waiting_reason(wishes[row.id], room, at=at)
            if row.waiting_reason != reason:
                services.note_waiting(row.id, reason)
    return Round(
        pokes=tuple({sessions[one.worker_id].channel_name for one in given}),
        positions=_positions(list(queue.values())),
        wants_server=any(wish.route is Route.SERVER for wish in wishes.values()),
    )


def outlook(job: Job) -> Prospect:
    """What a job that is just being queued can expect; in the transaction that queues it."""
    at = services.now()
    wish = rows.waiting_of(job)
    sessions = {session.worker_id: session for session in _sessions(at)}
    workers = selectors.candidates(at, sessions=sessions.values())
    taken = assign([wish], workers, at=at)
    if not taken:
        return Prospect(reason=waiting_reason(wish, workers, at=at))
    session = sessions[taken[0].worker_id]
    poke = partial(aside, wakeups.send, session.channel_name, wakeups.OFFERS)
    return Prospect(taker=Taker(worker_id=session.worker_id, lease=_lease(wish, session), poke=poke))


def _queue() -> list[Job]:
    queued = Job.objects.filter(state=State.QUEUED).order_by("rank", "created_at", "id")
    # SQLite takes the whole database by BEGIN IMMEDIATE and would ignore the clause without a word.
    if connection.features.has_select_for_update_skip_locked:
        queued = queued.select_for_update(skip_locked=True)
    return list(queued[:LOOK_AT])


def _sessions(at: datetime) -> list[WorkerSession]:
    alive = selectors.alive_sessions(at).filter(worker__state=Worker.State.ACTIVE).select_related("worker")
    alive = alive.only(*selectors.CANDIDATE_FIELDS, "channel_name", "worker__name")
    if connection.features.has_select_for_update_skip_locked:
        alive = alive.select_for_update(skip_locked=True, of=("self",))
    return list(alive)


def _claim(row: Job, wish: Waiting, session: WorkerSession, at: datetime) -> bool:
    try:
        services.record_on(row, Leased(at=at, worker_id=session.worker_id), lease=_lease(wish, session))
    except (Refused, services.RowMoved):
        return False
    return True


def _lease(wish: Waiting, session: WorkerSession) -> Lease:
    model = model_for(wish.model_name, wish.model_version, selectors.models_of(session))
    return Lease(worker_name=session.worker.name, run_model=asdict(model) if model else None)


def _less(workers: Sequence[Candidate], given: Sequence[Assignment]) -> list[Candidate]:
    taken = Counter(one.worker_id for one in given)
    return [replace(worker, free=worker.free - taken[worker.worker_id]) for worker in workers]


def _positions(left: Sequence[Job]) -> dict[str, int]:
    found: dict[str, int] = {}
    for route in Route:
        found |= {row.id: place for place, row in enumerate((row for row in left if row.route == route), start=1)}
    return found
