"""Time that passes only when a test says so: an event loop that jumps instead of waiting."""

from __future__ import annotations

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any

START = 1_000.0
NOON = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)


class _Jumping(selectors.DefaultSelector):
    """Asks once, and where it would wait it moves the loop's clock on instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout:
            self.loop.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own, in seconds. Nothing in it ever waits."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.now = START
        self.set_by = 0.0
        super().__init__(selector)

    def time(self) -> float:
        """The loop's clock."""
        return self.now

    def monotonic(self) -> float:
        """The same, under the name that the product asks by."""
        return self.now

    def wall(self) -> datetime:
        """The time of day, as somebody may have set it."""
        return NOON + timedelta(seconds=self.now - START + self.set_by)

    def settle(self) -> None:
        """Let everything happen that can happen now."""
        self.run_until_complete(self._settle())

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass, with everything that becomes due in it."""
        self.run_until_complete(asyncio.sleep(seconds))
        self.settle()

    async def _settle(self) -> None:
        while True:
            await asyncio.sleep(0)
            if not self._ready:  # type: ignore[attr-defined]
                return
