"""What a browser has said and nobody has read yet, within bounds.

Flow: 9 browser
"""

from __future__ import annotations

from collections import deque

from frontend_bridge import messages as m
from frontend_bridge.ports import NOT_TEXT, RATE, TOO_LONG


class Inbox:
    """Frames in the order they came. `frames` and `total_bytes` (UTF-8) bound what may wait."""

    def __init__(self, *, frames: int, total_bytes: int) -> None:
        self._most_frames = frames
        self._most_bytes = total_bytes
        self._waiting: deque[tuple[str, int]] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, text: str | None, *, frame_bytes: int) -> m.Bye | None:
        """Keep a frame of at most `frame_bytes`, or answer why the socket must part; None as text is a binary frame."""
        if text is None:
            return NOT_TEXT
        size = len(text.encode())
        if size > frame_bytes:
            return TOO_LONG
        if len(self._waiting) >= self._most_frames or self._bytes + size > self._most_bytes:
            return RATE
        self._waiting.append((text, size))
        self._bytes += size
        return None

    def take(self) -> str:
        """The oldest frame."""
        text, size = self._waiting.popleft()
        self._bytes -= size
        return text
