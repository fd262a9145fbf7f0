"""What both ways to the server have in common: whom they carry for, and how they end.

Flow: 5 receive
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from worker_client.comeback import Verdict
from worker_client.protocol.errors import ProtocolError
from worker_client.protocol.messages import FromServer, FromWorker

NO_CLOSE_FRAME = 1006


class Owner(Protocol):
    """Who a link carries for: told of everything on the event loop, one call at a time."""

    @property
    def is_urgent(self) -> bool:
        """Whether the server waits for our work."""

    def opened(self) -> None:
        """A connection is there; the server speaks first."""

    def received(self, message: FromServer) -> None:
        """A message came."""

    def garbled(self, error: ProtocolError) -> None:
        """A frame came that is no message."""

    def unsendable(self, message: FromWorker) -> None:
        """This message is longer than the server takes, and was not sent."""

    def closed(self, *, code: int, reason: str) -> Verdict:
        """The connection is gone; whether to come back."""


@dataclass(frozen=True)
class End:
    """How a conversation ended. `status` is that of an HTTP answer that refused it."""

    code: int = NO_CLOSE_FRAME
    reason: str = ""
    welcomed_at: float | None = None
    was_heard: bool = False
    status: int | None = None
