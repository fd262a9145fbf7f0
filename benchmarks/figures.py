"""What the benchmarks share: percentiles, and the last line of `name=value` figures."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(seconds: Sequence[float], rank: float) -> float:
    """The value below which `rank` (0 to 1) of them lie; the nearest one, nothing is interpolated."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(rank * len(ordered)))]


def milliseconds(seconds: float) -> str:
    """For example 3.2ms."""
    return f"{seconds * 1000:.1f}ms"


def table(title: str, rows: dict[str, Sequence[float]]) -> None:
    """One line a row: median, 99th percentile, largest, and how many."""
    print(f"\n{title}")
    width = max(len(name) for name in rows)
    for name, seconds in rows.items():
        p50, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
        print(
            f"  {name:<{width}}  p50 {milliseconds(p50):>9}  p99 {milliseconds(p99):>9}"
            f"  max {milliseconds(max(seconds)):>9}  n={len(seconds)}"
        )


def last_line(**figures: str) -> None:
    """The line that programs read."""
    print("\n" + " ".join(f"{name}={value}" for name, value in figures.items()))
