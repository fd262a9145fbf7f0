"""Whether and when a worker connects again after its connection ended. Pure: luck and time are given.

Flow: 5 receive
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker_client.protocol.errors import CloseCode
from worker_client.protocol.messages import Bye

ALREADY_CONNECTED_SECONDS = 60.0
FIRST_DELAY_SECONDS = 0.5
URGENT_CAP_SECONDS = 3.0
CAP_SECONDS = 30.0
SETTLED_SECONDS = 60.0
REFUSALS_UNTIL_SLOW = 3

_LEAST_WAIT_SECONDS: Mapping[int, float] = {
    CloseCode.SUPERSEDED: 30.0,
    CloseCode.TOO_MANY_MESSAGES: 10.0,
    CloseCode.ALREADY_CONNECTED: ALREADY_CONNECTED_SECONDS,
}


@dataclass(frozen=True)
class ComeBack:
    """The connection may be made again, at the earliest in `after_seconds` + up to `jitter_seconds`."""

    after_seconds: float = 0.0
    jitter_seconds: float = 0.0


@dataclass(frozen=True)
class StayAway:
    """The connection ended for good; a person must look at it."""

    code: int
    reason: str


Verdict = ComeBack | StayAway


def after_close(*, code: int, reason: str, bye: Bye | None) -> Verdict:
    """What the end of a connection means. The server's `bye` counts; without one, the close code's range does.

    1000 (Daphne's own time limit) and 1006 (no close frame at all) are ordinary ends.
    """
    if bye is not None:
        return _after_bye(bye)
    if 4500 <= code <= 4999 and code != CloseCode.ALREADY_CONNECTED:
        return StayAway(code=code, reason=reason)
    return ComeBack(after_seconds=_LEAST_WAIT_SECONDS.get(code, 0.0))


def _after_bye(bye: Bye) -> Verdict:
    # Another machine with this key may be gone in a minute; anything else that forbids coming back needs a person.
    if not bye.reconnect and bye.code != CloseCode.ALREADY_CONNECTED:
        return StayAway(code=bye.code, reason=bye.reason)
    least = _LEAST_WAIT_SECONDS.get(bye.code, 0.0)
    return ComeBack(after_seconds=max(least, bye.retry_after_s), jitter_seconds=bye.jitter_s)


class Backoff:
    """How long to wait before the next attempt: full jitter, growing, and patient with a server that says no.

    The count starts again only after a connection was welcomed and lived for a minute: a server that accepts
    and closes at once would otherwise be asked many times a second.
    """

    def __init__(self) -> None:
        self._attempts = 0
        self._refusals = 0

    def ended(self, *, signed_in_seconds: float, status: int | None = None) -> None:
        """A connection ended, `signed_in_seconds` after its welcome, or was answered with an HTTP `status`."""
        self._refusals = self._refusals + 1 if status in (401, 403) else 0
        self._attempts = 1 if signed_in_seconds >= SETTLED_SECONDS else self._attempts + 1

    def delay(self, verdict: ComeBack, *, is_urgent: bool, luck: float) -> float:
        """Seconds to wait. `luck` is uniform in 0 to 1; `is_urgent` while the server waits for our work."""
        cap = URGENT_CAP_SECONDS if is_urgent else CAP_SECONDS
        if self._refusals >= REFUSALS_UNTIL_SLOW:
            return max(CAP_SECONDS * (0.5 + luck), verdict.after_seconds)
        grown = min(cap, FIRST_DELAY_SECONDS * 2.0 ** min(self._attempts, 16))
        return verdict.after_seconds + luck * max(grown, verdict.jitter_seconds)
