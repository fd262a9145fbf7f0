"""multipart/related (RFC 2046, 5.1), a piece at a time: an answer of gigabytes passes through some kilobytes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from email.message import Message
from enum import Enum, auto

from server.pacs.errors import ArchiveUnclear

LONGEST_HEAD = 8192
LONGEST_PREAMBLE = 65_536


class Mark(Enum):
    """What lies between the bytes of parts."""

    BEGIN = auto()
    END = auto()


class _Place(Enum):
    PREAMBLE = auto()
    HEAD = auto()
    BODY = auto()
    CLOSED = auto()


class Parts:
    """Takes an answer apart without I/O: `feed` what has come, `close` at its end."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._place = _Place.PREAMBLE
        self._kept = b"\r\n"  # so that a delimiter at the very beginning is found like any other
        self._skipped = 0

    def feed(self, piece: bytes) -> Iterator[Mark | bytes]:
        """What the bytes so far say: for each part BEGIN, its bytes in pieces, END. Raises ArchiveUnclear."""
        self._kept += piece
        while (said := self._step()) is not None:
            yield from said

    def close(self) -> None:
        """The answer has ended. Raises ArchiveUnclear when it had more to say."""
        if self._place is not _Place.CLOSED:
            raise ArchiveUnclear("The archive's answer ends in the middle of an image.")

    def _step(self) -> list[Mark | bytes] | None:
        """One step on; None when more bytes are needed."""
        if self._place is _Place.BODY:
            return self._body()
        if self._place is _Place.HEAD:
            return self._head()
        if self._place is _Place.PREAMBLE:
            return self._preamble()
        self._kept = b""
        return None

    def _preamble(self) -> list[Mark | bytes] | None:
        before, delimiter, rest = self._kept.partition(self._delimiter)
        if delimiter:
            self._kept, self._place = rest, _Place.HEAD
            return []
        self._kept = before[-len(self._delimiter) :]
        self._skipped += len(before) - len(self._kept)
        if self._skipped > LONGEST_PREAMBLE:
            raise ArchiveUnclear("The archive's answer has no parts.")
        return None

    def _head(self) -> list[Mark | bytes] | None:
        if self._kept.startswith(b"--"):
            self._place = _Place.CLOSED
            return []
        _, blank, rest = self._kept.partition(b"\r\n\r\n")
        if blank:
            self._kept, self._place = rest, _Place.BODY
            return [Mark.BEGIN]
        if len(self._kept) > LONGEST_HEAD:
            raise ArchiveUnclear("The head of a part of the archive's answer does not end.")
        return None

    def _body(self) -> list[Mark | bytes] | None:
        before, delimiter, rest = self._kept.partition(self._delimiter)
        if delimiter:
            self._kept, self._place = rest, _Place.HEAD
            return [before, Mark.END] if before else [Mark.END]
        sure = len(self._kept) - len(self._delimiter) + 1
        if sure <= 0:
            return None
        piece, self._kept = self._kept[:sure], self._kept[sure:]
        return [piece]


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a Content-Type names; None when it is not that of several parts."""
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_maintype() != "multipart":
        return None
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 200 or not boundary.isascii():
        raise ArchiveUnclear("The archive's answer does not say where its parts end.")
    return boundary.encode()


def joined(files: Iterable[bytes]) -> tuple[str, bytes]:
    """The Content-Type and the body that hold DICOM files."""
    boundary = secrets.token_hex(16)
    body = b"".join(
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + content + b"\r\n" for content in files
    )
    kind = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
    return kind, body + f"--{boundary}--\r\n".encode()
