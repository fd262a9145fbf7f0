"""tus 1.0 over HTTP for the files of users: headers in, headers out, the work in `tus` and `batches`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.http import http_date
from ninja import Router

from server.imaging import batches, tus
from server.imaging.errors import UploadInvalid, WrongContent, WrongProtocol
from server.imaging.models import Upload

router = Router()


def _with_version(run: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """tus wants the version on every answer, refusals included, and on a wrong one the versions that would do."""

    @wraps(run)
    def versioned(request: HttpRequest, **path: str) -> HttpResponse:
        response = run(request, **path)
        response.headers["Tus-Resumable"] = tus.VERSION
        if response.status_code == WrongProtocol.status:
            response.headers["Tus-Version"] = tus.VERSION
        return response

    return versioned


router.add_decorator(_with_version, mode="view")


@router.api_operation(["OPTIONS"], "", auth=None, summary="What this upload server can do")
def abilities(request: HttpRequest) -> HttpResponse:
    """Version, extensions and limits, for anybody who asks."""
    headers = {
        "Tus-Version": tus.VERSION,
        "Tus-Extension": tus.EXTENSIONS,
        "Tus-Checksum-Algorithm": ",".join(tus.CHECKSUMS),
        "Tus-Max-Size": str(settings.LIMITS.upload_bytes),
    }
    return _answer(204, headers)


@router.api_operation(["POST"], "", summary="Begin a resumable upload")
def create(request: HttpRequest, *, replace: bool = False) -> HttpResponse:
    """`Upload-Length`, and in `Upload-Metadata` the filename and, for several files, `batch` and `batch_count`."""
    _check_version(request)
    batches.resume_stale()
    upload = batches.begin_upload(
        owner=request.auth,
        length=_number(request, "Upload-Length"),
        metadata=tus.metadata_of(request.headers.get("Upload-Metadata", "")),
        is_replacement=replace,
    )
    # Without host and scheme: behind a proxy the server may not know under which the browser sees it.
    folder = request.path.rstrip("/")
    return _answer(201, {"Location": f"{folder}/{upload.pk}", **_standing(upload)})


@router.api_operation(["HEAD"], "{upload_id}", summary="Where a resumable upload stands")
def head(request: HttpRequest, upload_id: str) -> HttpResponse:
    """`Upload-Offset` is the next byte to send."""
    _check_version(request)
    upload = tus.head(upload_id, owner=request.auth)
    return _answer(200, {"Upload-Length": str(upload.length), "Cache-Control": "no-store", **_standing(upload)})


@router.api_operation(["PATCH"], "{upload_id}", summary="Send the next chunk of a resumable upload")
def append(request: HttpRequest, upload_id: str) -> HttpResponse:
    """A chunk of at most 8 MiB that starts at `Upload-Offset`; with `Upload-Checksum` it is verified."""
    _check_version(request)
    if request.content_type != "application/offset+octet-stream":
        raise WrongContent
    upload = tus.append(
        tus.head(upload_id, owner=request.auth),
        offset=_number(request, "Upload-Offset"),
        chunk=request.body,
        checksum=request.headers.get("Upload-Checksum"),
    )
    batches.take_if_complete(upload)
    return _answer(204, _standing(upload))


@router.api_operation(["DELETE"], "{upload_id}", summary="Give a resumable upload up")
def terminate(request: HttpRequest, upload_id: str) -> HttpResponse:
    """Its bytes are dropped."""
    _check_version(request)
    tus.terminate(tus.head(upload_id, owner=request.auth))
    return _answer(204, {})


def _answer(status: int, headers: dict[str, str]) -> HttpResponse:
    return HttpResponse(status=status, headers=headers)


def _standing(upload: Upload) -> dict[str, str]:
    return {"Upload-Offset": str(upload.offset), "Upload-Expires": http_date(upload.expires_at.timestamp())}


def _check_version(request: HttpRequest) -> None:
    if request.headers.get("Tus-Resumable") != tus.VERSION:
        raise WrongProtocol


def _number(request: HttpRequest, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        raise UploadInvalid(f"The header {header} is missing or no whole number.")
    return int(value)
