"""What waits to be said to the server, whichever way it goes.

Flow: 7 progress
"""

from __future__ import annotations

import asyncio
from collections import deque

from worker_client.actions import HangUp
from worker_client.protocol.codec import MAX_FRAME_BYTES
from worker_client.protocol.errors import CloseCode
from worker_client.protocol.messages import FromWorker, JobPreview, JobProgress

MOST_WAITING = 256
LEAST_FRAME_BYTES = 4096

Item = FromWorker | HangUp


class Outgoing:
    """Messages in order. A newer progress or preview takes the place of an older one of the same job.

    `frame_bytes` is what the server takes. When more waits than a slow line could ever explain, all of it goes and
    the line ends: everything durable lies in the outbox and is said again.
    """

    def __init__(self) -> None:
        self.frame_bytes = MAX_FRAME_BYTES
        self.hang_up: HangUp | None = None
        self.is_ending = asyncio.Event()
        self._waiting: deque[Item] = deque()
        self._news = asyncio.Event()

    def allow(self, frame_bytes: int) -> None:
        """The server's own limit; never above the protocol's."""
        self.frame_bytes = min(MAX_FRAME_BYTES, max(frame_bytes, LEAST_FRAME_BYTES))

    def put(self, item: Item) -> None:
        """Add something at the end."""
        older = next((one for one in self._waiting if _is_outdated(one, by=item)), None)
        if older is not None:
            self._waiting.remove(older)
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            item = HangUp(CloseCode.TOO_SLOW, "too much waits to be said")
        if isinstance(item, HangUp):
            self.hang_up = item
            self.is_ending.set()
        self._waiting.append(item)
        self._news.set()

    @property
    def has_news(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting)

    async def wait(self) -> None:
        """Until something waits."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()

    async def get(self) -> Item:
        """The next message, once there is one."""
        await self.wait()
        return self._waiting.popleft()

    def pop(self) -> Item:
        """The next message, which must be there."""
        return self._waiting.popleft()


def _is_outdated(older: Item, *, by: Item) -> bool:
    for kind in (JobProgress, JobPreview):
        if isinstance(older, kind) and isinstance(by, kind):
            return older.job == by.job
    return False
