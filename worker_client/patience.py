"""Trying again: which failures pass, how long to wait, when it is enough, and the token that grows old meanwhile.

What a proxy or a captive portal answers in the server's place is told apart from the server's own words and tried
again: a computed mask is worth more than a quick verdict.

Flow: 6 run, 8 mask
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import msgspec

from worker_client.errors import (
    ChecksumRefused,
    Intercepted,
    LeaseGone,
    OffsetMoved,
    TokenRefused,
    TransferError,
    TransferRefused,
    Unreachable,
    UploadVanished,
)

PUZZLE_TRIES = 24
TOKEN_TRIES = 3
MAX_DELAY_SECONDS = 20.0

T = TypeVar("T")


class DataToken:
    """The token that moves one attempt's bytes. It grows old; `ask` lets the session fetch another."""

    def __init__(self, value: str, *, ask: Callable[[], None]) -> None:
        self.value = value
        self._ask = ask
        self._changed = asyncio.Event()

    def use(self, value: str) -> None:
        """From now on this one."""
        self.value = value
        self._changed.set()

    async def renewed(self, old: str) -> None:
        """Wait for an answer to `ask`, unless the token is another than `old` already."""
        if self.value == old:
            self._changed.clear()
            self._ask()
            await self._changed.wait()


def is_retryable(error: TransferError) -> bool:
    """Whether the same transfer may succeed when it is simply tried again.

    Yes: Unreachable (no network, timeout, 3xx of a captive portal, 408, 423, 425, 429, 5xx), ChecksumRefused (a chunk
    was damaged on its way), OffsetMoved (the server is asked for its offset before every try), Intercepted (something
    in between answered; not for ever).
    No: TokenRefused (needs another token), LeaseGone, DigestMismatch (fetched anew once, by the caller),
    UploadVanished (needs another upload), ForeignPath, TransferRefused.
    """
    return isinstance(error, Unreachable | ChecksumRefused | OffsetMoved | Intercepted)


def refusal(response: httpx.Response) -> TransferError | None:
    """What an answer other than success means; None for 2xx."""
    status = response.status_code
    if status < 300:
        return None
    if status < 400 or status in (408, 423, 425, 429) or status >= 500:
        return Unreachable(f"it answered {status}", retry_after=_seconds(response.headers.get("retry-after")))
    code = _problem_code(response)
    if status == 409:
        return OffsetMoved() if "offset" in code else LeaseGone()
    known = {401: TokenRefused, 403: TokenRefused, 404: UploadVanished, 410: UploadVanished, 460: ChecksumRefused}
    if status in known:
        return known[status]()
    # The server's refusals are problem documents with a code.
    return TransferRefused(status, code=code) if code else Intercepted(status)


class Patience:
    """Tries until it is enough. `wait` sleeps, `luck` is uniform in 0 to 1."""

    def __init__(self, *, wait: Callable[[float], Awaitable[None]], luck: Callable[[], float]) -> None:
        self._wait = wait
        self._luck = luck

    async def __call__(
        self,
        attempt: Callable[[str], Awaitable[T]],
        *,
        token: DataToken,
        tries: int | None = None,
        mark: Callable[[], object] = lambda: None,
    ) -> T:
        """Try until it succeeds, or `tries` times without `mark` getting on; None: as long as the attempt counts."""
        count = _Failures(mark())
        while True:
            bearer = token.value
            try:
                return await attempt(bearer)
            except TransferError as error:
                count.add(error, mark=mark(), tries=tries)
                if count.in_a_row > 1 or not isinstance(error, TokenRefused):
                    await self._wait(delay_seconds(count.in_a_row, error, luck=self._luck()))
                if isinstance(error, TokenRefused):
                    await token.renewed(bearer)


class _Failures:
    """Failures in a row, and when they are enough: `add` raises the last one then."""

    def __init__(self, mark: object) -> None:
        self.in_a_row = 0
        self._refusals = self._puzzles = 0
        self._mark = mark

    def add(self, error: TransferError, *, mark: object, tries: int | None) -> None:
        self.in_a_row = 1 if mark != self._mark else self.in_a_row + 1
        self._mark = mark
        if isinstance(error, TokenRefused):
            # A proxy's 403 looks the same. A mask that is computed waits for the server's own verdict.
            self._refusals += 1
            if tries is not None and self._refusals >= TOKEN_TRIES:
                raise error
            return
        if not is_retryable(error) or self.in_a_row == tries:
            raise error
        self._puzzles += isinstance(error, Intercepted | ChecksumRefused)
        if self._puzzles >= PUZZLE_TRIES:
            raise error


def delay_seconds(failures: int, error: TransferError, *, luck: float) -> float:
    """How long to wait before the next try: full jitter over a growing span, or longer when the server says so."""
    grown = luck * min(MAX_DELAY_SECONDS, 0.5 * 2.0 ** min(failures, 10))
    asked = error.retry_after if isinstance(error, Unreachable) else None
    return max(grown, asked or 0.0)


class _Problem(msgspec.Struct):
    code: str = ""


def _problem_code(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_Problem).code
    except (msgspec.DecodeError, UnicodeDecodeError, httpx.ResponseNotRead):
        return ""


def _seconds(text: str | None) -> float | None:
    return min(float(text), 600.0) if text is not None and text.isdecimal() else None
