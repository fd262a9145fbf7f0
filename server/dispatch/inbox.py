"""What waits for a conversation: frames at a bounded rate, notes of the server, and the end.

Daphne never pushes back, so a worker that floods its socket must be stopped here: every frame takes a token, frames
without one are refused by name, and when that goes on the conversation ends.

Flow: 4 push
"""

import asyncio
import time
from dataclasses import dataclass

import msgspec
from django.conf import settings

from server.core.bucket import Bucket
from server.dispatch.farewells import Farewell, too_many
from server.dispatch.selectors import Offer

FRAMES_OF_A_STRANGER = 4
"""Hello, and a few types from the future before it."""
FORGIVEN_PER_SECOND = 1.0
NOTES = frozenset({"worker.poke", "worker.offers", "worker.probe", "worker.alive", "worker.superseded"})
"""What another part of the server may say; anything else is from a newer one, and passed over."""


@dataclass(frozen=True)
class Frame:
    """A text frame of the worker."""

    text: str


@dataclass(frozen=True)
class Refusal:
    """A frame that came too fast and was not kept; `number` is its id, 0 when it has none."""

    number: int


@dataclass(frozen=True)
class Note:
    """A word from another part of the server, by way of the channel layer."""

    kind: str
    reply_to: str = ""


Item = Frame | Refusal | Note | Offer | Farewell


class _Numbered(msgspec.Struct):
    id: int = 0


_numbered = msgspec.json.Decoder(_Numbered)


class Inbox:
    """Put down from anywhere on the loop, picked up by the one task of the conversation."""

    def __init__(self) -> None:
        limits, now = settings.LIMITS, time.monotonic()
        burst = float(limits.socket_messages_burst)
        self._queue: asyncio.Queue[Item] = asyncio.Queue()
        self._frames = Bucket.full(per_second=limits.socket_messages_per_second, burst=burst, at=now)
        self._pardons = Bucket.full(per_second=FORGIVEN_PER_SECOND, burst=burst, at=now)
        self._strange_frames = 0
        self._is_known = self._is_closed = False

    def welcome(self) -> None:
        """The worker has said who it is: from now on it may say more than a stranger."""
        self._is_known = True

    def put(self, item: Frame | Note | Offer | Farewell) -> None:
        """Put something down; after the end nothing is kept any more."""
        if self._is_closed:
            return
        kept = self._let_in(item) if isinstance(item, Frame) else item
        self._is_closed = isinstance(kept, Farewell)
        self._queue.put_nowait(kept)

    async def get(self) -> Item:
        """The next thing that was put down."""
        return await self._queue.get()

    def _let_in(self, frame: Frame) -> Item:
        if not self._is_known:
            self._strange_frames += 1
            if self._strange_frames > FRAMES_OF_A_STRANGER:
                return too_many("hello comes first")
            return frame
        now = time.monotonic()
        self._frames, is_allowed = self._frames.take(now)
        if is_allowed:
            return frame
        self._pardons, is_pardoned = self._pardons.take(now)
        return Refusal(number_of(frame.text)) if is_pardoned else too_many("too many messages")


def number_of(frame: str | bytes) -> int:
    """The id of a frame, 0 when it has none or cannot be read."""
    try:
        return _numbered.decode(frame).id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return 0
