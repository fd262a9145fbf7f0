"""What a segmentation job is.

Flow: 2 job
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from inference.contract import Stage


class State(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in OPEN_STATES


OPEN_STATES = frozenset({State.QUEUED, State.LEASED, State.RUNNING})
HELD_STATES = frozenset({State.LEASED, State.RUNNING})


class Route(StrEnum):
    """Who computes: a lab worker, or the server's own child."""

    LAB = "lab"
    SERVER = "server"


class Priority(StrEnum):
    """How soon a job is wanted; the queue is first come, first served within each."""

    URGENT = "urgent"
    ROUTINE = "routine"
    BATCH = "batch"


class WaitingReason(StrEnum):
    """Why a queued job waits."""

    NO_WORKER = "no_worker"
    ALL_BUSY = "all_busy"
    MODEL_MISSING = "model_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why one attempt ended without a result; for operators, never for patients' screens."""

    at: datetime
    attempt: int
    worker_id: str
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoidance:
    """A worker that is not to be offered this job before a time."""

    worker_id: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One segmentation as the rules see it.

    `worker_id` is whom the newest `fence` was given to; it stays when the lease is gone, since the holder of the
    newest fence may still deliver. `started_fence` is the last fence known to have started, so that an attempt that
    lost its lease and got it back counts once.
    """

    id: str
    state: State = State.QUEUED
    route: Route = Route.LAB
    fence: int = 0
    started_fence: int = 0
    attempt: int = 0
    worker_id: str | None = None
    lease_until: datetime | None = None
    stage: Stage | None = None
    progress: float = 0.0
    eta_seconds: float | None = None
    waiting_reason: WaitingReason | None = None
    is_stop_pending: bool = False
    result_id: str | None = None
    error_code: str | None = None
    causes: tuple[Cause, ...] = ()
    avoid: tuple[Avoidance, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def has_started(self) -> bool:
        """Whether the attempt with the newest fence is known to have started."""
        return self.fence > 0 and self.started_fence == self.fence
