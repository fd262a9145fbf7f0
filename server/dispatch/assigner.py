"""Giving queued jobs to workers with room.

Jobs are locked before sessions, and each by its id, by everybody who locks several rows; here a row that somebody else
has locked is passed over, so that two dispatchers never wait for each other and never give the same thing out twice.

Flow: 3 dispatch
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import connection, transaction

from server.core.events import Leased
from server.core.job import Route, State, WaitingReason
from server.core.machine import Refused
from server.core.scheduler import Assignment, Candidate, Demand, Waiting, assign, waiting_reason
from server.dispatch import candidates, forecast, selectors, wakeups
from server.dispatch.models import WorkerSession
from server.imaging.models import Series
from server.jobs import lines, rows, services
from server.jobs.models import Job
from server.jobs.outlook import Prospect, Taker

LOOK_AHEAD = 20
"""How many jobs of each user's line one round looks at beyond the free places, for those that nobody may take yet."""


@dataclass(frozen=True)
class Round:
    """What one look at the queue came to: sockets to poke, and whether the server's own worker is wanted."""

    pokes: tuple[str, ...] = ()
    wants_server: bool = False


def assign_round() -> Round:
    """Give out what can be given out. Every claim is a conditional update of one row, all in one transaction."""
    demands = lines.demands()
    if not demands:
        return Round()
    wants_server = any(demand.route is Route.SERVER for demand in demands.values())
    with transaction.atomic():
        given = _assigned(demands, services.now())
    return Round(pokes=tuple({session.channel_name for session in given}), wants_server=wants_server)


class Outlook:
    """What jobs ask of whoever serves them (jobs.outlook)."""

    def prospect(self, job: Job, series: Sequence[Series]) -> Prospect:
        """What a job that is just being queued, with nobody ahead of it, can expect."""
        at = services.now()
        wish = rows.waiting_of(job)
        sessions = candidates.with_room(at, route=wish.demand.route)
        for worker_id in _by_choice(wish, sessions.values(), at):
            session = _held(sessions[worker_id], at)
            if session is not None:
                tell = partial(_hand_over, session.channel_name, tuple(series))
                lease = candidates.lease_for(wish.demand, session)
                return Prospect(taker=Taker(worker_id=worker_id, lease=lease, tell=tell))
        return Prospect(reason=self.reason(job))

    def reason(self, job: Job) -> WaitingReason:
        """Why a job waits that nobody takes now."""
        workers = [candidates.candidate_of(session) for session in candidates.present(services.now())]
        return waiting_reason(rows.demand_of(job.demand), workers)

    def eta(self, demand: str, place: int) -> float | None:
        """Seconds to the end of a job of this kind at this place of the queue."""
        return forecast.eta(demand, place)


def _assigned(demands: dict[str, Demand], at: datetime) -> list[WorkerSession]:
    workers = [candidates.candidate_of(session) for session in candidates.with_room(at).values()]
    wishes = _wishes(demands, workers)
    used = lines.used_by((wish.user_id for wish in wishes.values()), at=at)
    chosen = assign(wishes.values(), workers, at=at, used=used)
    queue = _locked_jobs(one.job_id for one in chosen)
    sessions = candidates.held_still({one.worker_id for one in chosen}, at=at) if chosen else {}
    given: list[WorkerSession] = []
    for one in chosen:
        session = sessions.get(one.worker_id)
        if session is None or one.job_id not in queue or session.credits <= session.unanswered:
            continue
        if _claim(queue[one.job_id], one, wishes[one.job_id].demand, session, at):
            session.unanswered += 1
            given.append(session)
    return given


def _wishes(demands: dict[str, Demand], workers: list[Candidate]) -> dict[str, Waiting]:
    """The heads of the lines that any of these workers could serve."""
    words = [word for word, demand in demands.items() if candidates.able(workers, demand)]
    places = sum(worker.free for worker in workers)
    return {row.id: rows.waiting_of(row) for row in lines.heads(words, each=places + LOOK_AHEAD)}


def _locked_jobs(job_ids: Iterable[str]) -> dict[str, Job]:
    queued = Job.objects.filter(pk__in=list(job_ids), state=State.QUEUED).order_by("pk")
    # SQLite takes the whole database by BEGIN IMMEDIATE and would ignore the clause without a word.
    if connection.features.has_select_for_update_skip_locked:
        queued = queued.select_for_update(skip_locked=True)
    return {row.id: row for row in queued}


def _claim(row: Job, one: Assignment, demand: Demand, session: WorkerSession, at: datetime) -> bool:
    try:
        lease = candidates.lease_for(demand, session)
        services.record_on(row, Leased(at=at, worker_id=one.worker_id), lease=lease)
    except (Refused, services.RowMoved):
        return False
    return True


def _by_choice(wish: Waiting, sessions: Iterable[WorkerSession], at: datetime) -> Iterable[str]:
    """The workers that may take the job, the best first; the next one when somebody else is giving to the first."""
    left = [candidates.candidate_of(session) for session in sessions]
    while taken := assign([wish], left, at=at):
        yield taken[0].worker_id
        left = [worker for worker in left if worker.worker_id != taken[0].worker_id]


def _held(session: WorkerSession, at: datetime) -> WorkerSession | None:
    if not connection.features.has_select_for_update_skip_locked:
        return session
    return candidates.held_still([session.worker_id], at=at).get(session.worker_id)


def _hand_over(channel_name: str, series: Sequence[Series], row: Job) -> None:
    """After the commit: the offer itself to a socket of this process, a poke to one of another."""
    wakeups.hand_over(channel_name, selectors.offer_of(row, {one.pk: one.artifact for one in series}))
