"""Asking for a segmentation, following it, and taking its result.

Flow: 2 job
"""

import hashlib
from typing import Annotated, Any, Literal

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from ninja import Path as NinjaPath
from ninja import Query, Router, Schema
from pydantic import Field

from server.accounts import throttle
from server.audit import services as audit
from server.core.job import Priority, State
from server.imaging import storage
from server.imaging.files import Stored, content_response, is_first_byte
from server.imaging.models import Mask
from server.imaging.selectors import file_of, mask_of
from server.jobs import selectors, services
from server.jobs.epoch import current_epoch
from server.jobs.errors import FileNotAvailable, ResultNotReady, SegNotAvailable
from server.jobs.requests import Wish, request_segmentation
from server.jobs.schemas import EventsOut, JobOut, JobsOut
from server.jobs.waiting import wait_for

router = Router()

PAGE = 100


class SegmentIn(Schema):
    """One to four series, by our id or SeriesInstanceUID; with fewer than four a model made for those is used."""

    sequence_series_ids: list[str] = Field(min_length=1, max_length=16)
    model: str | None = Field(default=None, max_length=128, pattern=r"^[\w.+-]+(@[\w.+-]+)?$")
    priority: Literal["urgent", "routine", "batch"] = "routine"
    labels: list[Annotated[str, Field(max_length=32, pattern=r"^[\w.+-]+$")]] = Field(
        default=[], max_length=8, description="Only a worker that has all of these is asked."
    )


@router.post("/series/{series_id}/segment/", response={200: JobOut, 202: JobOut}, summary="Segment the tumour")
def segment(request: HttpRequest, series_id: str, body: SegmentIn, *, use_local: bool | None = None) -> HttpResponse:
    """Answers 202 with the job at once. The mask will lie on the grid of `series_id`. With `Prefer: wait=N` the
    answer is 200 with the finished job when it ends within N seconds."""
    wish = Wish(
        series_ref=series_id,
        sequence_refs=tuple(body.sequence_series_ids),
        use_local=use_local,
        model=body.model or "",
        priority=Priority(body.priority),
        labels=frozenset(body.labels),
    )
    key = request.headers.get("Idempotency-Key", "")[:255]
    snapshot = _requested(request.auth, wish, key)
    seconds = preferred_wait(request.headers.get("Prefer", ""))
    ended = None if seconds is None else async_to_sync(_end_of)(snapshot["id"], seconds)
    headers = {"Location": f"/api/mri/segmentation/jobs/{snapshot['id']}/"}
    if ended is None:
        shown = snapshot if seconds is None else _current(snapshot["id"])
        return JsonResponse(shown, status=202, headers=headers)
    return JsonResponse(ended, status=200, headers={**headers, "Preference-Applied": f"wait={seconds:g}"})


@router.get("/jobs/", response=JobsOut, summary="Jobs, newest first")
def jobs(request: HttpRequest, study: str | None = None, state: Literal["open"] | State | None = None) -> HttpResponse:
    """The newest jobs that the user may see; of one study, or in one state (`open`: not ended)."""
    found = selectors.jobs_for(request.auth)
    if study is not None:
        found = found.filter(study_id=study)
    if state == "open":
        found = found.filter(pk__in=selectors.open_jobs().values("pk"))
    elif state is not None:
        found = found.filter(state=state)
    return JsonResponse({"jobs": selectors.snapshots(found[:PAGE])})


@router.get("/jobs/{job_id}/", response=JobOut, summary="One job")
def job(request: HttpRequest, job_id: str) -> HttpResponse:
    """The job as it is now."""
    selectors.job_for(request.auth, job_id)
    return JsonResponse(_current(job_id))


@router.get("/jobs/{job_id}/events", response=EventsOut, summary="What happened since, by long-poll")
async def events(request: HttpRequest, job_id: str, since: int = Query(0, ge=0), wait: float = Query(0.0, ge=0)) -> Any:
    """Every durable change after `since`, in order; waits up to `wait` seconds (at most 20) for the first.

    `recovered` is false, and nothing is listed, when the log no longer reaches back to `since`: read the job anew.
    """
    await sync_to_async(selectors.job_for)(request.auth, job_id)
    seconds = min(wait, settings.LIMITS.long_poll_seconds)
    found = await wait_for(job_id, lambda: sync_to_async(_happened)(job_id, since), seconds=seconds)
    epoch = await sync_to_async(current_epoch)()
    return JsonResponse({"epoch": epoch, **(found or {"seq": since, "recovered": True, "events": []})})


@router.post("/jobs/{job_id}/cancel/", response={202: JobOut}, summary="Cancel")
def cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    """Ends in `cancelled`, unless the job has ended before."""
    selectors.job_for(request.auth, job_id)
    services.cancel(job_id, by=request.auth)
    return JsonResponse(_current(job_id), status=202)


