"""One connection as the session sees it: what is numbered, heard, promised and asked on it, and gone with it.

Flow: 5 receive
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from worker_client.actions import Action, HangUp, Send
from worker_client.answers import Key
from worker_client.protocol.messages import Bye, Ready, Welcome

SIGN_IN_SECONDS = 15.0
SILENT_HEARTBEATS = 3
MOST_QUESTIONS = 256


@dataclass
class Line:
    """An open socket. Times are monotonic seconds."""

    opened_at: float
    heard_at: float
    heartbeat_at: float = float("inf")
    welcome: Welcome | None = None
    bye: Bye | None = None
    is_closing: bool = False
    said_ready: Ready | None = None
    questions: dict[int, Key] = field(default_factory=dict)
    last_id: int = 0

    @property
    def is_signed_in(self) -> bool:
        """Whether work may be spoken of."""
        return self.welcome is not None and not self.is_closing

    @property
    def silence_at(self) -> float:
        """When a silent server counts as gone."""
        if self.welcome is None:
            return self.opened_at + SIGN_IN_SECONDS
        return self.heard_at + SILENT_HEARTBEATS * self.welcome.hb_interval

    def say(self, message: Any, *, about: Key | None = None) -> Send:
        """The message under the next number; `about` is remembered, so that an error can be told to it."""
        self.last_id += 1
        if about is not None:
            self.questions[self.last_id] = about
            if len(self.questions) > MOST_QUESTIONS:
                del self.questions[next(iter(self.questions))]
        return Send(msgspec.structs.replace(message, id=self.last_id))

    def slept(self, seconds: float) -> None:
        """Time went by that the clock did not count: the silence was longer than it seems, and a heartbeat is due."""
        self.opened_at -= seconds
        self.heard_at -= seconds
        self.heartbeat_at -= seconds

    def hang_up(self, code: int, reason: str, *, comes_back: bool) -> list[Action]:
        """The last words, and the close after them."""
        self.is_closing = True
        return [self.say(Bye(code=code, reason=reason, reconnect=comes_back)), HangUp(code, reason)]
