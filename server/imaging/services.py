"""Writing what is stored: files read in, masks kept, studies shared, what is left over cleared away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone

from server.imaging import batches, disk, storage, tus
from server.imaging.ingest import Ingested, ingest
from server.imaging.models import Mask, Series, Study, Upload
from server.imaging.parser.orders import Named
from server.imaging.results import ProvenFiles
from server.topics import services as topics


def ingest_uploaded(*, owner: Any, files: Sequence[UploadedFile], is_replacement: bool = False) -> Ingested:
    """Read the files of one request in. Raises NothingReadable, SeriesConflict, StorageFull, StorageFailed."""
    with storage.staging() as folder:
        with disk.told():
            named = [_spooled(file, folder / f"{place:05d}") for place, file in enumerate(files)]
        return ingest(owner=owner, files=named, is_replacement=is_replacement)


def store_mask(*, job_id: str, proven: ProvenFiles) -> Mask:
    """The row of a proven mask; call it in the transaction that ends the job."""
    return Mask.objects.create(
        job_id=job_id,
        series_id=proven.series_id,
        nii_path=f"{proven.folder}/mask.nii.gz",
        seg_path=f"{proven.folder}/mask.dcm" if proven.has_seg else None,
        seg_sha256=proven.seg_sha256,
        report_path=f"{proven.folder}/report.json",
        report_sha256=proven.report_sha256,
        sha256=proven.sha256,
        size=proven.size,
        volumes_ml=dict(proven.volumes_ml),
        dicom_objects=[msgspec.to_builtins(one) for one in proven.objects],
        pdf_sha256=proven.pdf_sha256,
        change=None if proven.change is None else dict(proven.change),
    )


@transaction.atomic
def share(*, study: Study, group: Group) -> None:
    """Let the members of a group see a study."""
    study.groups.add(group)
    topics.append(f"study:{study.pk}", kind="study.shared", payload={"group": group.name})


def tidy() -> None:
    """Clear away what expired or what a dead process has left behind, and read in again what it left half read."""
    for upload in Upload.objects.filter(expires_at__lt=timezone.now()):
        tus.terminate(upload)
    storage.sweep(known_uploads=set(Upload.objects.values_list("path", flat=True)))
    if settings.STORAGE is not None:
        storage.drop_orphans("uploads", known=set(Upload.objects.values_list("path", flat=True)))
    storage.drop_orphans("series", known=set(Series.objects.values_list("folder", flat=True)))
    masks = Mask.objects.values_list("report_path", flat=True)
    storage.drop_orphans("masks", known={path.rpartition("/")[0] for path in masks})
    batches.resume_stale()


def _spooled(file: UploadedFile, target: Path) -> Named:
    with target.open("xb") as out:
        out.writelines(file.chunks())
    return Named(path=str(target), name=file.name or target.name)


__all__ = ["Ingested", "ingest", "ingest_uploaded", "share", "store_mask", "tidy"]
