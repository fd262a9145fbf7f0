"""When to try again: later every time, and never many at the same moment."""

from __future__ import annotations

FIRST_SECONDS = 2.0
LONGEST_SECONDS = 900.0


def wait_seconds(failures: int, *, spread: float) -> float:
    """After so many failures in a row (1, 2, …). `spread` is a random number from 0 to 1: the wait is between half
    and the whole of 2, 4, 8 … 900 seconds."""
    whole = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (min(max(failures, 1), 30) - 1))
    return whole * (0.5 + 0.5 * spread)
