"""A viewer that keeps its own account: what it was told, and whether anything was missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Viewer:
    """Follows one topic as a page does, over any number of connections. `told` is (epoch, seq) of each event."""

    topic: str
    epoch: str | None = None
    seq: int = 0
    told: list[tuple[str | None, int]] = field(default_factory=list)
    snapshot: dict[str, Any] | None = None
    snapshots: int = 0

    def asks(self) -> dict[str, Any]:
        """The `sub` of a new connection."""
        known = {} if self.epoch is None else {"epoch": self.epoch, "seq": self.seq}
        return {"t": "sub", "topic": self.topic, **known}

    def hears(self, frame: dict[str, Any]) -> None:
        """One frame. Fails on a gap, on an event told twice, and on one out of order."""
        if frame["t"] == "sub.ok":
            self._starts(frame)
        elif frame["t"] == "event":
            assert frame["seq"] == self.seq + 1, f"after {self.seq} came {frame['seq']}"
            self.seq = frame["seq"]
            self.told.append((self.epoch, self.seq))
            self.snapshot = frame.get("job") or self.snapshot

    def _starts(self, frame: dict[str, Any]) -> None:
        self.snapshots += not frame["recovered"]
        if frame["recovered"]:
            assert frame["epoch"] in {self.epoch, ""}
            assert frame["seq"] == self.seq
        else:
            self.seq, self.snapshot = frame["seq"], frame["snapshot"]
        self.epoch = frame["epoch"]
