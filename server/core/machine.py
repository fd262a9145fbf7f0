"""The life of a job, as one table.

`advance` is the only way a job changes. It refuses what the table refuses, and what an old fence says:

    Refused             the event does not fit the job as it is
    ├── StaleLease      a worker speaks for an attempt that no longer counts, or for a lease it no longer has
    └── LeaseStillHeld  the lease was renewed after somebody saw it run out

Flow: 2 job
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from server.core.effects import Append, Change, Effect, Seek, Show, Stop
from server.core.events import (
    CancelRequested,
    Event,
    Expiry,
    Failed,
    Faltered,
    FencedEvent,
    Finished,
    Leased,
    LeaseExpired,
    Progressed,
    Resumed,
    Started,
    WorkerEvent,
)
from server.core.job import HELD_STATES, Avoidance, Cause, Job, State
from server.core.policy import Policy
from server.core.progress import is_before, overall

Effects = tuple[Effect, ...]
Step = Callable[[Job, Any, Policy], tuple[Job, Effects]]


class Refused(Exception):
    """The event does not fit the job as it is; nothing changes."""

    def __init__(self, job: Job, event: Event) -> None:
        self.job = job
        self.event = event
        super().__init__(f"{type(event).__name__} is refused: job {job.id} is {job.state}, fence {job.fence}")


class StaleLease(Refused):
    """Said for an attempt that no longer counts."""


class LeaseStillHeld(Refused):
    """The lease has not run out."""


def advance(job: Job, event: Event, policy: Policy) -> tuple[Job, Effects]:
    """The job after `event`, and what has to be done about it.

    Raises:
        Refused: and its subclasses; the job stays as it is.
    """
    if isinstance(event, FencedEvent) and not _is_of_newest_fence(job, event):
        raise StaleLease(job, event)
    return TRANSITIONS[job.state][type(event)](job, event, policy)


def _is_of_newest_fence(job: Job, event: FencedEvent) -> bool:
    is_holder = not isinstance(event, WorkerEvent) or event.worker_id == job.worker_id
    return job.fence > 0 and event.fence == job.fence and is_holder


# ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _refuse(job: Job, event: Event, policy: Policy) -> tuple[Job, Effects]:
    raise StaleLease(job, event) if isinstance(event, FencedEvent) else Refused(job, event)


def _keep(job: Job, event: Event, policy: Policy) -> tuple[Job, Effects]:
    return job, ()


def _lease(job: Job, event: Leased, policy: Policy) -> tuple[Job, Effects]:
    leased = replace(
        job,
        state=State.LEASED,
        fence=job.fence + 1,
        worker_id=event.worker_id,
        lease_until=event.at + timedelta(seconds=policy.offer_seconds),
        waiting_reason=None,
        stage=None,
        progress=0.0,
        eta_seconds=None,
    )
    return leased, (Append(Change.LEASED),)


def _start(job: Job, event: WorkerEvent, policy: Policy) -> tuple[Job, Effects]:
    begun = _begun(job, event)
    running = replace(begun, state=State.RUNNING, lease_until=event.at + timedelta(seconds=policy.lease_seconds))
    return running, (Append(Change.STARTED),)


def _progress(job: Job, event: Progressed, policy: Policy) -> tuple[Job, Effects]:
    held = replace(job, lease_until=event.at + timedelta(seconds=policy.lease_seconds))
    # Reports may overtake each other on a reconnect; never run backwards.
    if job.stage is not None and is_before(event.stage, job.stage):
        return held, ()
    whole = max(job.progress, overall(event.stage, event.fraction))
    moved = replace(held, stage=event.stage, progress=whole, eta_seconds=event.eta_seconds)
    return moved, (Show() if event.stage is job.stage else Append(Change.STAGE),)


def _succeed(job: Job, event: Finished, policy: Policy) -> tuple[Job, Effects]:
    done = _closed(_begun(job, event), event, State.SUCCEEDED)
    done = replace(done, progress=1.0, eta_seconds=0.0, result_id=event.result_id)
    return done, (Append(Change.SUCCEEDED),)


def _falter(job: Job, event: Faltered, policy: Policy) -> tuple[Job, Effects]:
    tried = job if event.is_declined else _begun(job, event)
    backoff = 0.0 if event.is_declined else policy.retry_seconds * 2.0 ** (tried.attempt - 1)
    skip = timedelta(seconds=max(event.skip_seconds, backoff))
    return _requeue(tried, event, policy, code=event.code, detail=event.detail, skip=skip)


def _expire(job: Job, event: LeaseExpired, policy: Policy) -> tuple[Job, Effects]:
    if event.why is Expiry.RAN_OUT and job.lease_until is not None and event.at < job.lease_until:
        raise LeaseStillHeld(job, event)
    is_unanswered = event.why is Expiry.RAN_OUT and not job.has_started
    skip = timedelta(seconds=policy.unanswered_skip_seconds if is_unanswered else 0.0)
    code = "offer_unanswered" if is_unanswered else str(event.why)
    return _requeue(job, event, policy, code=code, detail="", skip=skip)


def _fail(job: Job, event: Failed, policy: Policy) -> tuple[Job, Effects]:
    tried = _begun(job, event)
    failed = _closed(_blamed(tried, event, event.code, event.detail), event, State.FAILED)
    return replace(failed, error_code=event.code), (Append(Change.FAILED),)


def _resume(job: Job, event: Resumed, policy: Policy) -> tuple[Job, Effects]:
    until = event.at + timedelta(seconds=policy.lease_seconds)
    return replace(job, state=State.LEASED, lease_until=until, waiting_reason=None), (Append(Change.RESUMED),)


def _cancel(job: Job, event: CancelRequested, policy: Policy) -> tuple[Job, Effects]:
    cancelled = _closed(job, event, State.CANCELLED)
    if job.state not in HELD_STATES or job.worker_id is None:
        return cancelled, (Append(Change.CANCELLED),)
    stop = Stop(worker_id=job.worker_id, fence=job.fence)
    return replace(cancelled, is_stop_pending=True), (Append(Change.CANCELLED), stop)


TRANSITIONS: Mapping[State, Mapping[type[Event], Step]] = {
    State.QUEUED: {
        Leased: _lease,
        Started: _refuse,
        Progressed: _refuse,
        Finished: _succeed,
        Faltered: _refuse,
        Failed: _refuse,
        LeaseExpired: _refuse,
        Resumed: _resume,
        CancelRequested: _cancel,
    },
    State.LEASED: {
        Leased: _refuse,
        Started: _start,
        Progressed: _refuse,
        Finished: _succeed,
        Faltered: _falter,
        Failed: _fail,
        LeaseExpired: _expire,
        Resumed: _keep,
        CancelRequested: _cancel,
    },
    State.RUNNING: {
        Leased: _refuse,
        Started: _keep,
        Progressed: _progress,
        Finished: _succeed,
        Faltered: _falter,
        Failed: _fail,
        LeaseExpired: _expire,
        Resumed: _keep,
        CancelRequested: _cancel,
    },
    **{
        final: {
            Leased: _refuse,
            Started: _keep,
            Progressed: _keep,
            Finished: _keep,
            Faltered: _keep,
            Failed: _keep,
            LeaseExpired: _refuse,
            Resumed: _keep,
            CancelRequested: _keep,
        }
        for final in (State.SUCCEEDED, State.FAILED, State.CANCELLED)
    },
}


# ── what several steps do ───────────────────────────────────────────────────────────────────────────────────────


def _begun(job: Job, event: WorkerEvent) -> Job:
    """The attempt counts from now on, once, however often its start is heard of."""
    if job.has_started:
        return job
    started_at = job.started_at or event.at
    return replace(job, started_fence=job.fence, attempt=job.attempt + 1, started_at=started_at)


def _blamed(job: Job, event: FencedEvent, code: str, detail: str) -> Job:
    cause = Cause(at=event.at, attempt=job.attempt, worker_id=job.worker_id or "", code=code, detail=detail)
    return replace(job, causes=(*job.causes, cause))


def _closed(job: Job, event: Event, state: State) -> Job:
    return replace(
        job, state=state, lease_until=None, finished_at=event.at, waiting_reason=None, eta_seconds=None, avoid=()
    )


def _requeue(
    job: Job, event: FencedEvent, policy: Policy, *, code: str, detail: str, skip: timedelta
) -> tuple[Job, Effects]:
    is_counted = job.has_started
    blamed = _blamed(job, event, code, detail)
    if is_counted and job.attempt >= policy.max_attempts:
        failed = _closed(blamed, event, State.FAILED)
        return replace(failed, error_code="attempts_exhausted"), (Append(Change.FAILED),)
    avoid = tuple(one for one in blamed.avoid if one.until > event.at and one.worker_id != job.worker_id)
    if skip and job.worker_id:
        avoid = (*avoid, Avoidance(worker_id=job.worker_id, until=event.at + skip))
    queued = replace(blamed, state=State.QUEUED, lease_until=None, eta_seconds=None, avoid=avoid)
    return queued, (Append(Change.REQUEUED), Seek())
