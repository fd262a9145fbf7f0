"""Jobs in every state, and the events that may meet them."""

from datetime import UTC, datetime, timedelta

from inference.contract import Stage
from server.core.events import (
    CancelRequested,
    Event,
    Failed,
    Faltered,
    Finished,
    Leased,
    LeaseExpired,
    Progressed,
    Resumed,
    Started,
)
from server.core.job import Job, State
from server.core.machine import advance
from server.core.policy import Policy

NOON = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
LATE = NOON + timedelta(hours=1)
POLICY = Policy()


def after(job: Job, *events: Event, policy: Policy = POLICY) -> Job:
    """The job once all of these happened."""
    for event in events:
        job, _ = advance(job, event, policy)
    return job


def queued_job() -> Job:
    """A job nobody has touched."""
    return Job(id="job")


def leased_job(worker_id: str = "w1") -> Job:
    """A job offered to a worker, fence 1."""
    return after(queued_job(), Leased(at=NOON, worker_id=worker_id))


def running_job(worker_id: str = "w1") -> Job:
    """A job a worker computes, fence 1."""
    return after(leased_job(worker_id), Started(at=NOON, fence=1, worker_id=worker_id))


def lost_job() -> Job:
    """Queued again after its lease ran out; the newest fence is still with w1."""
    return after(running_job(), LeaseExpired(at=LATE, fence=1))


def job_in(state: State) -> Job:
    """A job in this state whose newest fence, 1, was given to w1."""
    ends: dict[State, tuple[Event, ...]] = {
        State.RUNNING: (),
        State.QUEUED: (LeaseExpired(at=LATE, fence=1),),
        State.SUCCEEDED: (Finished(at=NOON, fence=1, worker_id="w1", result_id="r"),),
        State.FAILED: (Failed(at=NOON, fence=1, worker_id="w1", code="input_invalid"),),
        State.CANCELLED: (CancelRequested(at=NOON),),
    }
    return leased_job() if state is State.LEASED else after(running_job(), *ends[state])


def event_of(kind: type[Event], *, fence: int = 1, worker_id: str = "w1") -> Event:
    """One event of this kind, of an attempt."""
    said = {"at": LATE, "fence": fence, "worker_id": worker_id}
    events: dict[type[Event], Event] = {
        Leased: Leased(at=LATE, worker_id=worker_id),
        Started: Started(**said),
        Progressed: Progressed(**said, stage=Stage.INFERENCE, fraction=0.5),
        Finished: Finished(**said, result_id="r"),
        Faltered: Faltered(**said, code="oom"),
        Failed: Failed(**said, code="input_invalid"),
        LeaseExpired: LeaseExpired(at=LATE, fence=fence),
        Resumed: Resumed(**said),
        CancelRequested: CancelRequested(at=LATE),
    }
    return events[kind]
