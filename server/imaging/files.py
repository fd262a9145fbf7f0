"""Stored files over HTTP: one range at a time, never changed under one ETag, streamed without holding up the loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import parse_etags

from server.imaging.errors import RangeInvalid

_PIECE_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def file_response(
    request: HttpRequest, path: Path, *, sha256: str, content_type: str, filename: str
) -> HttpResponseBase:
    """The file, or the range of it that was asked for (RFC 9110, 14), as an attachment.

    `sha256` (hex) of the whole file is its strong ETag. Several ranges at once are answered with the whole.

    Raises:
        RangeInvalid: the range lies beyond the end.
    """
    etag = f'"{sha256}"'
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        return _with_headers(HttpResponse(status=304), etag, filename)
    size = path.stat().st_size
    first, last = _wanted(request, etag, size)
    is_part = (first, last) != (0, size - 1)
    is_head = request.method == "HEAD"
    response: HttpResponseBase = HttpResponse() if is_head else StreamingHttpResponse(_pieces(path, first, last))
    response.status_code = 206 if is_part else 200
    if is_part:
        response["Content-Range"] = f"bytes {first}-{last}/{size}"
    response["Content-Type"] = content_type
    response["Content-Length"] = str(last - first + 1)
    return _with_headers(response, etag, filename)


def _wanted(request: HttpRequest, etag: str, size: int) -> tuple[int, int]:
    """First and last byte to send."""
    whole = (0, size - 1)
    found = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if found is None or found.groups() == ("", ""):
        return whole
    if request.headers.get("If-Range", etag) != etag:
        return whole
    start, end = found.groups()
    first = int(start) if start else max(0, size - int(end))
    last = min(int(end), size - 1) if start and end else size - 1
    if first > last:
        raise RangeInvalid(f"The file has {size} bytes.")
    return first, last


async def _pieces(path: Path, first: int, last: int) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as source:
        await asyncio.to_thread(source.seek, first)
        left = last - first + 1
        while left and (piece := await asyncio.to_thread(source.read, min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece


def _with_headers(response: HttpResponseBase, etag: str, filename: str) -> HttpResponseBase:
    response["ETag"] = etag
    response["Accept-Ranges"] = "bytes"
    response["Cache-Control"] = "private, max-age=0, must-revalidate"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response
