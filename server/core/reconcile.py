"""What to say of the jobs a worker lists when it says hello, and of those that it should have listed.

One worker and one server may remember differently after a cut, a restart or a crash; this settles who is right,
so that nothing has to be replayed.

Flow: 3 dispatch
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from server.core.events import Event, Expiry, LeaseExpired, Resumed, Started
from server.core.job import HELD_STATES, Job, State


class Ruling(StrEnum):
    """What the worker has to do with a job it listed."""

    KEEP = "keep"
    REVOKE = "revoke"
    SEND_RESULT = "send_result"
    ALREADY_DONE = "already_done"


@dataclass(frozen=True, slots=True)
class Hold:
    """A worker's claim on a job: the pair that decides whose word counts."""

    job_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The verdict on each listed hold, the events to record, and the stops that need no further telling."""

    verdicts: tuple[tuple[Hold, Ruling], ...]
    events: tuple[tuple[str, Event], ...]


def reconcile(
    jobs: Mapping[str, Job], *, worker_id: str, running: Iterable[Hold], outbox: Iterable[Hold], at: datetime
) -> Settled:
    """Compare what the worker lists with `jobs`: those it lists, as far as they exist, and all that it holds."""
    running, outbox = tuple(running), tuple(outbox)
    verdicts: list[tuple[Hold, Ruling]] = []
    events: list[tuple[str, Event]] = []
    for hold in running:
        job = jobs.get(hold.job_id)
        is_kept = job is not None and _is_newest(job, hold, worker_id) and not job.state.is_final
        verdicts.append((hold, Ruling.KEEP if is_kept else Ruling.REVOKE))
        if job is not None and is_kept:
            events += [(job.id, event) for event in _taken_back(job, worker_id, at)]
    for hold in outbox:
        job = jobs.get(hold.job_id)
        verdicts.append((hold, _outbox_ruling(job, hold, worker_id)))
        if job is not None and verdicts[-1][1] is Ruling.SEND_RESULT:
            events += [(job.id, event) for event in _taken_back(job, worker_id, at)]
    listed = {*running, *outbox}
    for job in jobs.values():
        is_held = job.state in HELD_STATES and job.worker_id == worker_id
        if is_held and Hold(job.id, job.fence) not in listed:
            events.append((job.id, LeaseExpired(at=at, fence=job.fence, why=Expiry.WORKER_RESTARTED)))
    return Settled(tuple(verdicts), tuple(events))


def _is_newest(job: Job, hold: Hold, worker_id: str) -> bool:
    return job.worker_id == worker_id and job.fence == hold.fence


def _outbox_ruling(job: Job | None, hold: Hold, worker_id: str) -> Ruling:
    if job is None or not _is_newest(job, hold, worker_id):
        return Ruling.REVOKE
    return Ruling.ALREADY_DONE if job.state.is_final else Ruling.SEND_RESULT


def _taken_back(job: Job, worker_id: str, at: datetime) -> Iterable[Event]:
    if job.state is State.QUEUED:
        yield Resumed(at=at, fence=job.fence, worker_id=worker_id)
    if job.state is not State.RUNNING:
        yield Started(at=at, fence=job.fence, worker_id=worker_id)
