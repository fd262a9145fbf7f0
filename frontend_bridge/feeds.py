"""What can be followed: for each kind of topic who may, what it is now, and what has changed since.

Every function here reads the database and blocks; conversations call them through a thread.

Flow: 9 browser
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from frontend_bridge import messages as m
from frontend_bridge import relay
from server.core.errors import NotAllowed, NotFound, Problem
from server.dispatch.selectors import worker_snapshots
from server.imaging import storage
from server.imaging.selectors import mask_of, study_for
from server.jobs import selectors as jobs
from server.topics import selectors as topics

Snapshot = m.JobView | m.StudyView | m.WorkersView
Change = m.JobEvent | m.StudyEvent | m.WorkerEvent
Position = tuple[str, int]
WORKERS = "workers"
SHOWN_JOBS = 50


@dataclass(frozen=True)
class Opening:
    """A topic at one moment: where its log stands, and what it is there."""

    epoch: str
    seq: int
    snapshot: Snapshot


@dataclass(frozen=True)
class MaskFile:
    """A finished mask: the bytes of its gzip NIfTI file and their sha256 (hex)."""

    content: bytes
    sha256: str


@dataclass(frozen=True)
class Feed:
    """One kind of topic. `key` is what stands behind the colon of the topic's name."""

    admit: Callable[[Any, str], None]
    open: Callable[[Any, str], Opening]
    since: Callable[[str, int, int], list[Change]]


def admit(user: Any, topic: str) -> None:
    """Let `user` follow `topic`, or say no.

    Raises:
        Problem: there is no such topic, or not for this user; the two look the same from outside.
    """
    feed, key = _feed_of(topic)
    feed.admit(user, key)


def opening(user: Any, topic: str) -> Opening:
    """The topic as it is now for a user who was admitted, read in one transaction: position first, then state."""
    feed, key = _feed_of(topic)
    with transaction.atomic():
        return feed.open(user, key)


def since(topic: str, seq: int, limit: int) -> list[Change]:
    """The first `limit` durable changes after `seq`, in order."""
    feed, key = _feed_of(topic)
    return feed.since(key, seq, limit)


def positions(names: Iterable[str]) -> dict[str, Position]:
    """Epoch and newest seq of many topics: one query for all jobs, one for all others. Unknown ones are left out."""
    wanted = list(names)
    job_ids = [name.partition(":")[2] for name in wanted if name.startswith("job:")]
    others = [name for name in wanted if not name.startswith("job:")]
    found = {f"job:{job_id}": position for job_id, position in jobs.positions(job_ids).items()} if job_ids else {}
    return found | (topics.positions(others) if others else {})


def mask_file(job_id: str) -> MaskFile | None:
    """The mask of a finished job, or None when it is too large to be pushed, damaged or not there.

    The URL serves the large one, and says what is wrong with the others.
    """
    mask = mask_of(job_id)
    if mask is None or mask.size > settings.LIMITS.mask_push_bytes:
        return None
    try:
        return MaskFile(content=storage.read(mask.nii_path, sha256=mask.sha256), sha256=mask.sha256)
    except Problem:
        return None


def _feed_of(topic: str) -> tuple[Feed, str]:
    kind, _, key = topic.partition(":")
    feed = FEEDS.get(kind)
    if feed is None or bool(key) == (kind == WORKERS):
        raise NotFound("There is no such topic.")
    return feed, key


def _admit_to_job(user: Any, job_id: str) -> None:
    jobs.job_for(user, job_id)


def _open_job(_: Any, job_id: str) -> Opening:
    epoch, seq, snapshot = jobs.position_and_snapshot(job_id)
    return Opening(epoch=epoch, seq=seq, snapshot=relay.job_view(snapshot))


def _job_since(job_id: str, seq: int, limit: int) -> list[Change]:
    return [
        relay.job_event(f"job:{job_id}", seq=event.seq, kind=event.kind, snapshot=event.payload)
        for event in jobs.events_since(job_id, seq, limit=limit)
    ]


def _admit_to_study(user: Any, study_id: str) -> None:
    study_for(user, study_id)


def _open_study(user: Any, study_id: str) -> Opening:
    epoch, seq = topics.position(f"study:{study_id}")
    found = jobs.snapshots(jobs.jobs_of_study(user, study_id)[:SHOWN_JOBS])
    return Opening(epoch=epoch, seq=seq, snapshot=relay.study_view(study_id, found))


def _study_since(study_id: str, seq: int, limit: int) -> list[Change]:
    topic = f"study:{study_id}"
    return [
        relay.study_event(topic, seq=event.seq, kind=event.kind, payload=event.payload)
        for event in topics.events_since(topic, seq, limit=limit)
    ]


def _admit_to_workers(user: Any, _: str) -> None:
    if not user.is_staff:
        raise NotAllowed("Only staff may watch the workers.")


def _open_workers(_: Any, __: str) -> Opening:
    epoch, seq = topics.position(WORKERS)
    return Opening(epoch=epoch, seq=seq, snapshot=relay.workers_view(worker_snapshots()))


def _workers_since(_: str, seq: int, limit: int) -> list[Change]:
    changes = topics.events_since(WORKERS, seq, limit=limit)
    now = {worker["id"]: worker for worker in worker_snapshots()} if changes else {}
    return [
        relay.worker_event(
            WORKERS, seq=change.seq, kind=change.kind, worker=now.get(str(change.payload.get("worker", "")))
        )
        for change in changes
    ]


FEEDS: Mapping[str, Feed] = {
    "job": Feed(admit=_admit_to_job, open=_open_job, since=_job_since),
    "study": Feed(admit=_admit_to_study, open=_open_study, since=_study_since),
    WORKERS: Feed(admit=_admit_to_workers, open=_open_workers, since=_workers_since),
}
