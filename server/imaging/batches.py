"""Files uploaded one by one that belong together: gathered, and read in when the last has come."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Count, Q
from django.utils import timezone

from server.core.errors import Problem
from server.imaging import background, storage, tus
from server.imaging.errors import BatchClosed, StorageFailed, StorageFull, UploadInvalid
from server.imaging.ingest import Ingested, ingest
from server.imaging.models import Upload, UploadBatch
from server.imaging.parser.orders import Named
from server.imaging.parts import parts_of

_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_GRACE_SECONDS = 60.0
PASSING = (StorageFull, StorageFailed, OperationalError, InterfaceError)
"""What goes away by itself, or when somebody makes room: no reason to give a batch up."""

log = structlog.get_logger(__name__)


def begin_upload(*, owner: Any, length: int, metadata: dict[str, str], is_replacement: bool) -> Upload:
    """Begin one file of a batch; without `batch` in its metadata it is a batch of its own, named like the upload.

    Raises:
        UploadInvalid, BatchClosed, TooLarge.
    """
    max_bytes = settings.LIMITS.upload_bytes
    with transaction.atomic():
        if "batch" not in metadata:
            upload = tus.create(length=length, max_bytes=max_bytes, metadata=metadata, owner=owner)
            upload.batch = UploadBatch.objects.create(
                uuid=upload.pk, owner=owner, count=1, is_replacement=is_replacement
            )
            upload.save(update_fields=["batch"])
            return upload
        batch = _batch(owner, metadata, is_replacement=is_replacement)
        return tus.create(length=length, max_bytes=max_bytes, metadata=metadata, owner=owner, batch=batch)


def take_if_complete(upload: Upload) -> None:
    """Start reading the upload's batch in if this was the last file it waited for."""
    batch = upload.batch
    if batch is None or not upload.is_complete:
        return
    if batch.uploads.filter(is_complete=True).count() >= batch.count:
        _start(batch.pk)


def resume_stale() -> None:
    """Start again what a process that died has left half read, or not begun to read after the last byte had come."""
    limit = timezone.now() - timedelta(seconds=settings.LIMITS.parser_seconds + _GRACE_SECONDS)
    stale = Q(state=UploadBatch.State.INGESTING, claimed_at__lt=limit)
    for batch_id in UploadBatch.objects.filter(stale).values_list("pk", flat=True):
        if UploadBatch.objects.filter(stale, pk=batch_id).update(state=UploadBatch.State.RECEIVING):
            _start(batch_id)
    come = Count("uploads", filter=Q(uploads__is_complete=True))
    for batch in UploadBatch.objects.filter(state=UploadBatch.State.RECEIVING).annotate(come=come):
        if batch.come >= batch.count:
            _start(batch.pk)


def read_in(batch_id: str) -> None:
    """Read a complete batch in, once: the row is claimed before and says afterwards what came of it."""
    claimed = UploadBatch.objects.filter(pk=batch_id, state=UploadBatch.State.RECEIVING)
    if not claimed.update(state=UploadBatch.State.INGESTING, claimed_at=timezone.now()):
        return
    batch = UploadBatch.objects.select_related("owner").get(pk=batch_id)
    uploads = list(batch.uploads.filter(is_complete=True).order_by("pk"))
    try:
        done = _ingest(batch, uploads)
    except PASSING as error:
        # What was acknowledged is kept: `resume_stale` finds the batch as one that was left half read.
        log.warning("a batch is read in later", batch=batch.pk, cause=type(error).__name__)
        return
    except Problem as problem:
        _end(batch, UploadBatch.State.FAILED, studies=[], refused=_reasons(batch, problem))
    except Exception:
        _end(batch, UploadBatch.State.FAILED, studies=[], refused=[_unforeseen(batch)])
        raise
    else:
        _end(batch, UploadBatch.State.DONE, studies=done.studies(), refused=done.refused, set_aside=done.set_aside)
    for upload in uploads:
        parts_of(upload).remove()


def _ingest(batch: UploadBatch, uploads: list[Upload]) -> Ingested:
    with storage.staging() as folder:
        files = [Named(path=str(parts_of(one).whole(folder)), name=one.filename or one.pk) for one in uploads]
        return ingest(owner=batch.owner, files=files, is_replacement=batch.is_replacement)


def _batch(owner: Any, metadata: dict[str, str], *, is_replacement: bool) -> UploadBatch:
    uuid, count = metadata["batch"], metadata.get("batch_count", "")
    if not _NAME.fullmatch(uuid) or not _COUNT.fullmatch(count):
        raise UploadInvalid("A batch needs a uuid in `batch` and the number of its files in `batch_count`.")
    known, _ = UploadBatch.objects.get_or_create(
        owner=owner, uuid=uuid, defaults={"count": int(count), "is_replacement": is_replacement}
    )
    batch = UploadBatch.objects.select_for_update().get(pk=known.pk)  # files announced side by side are counted
    if batch.count != int(count):
        raise BatchClosed(f"The batch was begun with {batch.count} files, not {count}.")
    if batch.state != UploadBatch.State.RECEIVING or batch.uploads.count() >= batch.count:
        raise BatchClosed(f"All {batch.count} files of the batch have been announced already.")
    return batch


def _start(batch_id: str) -> None:
    background.start(lambda: read_in(batch_id), name=f"batch-{batch_id}")


def _end(
    batch: UploadBatch, state: str, *, studies: list[Any], refused: list[Any], set_aside: list[Any] | None = None
) -> None:
    UploadBatch.objects.filter(pk=batch.pk).update(
        state=state, studies=studies, refused=refused, set_aside=set_aside or []
    )


def _reasons(batch: UploadBatch, problem: Problem) -> list[dict[str, str]]:
    whole = [{"filename": f"batch {batch.uuid}", "code": problem.code, "detail": problem.detail}]
    return list(problem.extra.get("refused", whole))


def _unforeseen(batch: UploadBatch) -> dict[str, str]:
    sentence = "Reading the batch failed in a way that nobody foresaw; the operator's log says more."
    return {"filename": f"batch {batch.uuid}", "code": "internal", "detail": sentence}
