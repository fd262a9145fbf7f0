"""Telling that the wall clock was set, from a clock that cannot be."""

from dataclasses import dataclass

NOTICED_SECONDS = 5.0
"""Slewing and a slow look stay below; a lease is longer."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one moment, in seconds: the wall's since 1970, the monotonic one since anything."""

    wall: float
    monotonic: float


def jump_between(before: Reading, after: Reading) -> float:
    """By how many seconds the wall clock was set between two readings, later is positive; 0.0 when it was not.

    A machine that was suspended jumps as well: its monotonic clock stood still meanwhile.
    """
    jump = (after.wall - before.wall) - (after.monotonic - before.monotonic)
    return jump if abs(jump) >= NOTICED_SECONDS else 0.0
