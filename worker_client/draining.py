"""When no new work is taken: before this process ends, or because the server asks for it.

Flow: 5 receive
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worker_client.protocol.messages import Drain

Because = Literal["shutdown", "owner"]


@dataclass
class Draining:
    """Times are monotonic seconds. `leaves_at`: this process ends, then at the latest. `asked`: the server's wish."""

    leaves_at: float | None = None
    is_overdue: bool = False
    is_asked: bool = False
    asked_until: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether no new work is taken."""
        return self.is_asked or self.leaves_at is not None

    @property
    def is_leaving(self) -> bool:
        """Whether this process shall end."""
        return self.leaves_at is not None

    def ask(self, wish: Drain, *, at: float) -> None:
        """The server asks for it, or takes that back. `deadline` is in seconds from now."""
        self.is_asked = not wish.is_over
        is_bounded = self.is_asked and wish.deadline is not None
        self.asked_until = at + max(wish.deadline or 0.0, 0.0) if is_bounded else None

    def forget_wish(self) -> None:
        """Another connection: a server that still wants it says so again."""
        self.is_asked, self.asked_until = False, None

    def due(self, at: float) -> Because | None:
        """Why what is not done has to be given back now; told once for every deadline."""
        if self.leaves_at is not None and at >= self.leaves_at and not self.is_overdue:
            self.is_overdue = True
            return "shutdown"
        if self.asked_until is not None and at >= self.asked_until:
            self.asked_until = None
            return "owner"
        return None

    def times(self) -> list[float]:
        """When something is due."""
        leaves_at = None if self.is_overdue else self.leaves_at
        return [time for time in (leaves_at, self.asked_until) if time is not None]

    def slept(self, seconds: float) -> None:
        """Time went by that the clock did not count."""
        if self.leaves_at is not None:
            self.leaves_at -= seconds
        if self.asked_until is not None:
            self.asked_until -= seconds
