"""The HTTP face of what is stored: upload, studies, series, voxels."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from ninja import File, Router, Schema
from ninja.files import UploadedFile
from ninja.responses import Status

from inference.contract import Sequence
from server.audit import services as audit
from server.imaging import batches, selectors, sequences, services
from server.imaging.api_tus import router as tus_router
from server.imaging.files import Stored, is_first_byte, stored_response
from server.imaging.snapshots import series_snapshot, study_snapshot

_FAR = 2**31  # beyond any study; a database takes no larger offsets

router = Router()
router.add_router("/uploads/tus/", tus_router)


class SequenceIn(Schema):
    """What a person says a series is; null: none of the four."""

    sequence: Sequence | None


@router.post("/uploads/", response={201: dict[str, Any]}, summary="Upload DICOM files, zip archives or NIfTI files")
def upload(request: HttpRequest, files: File[list[UploadedFile]], *, replace: bool = False) -> Status[Any]:
    """Read the files in as one delivery; what could not be read is in `refused`, what is no scan in `set_aside`."""
    done = services.ingest_uploaded(owner=request.auth, files=files, is_replacement=replace)
    return Status(201, {"studies": done.studies(), "refused": done.refused, "set_aside": done.set_aside})


@router.get("/uploads/batches/{batch}/", summary="What became of files uploaded one by one")
def batch_state(request: HttpRequest, batch: str) -> dict[str, Any]:
    """The state of a batch of resumable uploads, and what was read in or refused once it is done."""
    batches.resume_stale()
    found = selectors.batch_for(request.auth, batch)
    return {
        "state": found.state,
        "studies": found.studies,
        "refused": found.refused,
        "set_aside": found.set_aside,
    }


@router.get("/studies/", summary="The studies you may see, newest first")
def studies(request: HttpRequest, limit: int = 100, offset: int = 0, uid: str = "") -> dict[str, Any]:
    """At most 500 at a time. `uid`: those with this StudyInstanceUID alone."""
    start, count = min(max(0, offset), _FAR), min(max(1, limit), 500)
    visible = selectors.studies_for(request.auth, uid=uid)
    page = visible[start : start + count]
    return {"studies": [study_snapshot(one, list(one.series.all())) for one in page], "count": visible.count()}


@router.get("/studies/{study_id}/", summary="One study")
def study(request: HttpRequest, study_id: str) -> dict[str, Any]:
    """The study with its current series."""
    found = selectors.study_for(request.auth, study_id)
    return study_snapshot(found, list(found.series.all()))


@router.get("/series/{series_id}/", summary="One series")
def series(request: HttpRequest, series_id: str) -> dict[str, Any]:
    """By our id, or by SeriesInstanceUID."""
    return series_snapshot(selectors.series_for(request.auth, series_id))


@router.patch("/series/{series_id}/", summary="Say which sequence a series is")
def correct(request: HttpRequest, series_id: str, body: SequenceIn) -> dict[str, Any]:
    """The correction is kept: it wins over the header and over what is uploaded later."""
    found = selectors.series_for(request.auth, series_id)
    return series_snapshot(sequences.correct(series=found, sequence=body.sequence, by=request.auth))


@router.api_operation(["GET", "HEAD"], "/series/{series_id}/volume.nii.gz", summary="The voxels of one series")
def volume(request: HttpRequest, series_id: str) -> HttpResponseBase:
    """The volume on its stored grid, gzipped NIfTI. Ranges, `If-Range` and `If-None-Match` are understood."""
    found = selectors.series_for(request.auth, series_id)
    file = Stored(
        path=f"{found.folder}/volume.nii.gz",
        size=found.volume_size,
        sha256=found.volume_sha256,
        content_type="application/gzip",
        filename=f"{found.pk}.nii.gz",
    )
    if is_first_byte(request, file):
        audit.note(actor=audit.actor_of(request.auth), action="volume.download", series=found.pk, study=found.study_id)
    return stored_response(request, file)
