"""A question to the app above: who would take this job now? Jobs ask it, dispatch answers it.

The import rules let dispatch know jobs and not the other way round, so dispatch puts its answer in here at start.

Flow: 3 dispatch
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.core.job import WaitingReason
from server.jobs.models import Job


@dataclass(frozen=True)
class Lease:
    """What only the row knows of a lease: who it is, in words, and which model was offered."""

    worker_name: str
    run_model: Mapping[str, str] | None


@dataclass(frozen=True)
class Taker:
    """A worker with room. `poke` makes its socket look for the offer once that is committed."""

    worker_id: str
    lease: Lease
    poke: Callable[[], None]


@dataclass(frozen=True)
class Prospect:
    """What a job that is just being queued can expect: somebody who takes it, or why it will wait."""

    reason: WaitingReason | None = None
    taker: Taker | None = None


Outlook = Callable[[Job], Prospect]


def _nobody(job: Job) -> Prospect:
    return Prospect(reason=WaitingReason.NO_WORKER)


_outlook: Outlook = _nobody


def answer_with(outlook: Outlook) -> None:
    """From now on `outlook` says what a job can expect. It is asked inside the transaction that queues the job."""
    global _outlook  # noqa: PLW0603  (set once, while the apps start)
    _outlook = outlook


def prospect_of(job: Job) -> Prospect:
    """What a job that is just being queued can expect."""
    return _outlook(job)
