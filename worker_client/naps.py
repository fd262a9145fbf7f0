"""Noticing that the machine slept: the clock that deadlines run by stops meanwhile, and leases do not."""

from __future__ import annotations

import time
from collections.abc import Callable

# Linux has a clock that counts sleep under its own name; on macOS it is this one. Windows' monotonic clock counts it.
_COUNTS_SLEEP: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def uncounted_seconds() -> float:
    """How much of the time since the machine was started the monotonic clock has not counted."""
    return 0.0 if _COUNTS_SLEEP is None else time.clock_gettime(_COUNTS_SLEEP) - time.monotonic()


class Naps:
    """Tells how long the machine slept since it was asked last."""

    def __init__(self, uncounted: Callable[[], float] = uncounted_seconds) -> None:
        self._uncounted = uncounted
        self._before = uncounted()

    def since_last(self) -> float:
        """Seconds asleep."""
        now = self._uncounted()
        slept, self._before = max(0.0, now - self._before), now
        return slept
