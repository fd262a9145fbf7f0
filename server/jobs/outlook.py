"""Two questions to the app above: who would take this job now, and how long does such a job take?

The import rules let dispatch know jobs and not the other way round, so dispatch puts its answer in here at start.

Flow: 3 dispatch
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from server.core.job import WaitingReason
from server.core.scheduler import Demand
from server.imaging.models import Series
from server.jobs.models import Job


@dataclass(frozen=True)
class Lease:
    """What only the row knows of a lease: who it is, in words, which model was offered, and how long it should take."""

    worker_name: str
    run_model: Mapping[str, str] | None
    eta_seconds: float | None = None


@dataclass(frozen=True)
class Taker:
    """A worker with room `at` a time. `tell` hands the offer on once that is committed, for the row as it is then."""

    worker_id: str
    at: datetime
    lease: Lease
    tell: Callable[[Job], None]


@dataclass(frozen=True)
class Prospect:
    """What a job that is just being queued can expect: somebody who takes it, or why it will wait."""

    reason: WaitingReason | None = None
    taker: Taker | None = None


class Outlook(Protocol):
    """Who serves jobs; asked in the caller's transaction."""

    def prospect(self, job: Job, series: Sequence[Series]) -> Prospect:
        """Who takes the job now, which reads `series` (with their artifacts) in the order of its sequences."""

    def reason(self, job: Job) -> WaitingReason:
        """Why the job waits when it is not its turn."""

    def eta(self, demand: str, place: int) -> float | None:
        """Seconds to the end of a job of this kind at this place of the queue; None when nobody knows."""

    def is_declared(self, demand: Demand) -> bool:
        """Whether any worker of the route, here or away, has a model for such a job."""


class Nobody:
    """As long as nobody serves jobs."""

    def prospect(self, job: Job, series: Sequence[Series]) -> Prospect:
        return Prospect(reason=WaitingReason.NO_WORKER)

    def reason(self, job: Job) -> WaitingReason:
        return WaitingReason.NO_WORKER

    def eta(self, demand: str, place: int) -> float | None:
        return None

    def is_declared(self, demand: Demand) -> bool:
        return False


_outlook: Outlook = Nobody()


def answer_with(outlook: Outlook) -> None:
    """From now on `outlook` says what a job can expect."""
    global _outlook  # noqa: PLW0603  (set once, while the apps start)
    _outlook = outlook


def prospect_of(job: Job, series: Sequence[Series]) -> Prospect:
    """What a job that is just being queued, with nobody ahead of it, can expect."""
    return _outlook.prospect(job, series)


def reason_of(job: Job) -> WaitingReason:
    """Why a job that is just being queued behind others waits."""
    return _outlook.reason(job)


def eta_of(demand: str, place: int) -> float | None:
    """Seconds to the end of a queued job at this place (1: next), if anybody can tell."""
    return _outlook.eta(demand, place)


def is_declared(demand: Demand) -> bool:
    """Whether any worker of the route, here or away, has a model for such a job."""
    return _outlook.is_declared(demand)
