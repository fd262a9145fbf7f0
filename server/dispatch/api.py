"""Workers over HTTP: enrolment, inputs down, masks up; and the list of open requests that older workers poll.

Flow: 8 mask
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.http import http_date
from ninja import Router, Schema
from pydantic import Field

from server import addresses
from server.accounts import throttle
from server.accounts.auth import user_auth
from server.audit.services import ANONYMOUS, note
from server.core.errors import NotAllowed
from server.dispatch import dataplane, enrolment, keys
from server.dispatch.errors import DataTokenRefused, EnrolRefused
from server.dispatch.sync import exchange
from server.imaging import storage, tus
from server.imaging.errors import UploadInvalid
from server.imaging.files import Stored, stored_response
from server.imaging.models import Upload
from server.jobs.epoch import current_epoch
from server.jobs.selectors import open_jobs
from worker_client.protocol.identity import UPLOADS_PATH

router = Router()


class EnrolIn(Schema):
    """A machine's application; `public_key` (32 bytes) and `proof` (Ed25519 signature) in base64."""

    token: str = Field(max_length=128)
    name: str = Field(min_length=1, max_length=128)
    public_key: str = Field(max_length=64)
    proof: str = Field(max_length=128)


class EnrolOut(Schema):
    """Who the machine is from now on, the server's address, and the life of its database."""

    worker_id: str
    server: str
    epoch: str
    storage_origin: str = ""
    """Where the server may send the worker for inputs, and nowhere else; empty: never."""


class PendingOut(Schema):
    """One open request as the polling worker knew it."""

    request_id: str
    series_id: str
    sequence_series_ids: list[str]
    created_at: str
    state: str


class PendingListOut(Schema):
    """All open requests, oldest first."""

    requests: list[PendingOut]


@router.post("/worker/enrol/", auth=None, response=EnrolOut, summary="Become a worker")
def enrol(request: HttpRequest, body: EnrolIn) -> Any:
    """A one-time token and a proof of the private key."""
    caller = addresses.of_request(request)
    application = enrolment.Application(**body.dict(), address=caller)
    throttle.check_failures("enrol", caller)
    try:
        worker = enrolment.enrol(application)
    except EnrolRefused:
        throttle.failed("enrol", caller)
        note(actor=ANONYMOUS, action="worker.refused", address=caller or None)
        raise
    address = {"server": settings.PUBLIC_URL, "storage_origin": storage.origin()}
    return {"worker_id": worker.id, "epoch": current_epoch(), **address}


@router.post("/worker/sync/", auth=None, summary="The worker's conversation by long-poll")
async def sync(request: HttpRequest) -> HttpResponse:
    """`{"session": null or the link's name, "ack": number of the newest frame received, "frames": [...]}`; the answer
    has the same shape and comes as soon as there is something to say, after 20 s at the latest."""
    return await exchange(request)


@router.get("/worker/artifacts/{artifact_id}", auth=None, summary="An input volume, or a range of it")
async def artifact(request: HttpRequest, artifact_id: str) -> HttpResponseBase:
    """Packed voxels of one sequence of a job that the worker holds. The ETag is the sha256 of the whole.

    With object storage, a worker that names its origin in `Accept-Storage` is sent there with a link for ten minutes.
    """
    found = await sync_to_async(dataplane.artifact_for)(_authorization(request), artifact_id)
    file = Stored(path=found.path, size=found.size, sha256=found.sha256, cache_control="private, no-store")
    may_redirect = request.headers.get("Accept-Storage") == storage.origin()
    return await sync_to_async(stored_response, thread_sensitive=False)(request, file, may_redirect=may_redirect)


@router.post("/worker/uploads/", auth=None, summary="Begin to upload a mask (tus 1.0)")
def begin_upload(request: HttpRequest) -> HttpResponse:
    """`Upload-Length`, and `Upload-Metadata` with job, fence, role and sha256."""
    upload = dataplane.begin_upload(
        _authorization(request),
        length=_number(request, "Upload-Length"),
        metadata=tus.metadata_of(request.headers.get("Upload-Metadata", "")),
    )
    return _standing(upload, status=201, headers={"Location": f"{UPLOADS_PATH}{upload.pk}"})


@router.api_operation(["HEAD"], "/worker/uploads/{upload_id}", auth=None, summary="Where an upload stands")
def upload_standing(request: HttpRequest, upload_id: str) -> HttpResponse:
    """`Upload-Offset` is the next byte to send."""
    return _standing(dataplane.upload_of(_authorization(request), upload_id), status=200)


@router.patch("/worker/uploads/{upload_id}", auth=None, summary="Send the next chunk of an upload")
def add_chunk(request: HttpRequest, upload_id: str) -> HttpResponse:
    """A chunk that starts at `Upload-Offset`; refused as soon as the attempt no longer counts."""
    upload = dataplane.add_chunk(
        _authorization(request),
        upload_id,
        offset=_number(request, "Upload-Offset"),
        chunk=request.body,
        checksum=request.headers.get("Upload-Checksum"),
    )
    return _standing(upload, status=204)


@router.get("/mri/segmentation/pending-requests/", auth=None, response=PendingListOut, summary="Open requests")
def pending_requests(request: HttpRequest) -> HttpResponse:
    """As the old polling worker and its check read them; for staff, and for a worker with a data token."""
    _check_may_see_pending(request)
    found = [
        {
            "request_id": job.id,
            "series_id": job.series_id,
            "sequence_series_ids": job.sequence_series_ids,
            "created_at": job.created_at.isoformat(),
            "state": job.state,
        }
        for job in open_jobs()
    ]
    return JsonResponse({"requests": found})


def _check_may_see_pending(request: HttpRequest) -> None:
    for authenticate in user_auth:
        user = authenticate(request)
        if user:
            if not user.is_staff:
                raise NotAllowed("Only staff and workers may see the open requests.")
            return
    try:
        claim = keys.read_data_token(_authorization(request), op=keys.FETCH)
    except DataTokenRefused as refused:
        raise DataTokenRefused from refused
    dataplane.open_attempt(claim)


def _authorization(request: HttpRequest) -> str:
    return request.headers.get("Authorization", "")


def _standing(upload: Upload, *, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    known = {
        "Tus-Resumable": tus.VERSION,
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.length),
        "Upload-Expires": http_date(upload.expires_at.timestamp()),
        "Cache-Control": "no-store",
    }
    return HttpResponse(status=status, headers={**known, **(headers or {})})


def _number(request: HttpRequest, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        raise UploadInvalid(f"The header {header} is missing or no whole number.")
    return int(value)
