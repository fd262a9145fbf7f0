"""Which way leads to the server: the WebSocket, or HTTPS where something in between lets no WebSocket through. Pure.

HTTPS is chosen only on proof: the WebSocket has failed for a while, the server answers over HTTPS, and one more
WebSocket fails after that answer. A server that is simply away proves nothing.

Flow: 5 receive
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worker_client.comeback import SETTLED_SECONDS

Way = Literal["websocket", "https"]

PATIENCE_SECONDS = 60.0


@dataclass
class Ways:
    """What was seen of both ways. Times are monotonic seconds."""

    patience_seconds: float = PATIENCE_SECONDS
    failing_since: float | None = None
    is_blocked: bool = False

    def needs_proof(self, *, at: float) -> bool:
        """Whether the WebSocket has failed for so long that the server should be asked over HTTPS."""
        return self.failing_since is not None and at - self.failing_since >= self.patience_seconds

    def socket_failed(self, *, began_at: float, has_proof: bool) -> None:
        """A WebSocket could not be opened, or never carried a word. `has_proof`: the server answered over HTTPS."""
        if self.failing_since is None:
            self.failing_since = began_at
        self.is_blocked = self.is_blocked or has_proof

    def socket_spoke(self) -> None:
        """A WebSocket carried a word of the server's."""
        self.failing_since = None

    def socket_ended(self, *, signed_in_seconds: float) -> None:
        """A WebSocket ended. One that did not last proves little after the way was blocked."""
        if signed_in_seconds >= SETTLED_SECONDS:
            self.is_blocked = False

    def longest_pause(self, *, at: float) -> float:
        """After this many seconds the next step must not wait any longer."""
        if self.failing_since is None or self.is_blocked or self.needs_proof(at=at):
            return float("inf")
        return max(0.0, self.failing_since + self.patience_seconds - at)
