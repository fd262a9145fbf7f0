"""Why a conversation with a worker ends, and what it is told on the way.

Flow: 4 push
"""

from worker_client.protocol import messages as m
from worker_client.protocol.errors import CloseCode

SUPERSEDED_RETRY_SECONDS = 30.0
TOO_MANY_RETRY_SECONDS = 10.0
APPROVAL_RETRY_SECONDS = 30.0
COPY_RETRY_SECONDS = 60.0
LATE_SECONDS = 5.0
GOING_AWAY_SECONDS = 0.5
GOING_AWAY_JITTER_SECONDS = 3.0


class Farewell(Exception):
    """The conversation ends; `bye` is still to be said, unless the line is gone (None)."""

    def __init__(self, bye: m.Bye | None, *, is_orderly: bool) -> None:
        self.bye = bye
        self.is_orderly = is_orderly
        super().__init__(bye.reason if bye else "the line is gone")


GONE = Farewell(None, is_orderly=False)


def farewell(
    code: CloseCode,
    reason: str,
    *,
    retry_seconds: float = 0.0,
    jitter_seconds: float = 0.0,
    is_passing: bool = False,
) -> Farewell:
    """The end for this reason. Whether the worker may come back by itself follows from the code, unless it passes."""
    bye = m.Bye(
        code=code,
        reason=reason,
        reconnect=is_passing or code.may_reconnect,
        retry_after_s=retry_seconds,
        jitter_s=jitter_seconds,
    )
    return Farewell(bye, is_orderly=code is not CloseCode.HEARTBEAT_LOST)


def going_away() -> Farewell:
    """The server stops; whoever comes back finds it, or another one, in a moment, and not all at once."""
    return farewell(
        CloseCode.GOING_AWAY,
        "the server is going away",
        retry_seconds=GOING_AWAY_SECONDS,
        jitter_seconds=GOING_AWAY_JITTER_SECONDS,
    )


def superseded() -> Farewell:
    """The worker has signed in anew, or the rows say that this session is over."""
    return farewell(CloseCode.SUPERSEDED, "a newer session has taken over", retry_seconds=SUPERSEDED_RETRY_SECONDS)


def revoked() -> Farewell:
    """An administrator wants nothing more of this worker."""
    return farewell(CloseCode.REVOKED, "this worker may no longer work for this server")


def too_many(reason: str, *, retry_seconds: float = TOO_MANY_RETRY_SECONDS) -> Farewell:
    """Somebody talks faster than is listened to, or tries too often."""
    return farewell(CloseCode.TOO_MANY_MESSAGES, reason, retry_seconds=retry_seconds)


def unreadable(code: str) -> Farewell:
    """A frame is no message; the same frame would be no better next time."""
    return farewell(CloseCode.PROTOCOL_ERROR, f"a frame could not be read: {code}")


def first_of(group: BaseExceptionGroup[Farewell]) -> Farewell:
    """The one reason among those that several tasks gave."""
    found = group.exceptions[0]
    return first_of(found) if isinstance(found, BaseExceptionGroup) else found
