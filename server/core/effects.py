"""What the shell has to do once a change is stored, or together with it."""

from dataclasses import dataclass
from enum import StrEnum


class Change(StrEnum):
    """The kinds of durable events in a job's log."""

    QUEUED = "queued"
    WAITING = "waiting"
    LEASED = "leased"
    STARTED = "started"
    STAGE = "stage"
    REQUEUED = "requeued"
    RESUMED = "resumed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Append:
    """Write one event into the job's log, in the same transaction as the change."""

    change: Change


@dataclass(frozen=True, slots=True)
class Show:
    """Tell viewers the newest progress; it may be lost."""


@dataclass(frozen=True, slots=True)
class Seek:
    """Look for a worker for the job now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell a worker to stop the attempt with this fence, again and again until it confirms."""

    worker_id: str
    fence: int


Effect = Append | Show | Seek | Stop
