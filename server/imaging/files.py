"""Stored files over HTTP: one range at a time, never changed under one ETag, streamed without holding up the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.utils.http import parse_etags

from server.imaging import storage
from server.imaging.ranges import Span, asked_span

_PRIVATE = "private, max-age=0, must-revalidate"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file of the shelf, and how it is handed out. `sha256` (hex) of the whole is its strong ETag."""

    path: str
    size: int
    sha256: str
    content_type: str = "application/octet-stream"
    filename: str = ""
    cache_control: str = _PRIVATE

    def headers(self) -> dict[str, str]:
        """What every answer about the file says."""
        return {
            "ETag": f'"{self.sha256}"',
            "Accept-Ranges": "bytes",
            "Cache-Control": self.cache_control,
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f'attachment; filename="{self.filename}"' if self.filename else "attachment",
        }


def stored_response(request: HttpRequest, file: Stored, *, may_redirect: bool = False) -> HttpResponseBase:
    """The file, or the range of it that was asked for (RFC 9110, 14), as an attachment. Blocks for its digest.

    Behind nginx with ACCEL_LOCATION the proxy sends the bytes; `may_redirect` lets object storage send them.

    Raises:
        RangeInvalid, StoredFileDamaged, StorageFailed.
    """
    if _is_known(request, file.sha256):
        return HttpResponse(status=304, headers=file.headers())
    shelf = storage.shelf()
    shelf.check(file.path, size=file.size, sha256=file.sha256)
    link = shelf.link(file.path) if may_redirect else None
    if link is not None:
        return HttpResponseRedirect(link, headers={"Cache-Control": "no-store"})
    if settings.ACCEL_LOCATION and settings.STORAGE is None:
        away = {**file.headers(), "X-Accel-Redirect": f"{settings.ACCEL_LOCATION}{file.path}"}
        return HttpResponse(content_type=file.content_type, headers=away)
    span = _span(request, file.sha256, file.size)
    part = span or Span(0, file.size - 1)
    answer: HttpResponseBase = HttpResponse()
    if request.method != "HEAD":
        answer = StreamingHttpResponse(_off_the_loop(shelf.pieces(file.path, part.first, part.last)))
    return _finished(answer, file, span)


def is_first_byte(request: HttpRequest, file: Stored) -> bool:
    """Whether the answer begins the file: of a download in many ranges it is the one that the audit log notes."""
    if request.method == "HEAD" or _is_known(request, file.sha256):
        return False
    span = _span(request, file.sha256, file.size)
    return span is None or span.first == 0


def content_response(request: HttpRequest, content: bytes, file: Stored) -> HttpResponseBase:
    """The same for a small file whose content was read and proven already."""
    if _is_known(request, file.sha256):
        return HttpResponse(status=304, headers=file.headers())
    span = _span(request, file.sha256, len(content))
    part = span or Span(0, len(content) - 1)
    answer = HttpResponse(b"" if request.method == "HEAD" else content[part.first : part.last + 1])
    return _finished(answer, file, span)


def _is_known(request: HttpRequest, sha256: str) -> bool:
    tags = parse_etags(request.headers.get("If-None-Match", ""))
    return f'"{sha256}"' in tags or "*" in tags


def _span(request: HttpRequest, sha256: str, size: int) -> Span | None:
    return asked_span(
        header=request.headers.get("Range", ""),
        if_range=request.headers.get("If-Range", ""),
        etag=f'"{sha256}"',
        size=size,
    )


def _finished(answer: HttpResponseBase, file: Stored, span: Span | None) -> HttpResponseBase:
    answer.status_code = 200 if span is None else 206
    if span is not None:
        answer["Content-Range"] = span.content_range(file.size)
    answer["Content-Type"] = file.content_type
    answer["Content-Length"] = str(file.size if span is None else span.length)
    for name, value in file.headers().items():
        answer[name] = value
    return answer


async def _off_the_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
