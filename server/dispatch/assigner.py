"""Giving queued jobs to workers with room.

Jobs are locked before sessions, and each by its id, by everybody who locks several rows; here a row that somebody else
has locked is passed over, so that two dispatchers never wait for each other and never give the same thing out twice.

Flow: 3 dispatch
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from server.core.events import Leased
from server.core.job import Route, State, WaitingReason
from server.core.machine import Refused
from server.core.scheduler import Assignment, Demand, Waiting, assign, waiting_reason
from server.dispatch import candidates, forecast, selectors, wakeups
from server.dispatch.candidates import Connected
from server.imaging.models import Series
from server.jobs import lines, rows, services
from server.jobs.models import Job, Rank
from server.jobs.outlook import Prospect, Taker

LOOK_AHEAD = 20
"""How many jobs of each user's line one round looks at beyond the free places, where nobody may take the first yet."""


@dataclass(frozen=True)
class Round:
    """What one look at the queue came to: sockets to poke, and whether the server's own worker is wanted.

    `was_held_up`: somebody had a row of a job or worker that fitted; they have it for a moment only.
    """

    pokes: tuple[str, ...] = ()
    wants_server: bool = False
    was_held_up: bool = False


def assign_round() -> Round:
    """Give out what can be given out. Every claim is a conditional update of one row, all in one transaction."""
    demands = lines.demands()
    if not demands:
        return Round()
    wants_server = any(demand.route is Route.SERVER for demand in demands.values())
    with transaction.atomic():
        given, was_held_up = _assigned(demands, services.now())
    pokes = tuple({worker.channel_name for worker in given})
    return Round(pokes=pokes, wants_server=wants_server, was_held_up=was_held_up)


class Outlook:
    """What jobs ask of whoever serves them (jobs.outlook)."""

    def prospect(self, job: Job, series: Sequence[Series]) -> Prospect:
        """What a job that is just being queued, with nobody ahead of it, can expect."""
        at = services.now()
        wish = rows.waiting_of(job)
        for worker in _by_choice(wish, candidates.with_room(at, route=wish.demand.route), at):
            held = _held(worker, at)
            if held is not None:
                lease = candidates.lease_for(wish.demand, held)
                return Prospect(taker=Taker(held.worker_id, at, lease, tell=_hand_over(held.channel_name, series)))
        return Prospect(reason=self.reason(job))

    def reason(self, job: Job) -> WaitingReason:
        """Why a job waits that nobody takes now."""
        present = candidates.present(services.now())
        return waiting_reason(rows.demand_of(job.demand), [worker.seen for worker in present])

    def eta(self, demand: str, place: int) -> float | None:
        """Seconds to the end of a job of this kind at this place of the queue."""
        return forecast.eta(demand, place)

    def is_declared(self, demand: Demand) -> bool:
        """Whether any worker of the route, here or away, has a model for such a job."""
        return selectors.is_declared(demand)


def _assigned(demands: dict[str, Demand], at: datetime) -> tuple[list[Connected], bool]:
    workers = candidates.with_room(at)
    wishes, chosen = _chosen(demands, workers, at)
    if not chosen:
        return [], False
    queue = _locked_jobs(one.job_id for one in chosen)
    held = candidates.held_still({one.worker_id for one in chosen}, at=at)
    room = {worker_id: worker.seen.free for worker_id, worker in held.items()}
    given: list[Connected] = []
    for one in chosen:
        worker = held.get(one.worker_id)
        if worker is None or one.job_id not in queue or room[one.worker_id] <= 0:
            continue
        if _claim(queue[one.job_id], wishes[one.job_id].demand, worker, at):
            room[one.worker_id] -= 1
            given.append(worker)
    return given, len(given) < len(chosen)


def _chosen(
    demands: dict[str, Demand], workers: list[Connected], at: datetime
) -> tuple[dict[str, Waiting], list[Assignment]]:
    """Who is to get what. Of each line no more is read than there are places, unless nobody may take the first."""
    words = [word for word, demand in demands.items() if candidates.is_served(demand, workers)]
    places = sum(worker.seen.free for worker in workers)
    chosen: list[Assignment] = []
    wishes: dict[str, Waiting] = {}
    for each in (places, places + LOOK_AHEAD) if words else ():
        wishes = {}
        for rank in Rank.values:
            wishes |= {row.id: rows.waiting_of(row) for row in lines.heads(words, rank=rank, each=each)}
            used = lines.used_by({wish.user_id for wish in wishes.values()}, at=at)
            chosen = assign(wishes.values(), [worker.seen for worker in workers], at=at, used=used)
            if len(chosen) == places:
                return wishes, chosen
    return wishes, chosen


def _locked_jobs(job_ids: Iterable[str]) -> dict[str, Job]:
    queued = Job.objects.filter(pk__in=list(job_ids), state=State.QUEUED).order_by("pk")
    # SQLite takes the whole database by BEGIN IMMEDIATE and would ignore the clause without a word.
    if connection.features.has_select_for_update_skip_locked:
        queued = queued.select_for_update(skip_locked=True)
    return {row.id: row for row in queued}


def _claim(row: Job, demand: Demand, worker: Connected, at: datetime) -> bool:
    try:
        lease = candidates.lease_for(demand, worker)
        services.record_on(row, Leased(at=at, worker_id=worker.worker_id), lease=lease)
    except (Refused, services.RowMoved):
        return False
    return True


def _by_choice(wish: Waiting, workers: Iterable[Connected], at: datetime) -> Iterable[Connected]:
    """The workers that may take the job, the best first; the next one when somebody else is giving to the first."""
    left = {worker.worker_id: worker for worker in workers}
    while taken := assign([wish], [worker.seen for worker in left.values()], at=at):
        yield left.pop(taken[0].worker_id)


def _held(worker: Connected, at: datetime) -> Connected | None:
    if not connection.features.has_select_for_update_skip_locked:
        return worker
    held = candidates.held_still([worker.worker_id], at=at).get(worker.worker_id)
    return held if held is not None and held.seen.free > 0 else None


def _hand_over(channel_name: str, series: Sequence[Series]) -> Callable[[Job], None]:
    """What is done after the commit: the offer goes to a socket of this process itself, to one of another by a poke."""

    def tell(row: Job) -> None:
        wakeups.hand_over(channel_name, selectors.offer_of(row, {one.pk: one.artifact for one in series}))

    return tell