@router.api_operation(["GET", "HEAD"], "/jobs/{job_id}/mask.nii.gz", summary="The label mask, NIfTI")
def mask_nii(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """On the grid of the reference series: 0 background, 1 necrotic core, 2 oedema, 3 enhancing tumour."""
    mask = _mask(request, job_id)
    return _file(request, mask.nii_path, sha256=mask.sha256, name=f"{job_id}.nii.gz", kind="application/gzip")


@router.api_operation(["GET", "HEAD"], "/jobs/{job_id}/mask.dcm", summary="The label mask, DICOM SEG")
def mask_dcm(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Three binary segments in the frame of reference of the original series."""
    mask = _mask(request, job_id)
    if not mask.seg_path:
        raise SegNotAvailable
    return _file(request, mask.seg_path, sha256=mask.seg_sha256, name=f"{job_id}.dcm", kind="application/dicom")


@router.api_operation(["GET", "HEAD"], "/jobs/{job_id}/report.json", summary="Measurements")
def report(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Volumes in mL, bounding boxes in mm, the model, input digests and stage times."""
    mask = _mask(request, job_id)
    return _file(request, mask.report_path, sha256=mask.report_sha256, name=f"{job_id}.json", kind="application/json")


@router.api_operation(["GET", "HEAD"], "/jobs/{job_id}/report.dcm", summary="Measurements, DICOM SR")
def report_dcm(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """A measurement report (TID 1500) that refers to the segments and the source series."""
    return _beside(request, job_id, "report.dcm", kind="application/dicom")


@router.api_operation(["GET", "HEAD"], "/jobs/{job_id}/summary.pdf", summary="Summary, PDF")
def summary_pdf(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """For reading and printing. It names the patient, when the scans do."""
    return _beside(request, job_id, "summary.pdf", kind="application/pdf")


@router.api_operation(["GET", "HEAD"], "/jobs/{job_id}/summary.dcm", summary="Summary, DICOM encapsulated PDF")
def summary_dcm(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """The same PDF as an object of the study."""
    return _beside(request, job_id, "summary.dcm", kind="application/dicom")


@router.api_operation(["GET", "HEAD"], "/jobs/{job_id}/key/{number}.dcm", summary="A key image, DICOM")
def key_image(request: HttpRequest, job_id: str, number: Annotated[int, NinjaPath(ge=1, le=99)]) -> HttpResponseBase:
    """A Secondary Capture: the slice of a region's largest extent with the mask's outline."""
    return _beside(request, job_id, f"key-{number}.dcm", kind="application/dicom")


def preferred_wait(header: str) -> float | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most 60; None when there is no such preference."""
    for preference in header.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isdecimal():
            return min(float(digits), settings.LIMITS.prefer_wait_seconds)
    return None


def _requested(user: Any, wish: Wish, key: str) -> selectors.Snapshot:
    throttle.spend("segment", user.pk, per_minute=settings.LIMITS.requests_per_minute)
    return request_segmentation(user=user, wish=wish, idempotency_key=key)


def _current(job_id: str) -> selectors.Snapshot:
    return selectors.position_and_snapshot(job_id)[2]


async def _end_of(job_id: str, seconds: float) -> selectors.Snapshot | None:
    return await wait_for(job_id, lambda: sync_to_async(_ended)(job_id), seconds=seconds)


def _ended(job_id: str) -> selectors.Snapshot | None:
    """The final snapshot; waiting holds a thread of this request but no connection."""
    snapshot = _current(job_id)
    _let_go()
    return snapshot if State(snapshot["state"]).is_final else None


def _happened(job_id: str, since: int) -> dict[str, Any] | None:
    events = [
        {"seq": event.seq, "type": event.kind, "at": event.at.isoformat(), "job": event.payload}
        for event in selectors.events_since(job_id, since)
    ]
    newest = events[-1]["seq"] if events else selectors.positions([job_id])[job_id][1]
    _let_go()
    if newest <= since:
        return None
    is_whole = len(events) == newest - since
    return {"seq": newest, "recovered": is_whole, "events": events if is_whole else []}


def _let_go() -> None:
    if not connection.in_atomic_block:
        connection.close()


def _mask(request: HttpRequest, job_id: str) -> Mask:
    state = selectors.job_for(request.auth, job_id).state
    mask = mask_of(job_id) if state == State.SUCCEEDED else None
    if mask is None:
        raise ResultNotReady(state)
    return mask


def _beside(request: HttpRequest, job_id: str, name: str, *, kind: str) -> HttpResponseBase:
    found = file_of(_mask(request, job_id), name)
    if found is None:
        raise FileNotAvailable(name)
    path, sha256 = found
    return _file(request, path, sha256=sha256, name=f"{job_id}.{name}", kind=kind)


def _file(request: HttpRequest, path: str, *, sha256: str, name: str, kind: str) -> HttpResponseBase:
    """A result file, some tens of kilobytes: read whole and compared with its digest before a byte of it is shown."""
    content = storage.read(path, sha256=sha256)
    tag = sha256 or hashlib.sha256(content).hexdigest()
    file = Stored(path=path, size=len(content), sha256=tag, content_type=kind, filename=name)
    if is_first_byte(request, file):
        job_id, _, form = name.partition(".")
        audit.note(actor=audit.actor_of(request.auth), action="result.download", job=job_id, form=form)
    return content_response(request, content, file)
