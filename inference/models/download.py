"""Fetch a published file: resumable, with progress, and only what was pinned. The one place that opens a connection."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from inference.errors import WeightsMismatch
from inference.models.errors import DownloadFailed
from inference.models.weights import digest_of

CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 30.0
TRIES = 3
"""In a row that bring not a byte more than came before."""

Tell = Callable[[int], None]

_PARTIAL = 206
_NOT_SATISFIABLE = 416


def fetch(url: str, target: Path, *, size: int, sha256: str, tell: Tell) -> None:
    """Make `target` the file of `size` bytes and digest `sha256` at `url`; `tell` hears how many bytes are there.

    What has come lies in `target` with the suffix `.part`, and the next call goes on from there. A file that is
    complete already is not asked for again. Nothing is kept of a file with another digest.
    Raises DownloadFailed; WeightsMismatch when the file is another one.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadFailed("Only addresses that begin with https:// or http:// can be downloaded from.")
    if target.is_file() and target.stat().st_size == size and digest_of(target) == sha256:
        tell(size)
        return
    part = target.with_name(f"{target.name}.part")
    try:
        _fill(url, part, size=size, tell=tell)
    except _TooLong as error:
        part.unlink()
        raise DownloadFailed(f"{target.name} is longer at this address than it was published.") from error
    found = digest_of(part)
    if found != sha256:
        part.unlink()
        raise WeightsMismatch(target.name, expected=sha256, found=found)
    part.replace(target)


class _TooLong(Exception):
    """More came than the file has."""


def _fill(url: str, part: Path, *, size: int, tell: Tell) -> None:
    tries_left, furthest, cause = TRIES, _length(part), ""
    while tries_left and _length(part) != size:
        try:
            _go_on(url, part, size=size, tell=tell)
        except (OSError, http.client.HTTPException) as error:
            cause = _cause(error)
        tries_left = TRIES if _length(part) > furthest else tries_left - 1
        furthest = max(furthest, _length(part))
    if _length(part) != size:
        raise DownloadFailed(f"{part.stem} could not be fetched ({cause or 'it ended early'}); try again to go on.")


def _go_on(url: str, part: Path, *, size: int, tell: Tell) -> None:
    """Ask for what is missing. Raises OSError, HTTPException."""
    have = _length(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - checked
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310 - the scheme was checked
    except urllib.error.HTTPError as error:
        if error.code == _NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        raise
    with answer, part.open("ab" if _goes_on(answer, have) else "wb") as file:
        _copy(answer, file, size=size, tell=tell)


def _goes_on(answer: http.client.HTTPResponse, have: int) -> bool:
    """Whether the answer starts where we stopped; a server that knows no ranges sends everything again."""
    return answer.status == _PARTIAL and (answer.headers["Content-Range"] or "").startswith(f"bytes {have}-")


def _copy(answer: IO[bytes], file: IO[bytes], *, size: int, tell: Tell) -> None:
    written = file.tell()
    while piece := answer.read(CHUNK_BYTES):
        written += len(piece)
        if written > size:
            raise _TooLong
        file.write(piece)
        tell(written)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cause(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(reason, "strerror", None) or type(reason).__name__)
