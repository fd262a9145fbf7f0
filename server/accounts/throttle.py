"""How often: requests of one user, and failures from one address. Counted in Django's cache, so in Redis when there are
several servers; when that is away nobody is refused, since a lost count is better than a lost click.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.core.cache import cache

from server import addresses
from server.accounts.errors import TooMany

log = structlog.get_logger(__name__)

WINDOW_SECONDS = 60.0
STRIKES_SECONDS = 24 * 3600.0
LONGEST_SECONDS = 3600.0
AWAY_SECONDS = 5.0
"""How long the cache is not asked again after it failed: each try costs its time-out."""

_away_until = 0.0


def spend(scope: str, subject: object, *, per_minute: float) -> None:
    """Count one more of `scope` for `subject`.

    What counts is the running minute and, of the one before, as much as lies within sixty seconds. A refused one does
    not count.

    Raises:
        TooMany: there were `per_minute` of them within the last minute.
    """
    now = time.time()
    window, passed = divmod(now, WINDOW_SECONDS)
    key, key_before = (_key("spend", scope, subject, int(window) - back) for back in (0, 1))

    def count() -> tuple[int, int]:
        cache.add(key, 0, timeout=2 * WINDOW_SECONDS)
        return cache.incr(key), cache.get(key_before, 0)

    running, before = _asked(count, otherwise=(0, 0))
    if running + before * (1 - passed / WINDOW_SECONDS) > per_minute:
        _asked(lambda: cache.decr(key), otherwise=None)
        raise TooMany(retry_after_seconds=_wait(running - 1, before, per_minute=per_minute, passed=passed))


def check_failures(scope: str, address: str) -> None:
    """Whether somebody at `address` may try again.

    Raises:
        TooMany: they failed too often, and the time they were given has not passed.
    """
    left = _asked(lambda: cache.get(_until_key(scope, address), 0.0), otherwise=0.0) - time.time()
    if left > 0:
        raise TooMany(retry_after_seconds=left)


def failed(scope: str, address: str, *, rounds: int = 1) -> None:
    """Somebody at `address` failed. After `rounds` times LIMITS.failures_per_minute within a minute they wait one, the
    next time two, four … at most sixty."""

    def count() -> None:
        key = _key("fail", scope, addresses.group_of(address))
        cache.add(key, 0, timeout=WINDOW_SECONDS)
        if cache.incr(key) < rounds * settings.LIMITS.failures_per_minute:
            return
        strikes_key = _key("strikes", scope, addresses.group_of(address))
        cache.add(strikes_key, 0, timeout=STRIKES_SECONDS)
        strikes = cache.incr(strikes_key)
        seconds = min(LONGEST_SECONDS, WINDOW_SECONDS * 2 ** (strikes - 1))
        cache.set(_until_key(scope, address), time.time() + seconds, timeout=seconds)
        cache.delete(key)

    _asked(count, otherwise=None)


def _until_key(scope: str, address: str) -> str:
    return _key("until", scope, addresses.group_of(address))


def _key(*parts: object) -> str:
    """Some of it comes from outside, so it is neither long nor odd in the cache."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _wait(running: int, before: int, *, per_minute: float, passed: float) -> float:
    room = per_minute - 1 - running
    if room >= 0:
        return WINDOW_SECONDS * (1 - room / before) - passed
    # Not within this window; in the next one it weighs less and less.
    return WINDOW_SECONDS - passed + WINDOW_SECONDS * (1 - (per_minute - 1) / running)


def _asked(ask: Callable[[], Any], *, otherwise: Any) -> Any:
    global _away_until  # noqa: PLW0603  (one cache a process)
    if time.monotonic() < _away_until:
        return otherwise
    try:
        return ask()
    except Exception as error:  # noqa: BLE001  (each cache has its own failures, and none may refuse a click)
        _away_until = time.monotonic() + AWAY_SECONDS
        log.warning("the cache of the limits is away; nothing is limited", cause=type(error).__name__)
        return otherwise
