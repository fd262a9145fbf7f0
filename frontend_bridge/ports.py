"""What a conversation needs from outside, and the numbers and words it parts with.

Flow: 9 browser
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

from frontend_bridge import messages as m
from frontend_bridge.feeds import Change, MaskFile, Opening, Position

UNKNOWN = m.Bye(code=4501, reason="Sign in, or send a ticket as the first frame.", reconnect=False)
BAD_TICKET = m.Bye(code=4501, reason="The ticket is wrong, used or too old. Ask for a new one.", reconnect=False)
SIGNED_OUT = m.Bye(code=4501, reason="Sign in to follow analyses.", reconnect=False)
TOO_MANY = m.Bye(
    code=4429, reason="Too many connections are open already; close some pages.", reconnect=True, retry_after_s=15.0
)
RATE = m.Bye(code=4429, reason="Too many frames.", reconnect=True, retry_after_s=5.0)
TOO_SLOW = m.Bye(code=4413, reason="The connection is too slow to keep up.", reconnect=True, retry_after_s=1.0)
NOT_TEXT = m.Bye(code=4503, reason="Only text frames are understood.", reconnect=False)
TOO_LONG = m.Bye(code=4503, reason="The frame is too long.", reconnect=False)
TROUBLE = m.Bye(code=4000, reason="The server had a problem.", reconnect=True, retry_after_s=2.0)
GOING_AWAY = m.Bye(code=4000, reason="The server restarts.", reconnect=True, retry_after_s=1.0)
GOING_AWAY_SPREAD_SECONDS = 4.0
"""Browsers add nothing to the first pause, so each is told another one: they do not come back all at once."""


def going_away(luck: float) -> m.Bye:
    """The farewell of a server that ends; `luck` is between 0 and 1."""
    return m.Bye(
        code=GOING_AWAY.code,
        reason=GOING_AWAY.reason,
        reconnect=True,
        retry_after_s=round(GOING_AWAY.retry_after_s + luck * GOING_AWAY_SPREAD_SECONDS, 1),
    )


class Farewell(Exception):
    """The conversation ends with this `bye`. `error`, if any, is the frame that says why in the code's own words."""

    def __init__(self, bye: m.Bye, *, error: m.Error | None = None) -> None:
        self.bye = bye
        self.error = error
        super().__init__(bye.reason)


@dataclass(frozen=True)
class Rhythm:
    """How often what is looked after, and how much of anything there may be. Seconds, bytes and counts."""

    position_seconds: float = 8.0
    permission_seconds: float = 300.0
    group_seconds: float = 600.0
    news_pause_seconds: float = 0.25
    silence_seconds: float = 25.0
    sign_in_seconds: float = 10.0
    unknown_frame_bytes: int = 4 * 1024
    frame_bytes: int = 64 * 1024
    mask_frame_bytes: int = 256 * 1024
    frames_per_second: float = 20.0
    frame_burst: int = 60
    topics: int = 64
    page: int = 100
    replay: int = 1000
    """How far behind the log a browser may be and still get every change, not a snapshot alone."""


def rhythm_of(limits: Any) -> Rhythm:
    """The rhythm within the operator's limits (settings.LIMITS)."""
    return Rhythm(
        sign_in_seconds=limits.hello_seconds,
        unknown_frame_bytes=limits.unknown_frame_bytes,
        frame_bytes=limits.control_message_bytes,
        mask_frame_bytes=limits.mask_frame_bytes,
        frames_per_second=limits.socket_messages_per_second,
        frame_burst=limits.socket_messages_burst,
    )


class Library(Protocol):
    """Where the truth is read (frontend_bridge.feeds, through a thread)."""

    async def admit(self, user: Any, topic: str) -> None: ...
    async def opening(self, user: Any, topic: str) -> Opening: ...
    async def since(self, topic: str, seq: int, *, limit: int) -> list[Change]: ...
    async def positions(self, names: list[str]) -> dict[str, Position]: ...
    async def mask_file(self, job_id: str) -> MaskFile | None: ...
    async def signed_in_user(self) -> Any | None: ...


class Wire(Protocol):
    """The socket and the groups that wake it up."""

    async def send(self, text: str) -> None: ...
    async def send_bytes(self, content: bytes) -> None: ...
    async def join(self, topic: str) -> bool: ...
    async def leave(self, topic: str) -> None: ...


def session_name(session_key: str | None) -> str:
    """What a session is called among processes: its key alone would sign anybody in who reads it."""
    return hashlib.sha256((session_key or "").encode()).hexdigest()
