"""What can happen to a job. Time comes in the event: the rules own no clock."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from inference.contract import Stage


class Expiry(StrEnum):
    """Why a lease ends without a word about the job."""

    RAN_OUT = "lease_expired"
    WORKER_RESTARTED = "worker_restarted"
    """The worker said hello and knows nothing of the job, so waiting for the lease would be a waste."""
    WORKER_REVOKED = "worker_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a time."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FencedEvent(Event):
    """Speaks for one attempt; another fence than the newest makes it stale."""

    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent(FencedEvent):
    """Said by a worker; only the one the fence was given to is believed."""

    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased(Event):
    """The assigner gave the job to a worker."""

    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(WorkerEvent):
    """The worker took the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed(WorkerEvent):
    """The worker got on; `fraction` is 0 to 1 of the stage."""

    stage: Stage
    fraction: float
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(WorkerEvent):
    """The worker delivered a mask, and the mask is proven and stored."""

    result_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Faltered(WorkerEvent):
    """The attempt ended, and another one may do better."""

    code: str
    detail: str = ""
    is_declined: bool = False
    """The offer was turned down, so nothing started and the attempt does not count."""
    skip_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(WorkerEvent):
    """The attempt ended, and it is pointless to try again."""

    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseExpired(FencedEvent):
    """Nobody renewed the lease."""

    why: Expiry = Expiry.RAN_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(WorkerEvent):
    """A worker came back and still holds the newest fence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested(Event):
    """A user no longer wants the result."""
