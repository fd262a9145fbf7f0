"""Finished masks on their way to one browser: each is read when its turn comes, and goes frame by frame.

Flow: 9 browser
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from frontend_bridge import messages as m
from frontend_bridge.feeds import MaskFile


@dataclass
class _OnItsWay:
    """A mask of which `sent` frames have gone. Its file is not read before its turn comes."""

    job: str
    id: Any
    file: MaskFile | None = None
    sent: int = 0


class MaskPost:
    """Between two frames other messages pass, and only one mask at a time is in memory."""

    def __init__(
        self,
        *,
        frame_bytes: int,
        send: Callable[[m.Frame], Awaitable[None]],
        send_bytes: Callable[[bytes], Awaitable[None]],
        read: Callable[[str], Awaitable[MaskFile | None]],
    ) -> None:
        self._frame_bytes = frame_bytes
        self._send = send
        self._send_bytes = send_bytes
        self._read = read
        self._waiting: deque[_OnItsWay] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether there is something to send."""
        return bool(self._waiting)

    def post(self, job: str, *, id: Any) -> None:
        """The mask of `job` is to go out."""
        self._waiting.append(_OnItsWay(job=job, id=id))

    async def forget(self, job: str) -> None:
        """Nobody waits for this one any more, or nobody may see it: not one more byte of it goes out."""
        kept = deque(one for one in self._waiting if one.job != job)
        begun = next((one for one in self._waiting if one.job == job and one.sent), None)
        self._waiting = kept
        if begun is not None:
            await self._send(m.MaskEnd(job=job, id=begun.id))

    async def send_frame(self) -> None:
        """The next frame of the mask whose turn it is."""
        if not self._waiting:
            return
        mask = self._waiting[0]
        if mask.file is None:
            mask.file = await self._read(mask.job)
        if mask.file is None:
            self._waiting.popleft()
            return
        await self._send_next(mask, mask.file)

    async def _send_next(self, mask: _OnItsWay, file: MaskFile) -> None:
        step, size = self._frame_bytes, len(file.content)
        frames = math.ceil(size / step)
        if mask.sent == 0:
            await self._send(m.MaskBegin(job=mask.job, size=size, sha256=file.sha256, frames=frames, id=mask.id))
        await self._send_bytes(file.content[mask.sent * step : (mask.sent + 1) * step])
        mask.sent += 1
        if mask.sent >= frames:
            self._waiting.popleft()
            await self._send(m.MaskEnd(job=mask.job, id=mask.id))
