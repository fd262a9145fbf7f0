"""A result on its way in: looked at, proven in a child process, stored in one transaction; then it may be acknowledged.

Flow: 8 mask
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import structlog
from django.conf import settings
from django.db import connections

from inference.contract import ModelRef, PackedVolume, Stage
from server.audit.services import note
from server.core.events import Failed, Finished, Progressed
from server.core.job import State
from server.core.machine import Refused
from server.core.reconcile import Hold
from server.dispatch.sessions import WorkerRevoked, hold_on, may_work
from server.imaging import results, tus
from server.imaging import services as imaging
from server.imaging.errors import ResultInvalid
from server.imaging.models import Series, Upload
from server.jobs import services as jobs
from server.jobs.errors import JobNotFound
from server.jobs.models import Job
from server.jobs.rows import given_sequences

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What became of a delivery."""

    SETTLED = "settled"
    """Stored, refused for good, or settled before: the worker may forget it."""
    STALE = "stale"
    UPLOAD_MISSING = "upload_missing"
    """The mask is not here, or not all of it: it has to be uploaded again."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A worker's word that a job is done. `packed` describes the uploaded mask; `model` is what it says it ran."""

    worker_id: str
    hold: Hold
    result_id: str
    artifact_id: str
    packed: PackedVolume
    model: ModelRef | None
    metrics: Mapping[str, Any]


class Deliveries:
    """The deliveries being settled in this process. One that comes twice is settled once."""

    def __init__(self) -> None:
        self._settling: dict[Hold, asyncio.Task[Outcome]] = {}

    async def settle(self, delivery: Delivery) -> Outcome:
        """See a delivery through, even when the worker's connection ends meanwhile."""
        task = self._settling.get(delivery.hold)
        if task is None:
            task = asyncio.create_task(_settle_holding_on(delivery))
            self._settling[delivery.hold] = task
            task.add_done_callback(lambda done: self._ended(delivery.hold, done))
        return await asyncio.shield(task)

    def _ended(self, hold: Hold, task: asyncio.Task[Outcome]) -> None:
        self._settling.pop(hold, None)
        # Looked at: a failure that nobody waits for any more is no news, since the worker says its result again.
        if not task.cancelled():
            task.exception()


deliveries = Deliveries()


async def _settle_holding_on(delivery: Delivery) -> Outcome:
    """Proving takes seconds; the lease must not run out over it, even if the worker is cut off."""
    settling = asyncio.create_task(asyncio.to_thread(_in_own_thread, delivery))
    while True:
        done, _ = await asyncio.wait({settling}, timeout=settings.POLICY.heartbeat_seconds)
        if done:
            return settling.result()
        await asyncio.to_thread(_renew, delivery)


def _in_own_thread(delivery: Delivery) -> Outcome:
    try:
        return settle(delivery)
    finally:
        connections.close_all()


def _renew(delivery: Delivery) -> None:
    try:
        until = jobs.now() + timedelta(seconds=settings.POLICY.lease_seconds)
        jobs.renew(worker_id=delivery.worker_id, holds={delivery.hold.job_id: delivery.hold.fence}, until=until)
    finally:
        connections.close_all()


def settle(delivery: Delivery) -> Outcome:
    """Look at a delivery, prove its mask, and store it; blocks for seconds."""
    hold = delivery.hold
    row = Job.objects.filter(pk=hold.job_id, worker_id=delivery.worker_id, fence=hold.fence).first()
    if row is None:
        return Outcome.STALE
    if State(row.state).is_final:
        return Outcome.SETTLED
    upload = Upload.objects.filter(
        pk=delivery.artifact_id, job_id=hold.job_id, fence=hold.fence, is_complete=True
    ).first()
    if upload is None:
        return Outcome.UPLOAD_MISSING
    # Also refuses a worker that was revoked: its job is somebody else's by now.
    if not hold_on(hold, worker_id=delivery.worker_id):
        return Outcome.STALE
    _note_upload_stage(delivery)
    try:
        proven = _proven(delivery, row, upload)
    except ResultInvalid as invalid:
        log.warning("a result is not offered", job=hold.job_id, fence=hold.fence, cause=invalid.detail)
        return _closed(delivery, upload, detail=invalid.detail)
    return _stored(delivery, upload, proven)


def _proven(delivery: Delivery, row: Job, upload: Upload) -> results.ProvenFiles:
    packed = delivery.packed
    if (upload.length, upload.sha256) != (packed.size, packed.sha256):
        raise ResultInvalid("The uploaded mask is not the one that was announced.")
    offered = ModelRef(**row.run_model) if row.run_model else None
    if offered is not None and delivery.model != offered:
        raise ResultInvalid("Another model ran than the one that was offered.")
    if delivery.model is None:
        raise ResultInvalid("The result does not say which model ran.")
    series = Series.objects.select_related("study", "artifact").in_bulk({row.series_id, *row.sequence_series_ids})
    return results.prove(
        upload=upload,
        packed=packed,
        job_id=row.id,
        reference=series[row.series_id],
        inputs=[series[pk] for pk in row.sequence_series_ids],
        sequences=given_sequences(row),
        viewer=row.requested_by,
        model=delivery.model,
        metrics={**delivery.metrics, "warnings": [*row.warnings, *delivery.metrics.get("warnings", ())]},
    )


def _stored(delivery: Delivery, upload: Upload, proven: results.ProvenFiles) -> Outcome:
    hold, has_stored = delivery.hold, []
    finished = Finished(at=jobs.now(), fence=hold.fence, worker_id=delivery.worker_id, result_id=delivery.result_id)

    def store() -> None:
        if not may_work(delivery.worker_id):
            raise WorkerRevoked(delivery.worker_id)
        note(actor=f"worker:{delivery.worker_id}", action="result", job=hold.job_id, fence=str(hold.fence))
        has_stored.append(imaging.store_mask(job_id=hold.job_id, proven=proven))

    outcome = Outcome.SETTLED
    try:
        jobs.record(hold.job_id, finished, together_with=store)
    except (Refused, JobNotFound, WorkerRevoked):
        outcome, has_stored = Outcome.STALE, []
    if not has_stored:
        results.discard(proven)
    tus.terminate(upload)
    return outcome


def _closed(delivery: Delivery, upload: Upload, *, detail: str) -> Outcome:
    hold = delivery.hold
    failed = Failed(
        at=jobs.now(), fence=hold.fence, worker_id=delivery.worker_id, code=ResultInvalid.code, detail=detail
    )
    is_counted = jobs.record_if_allowed(hold.job_id, failed) is not None
    tus.terminate(upload)
    return Outcome.SETTLED if is_counted else Outcome.STALE


def _note_upload_stage(delivery: Delivery) -> None:
    hold = delivery.hold
    uploaded = Progressed(
        at=jobs.now(), fence=hold.fence, worker_id=delivery.worker_id, stage=Stage.UPLOAD, fraction=1.0
    )
    jobs.record_if_allowed(hold.job_id, uploaded)
