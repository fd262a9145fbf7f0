"""Byte ranges of a file (RFC 9110, section 14); pure. Django's FileResponse knows none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from server.imaging.errors import RangeInvalid

_SINGLE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True)
class Span:
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes that is."""
        return self.last - self.first + 1

    def content_range(self, size: int) -> str:
        """The Content-Range header of a part of `size` bytes."""
        return f"bytes {self.first}-{self.last}/{size}"


def asked_span(*, header: str, if_range: str, etag: str, size: int) -> Span | None:
    """What part is asked for; None means the whole: no range, several, another unit, or `If-Range` of another file.

    Raises:
        RangeInvalid: the part lies behind the end.
    """
    found = _SINGLE.fullmatch(header.strip())
    if found is None or (if_range and if_range.strip() != etag) or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise RangeInvalid(size)
    return Span(start, end)
