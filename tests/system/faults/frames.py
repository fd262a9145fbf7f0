"""Where messages end in a stream of bytes: WebSocket frames after an upgrade, anything else piece by piece."""

from __future__ import annotations

from typing import NamedTuple

HEAD_END = b"\r\n\r\n"
LONGEST_HEAD = 64 * 1024
LENGTH_16 = 126
LENGTH_64 = 127


class Part(NamedTuple):
    """Bytes as they came, whether a message ends with them, and whether they are one whole WebSocket frame."""

    octets: bytes
    ends_message: bool = False
    is_whole_frame: bool = False


class MessageMeter:
    """Cuts one direction of a connection into parts, and says of each whether a message ends with it.

    A frame that is not whole yet is passed on as it comes.
    """

    def __init__(self) -> None:
        self._head = b""
        self._is_websocket: bool | None = None
        self._missing = 0
        self._start = b""

    def split(self, piece: bytes) -> list[Part]:
        """The same bytes in parts, each at most to the end of one message, and what each is."""
        if self._is_websocket is None:
            return self._split_head(piece)
        return self._split_frames(piece) if self._is_websocket else [Part(piece, ends_message=True)]

    def _split_head(self, piece: bytes) -> list[Part]:
        before = len(self._head)
        self._head += piece
        end = self._head.find(HEAD_END)
        if end < 0:
            self._is_websocket = None if len(self._head) < LONGEST_HEAD else False
            return [Part(piece, ends_message=self._is_websocket is False)]
        self._is_websocket = b"upgrade: websocket" in self._head[:end].lower()
        own = end + len(HEAD_END) - before
        rest = piece[own:]
        return [Part(piece[:own], ends_message=True), *(self.split(rest) if rest else [])]

    def _split_frames(self, piece: bytes) -> list[Part]:
        parts: list[Part] = []
        at = 0
        while at < len(piece):
            is_start = not self._missing and not self._start
            if not self._missing:
                taken = self._begin(piece[at:])
                if taken is None:
                    parts.append(Part(piece[at:]))
                    return parts
                self._missing = taken
            step = min(self._missing, len(piece) - at)
            is_whole = step == self._missing and is_start
            self._missing -= step
            parts.append(Part(piece[at : at + step], ends_message=not self._missing, is_whole_frame=is_whole))
            at += step
        return parts

    def _begin(self, rest: bytes) -> int | None:
        """How many bytes of `rest` and what follows belong to the frame that begins here; None if that is unknown."""
        seen = self._start + rest
        size = _frame_size(seen)
        if size is None:
            self._start = seen
            return None
        missing = size - len(self._start)
        self._start = b""
        return missing


def _frame_size(seen: bytes) -> int | None:
    """Header and payload of a frame (RFC 6455, 5.2), or None when the header is not there in full."""
    if len(seen) < 2:
        return None
    masked, length = 4 if seen[1] & 0x80 else 0, seen[1] & 0x7F
    wide = {LENGTH_16: 2, LENGTH_64: 8}.get(length, 0)
    if len(seen) < 2 + wide:
        return None
    if wide:
        length = int.from_bytes(seen[2 : 2 + wide], "big")
    return 2 + wide + masked + length
