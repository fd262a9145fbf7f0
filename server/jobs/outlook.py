"""A question to the app above: would somebody take this job now? Jobs ask it, dispatch answers it.

The import rules let dispatch know jobs and not the other way round, so dispatch puts its answer in here at start.
"""

from collections.abc import Callable

from server.core.job import WaitingReason
from server.jobs.models import Job

Outlook = Callable[[Job], WaitingReason | None]


def _nobody(job: Job) -> WaitingReason | None:
    return WaitingReason.NO_WORKER


_outlook: Outlook = _nobody


def answer_with(outlook: Outlook) -> None:
    """From now on `outlook` says why a queued job waits."""
    global _outlook  # noqa: PLW0603  (set once, while the apps start)
    _outlook = outlook


def waiting_reason(job: Job) -> WaitingReason | None:
    """Why a job that was queued just now would have to wait; None when somebody is free."""
    return _outlook(job)
