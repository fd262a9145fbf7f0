"""What one browser is owed of one topic: its place in the log, the newest news, and the mask; pure.

Flow: 9 browser
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, UnsetType

from frontend_bridge import messages as m


@dataclass
class Subscription:
    """One `sub` of one socket.

    `seq` is the last change that was sent; `is_behind` that the log may hold more; `sure_seq` how far it certainly
    reached when somebody last looked.
    """

    topic: str
    epoch: str
    seq: int
    id: str | int | UnsetType = UNSET
    wants_mask: bool = True
    is_behind: bool = False
    sure_seq: int = 0
    news: dict[str, dict[str, Any]] = field(default_factory=dict)
    news_due: float = 0.0

    def note_poke(self, seq: int) -> None:
        """Somebody says the log has reached `seq`. Old pokes are dropped: they may be doubled or late."""
        if seq > self.seq:
            self.is_behind = True

    def note_news(self, kind: str, body: dict[str, Any]) -> None:
        """Keep the newest of its kind for each thing it is about; what was not sent yet is replaced."""
        self.news[f"{kind}/{body.get('id', '')}"] = {"kind": kind, "body": body}

    def note_position(self, epoch: str, seq: int) -> bool:
        """Compare with the log as it is; False when this is another life of the log and nothing here holds."""
        if not self.epoch:
            self.epoch = epoch
        if epoch != self.epoch:
            return False
        self.is_behind = self.is_behind or seq > self.seq
        self.sure_seq = seq
        return True

    def is_answered_by(self, changes: Sequence[Any]) -> bool:
        """Whether these changes go on where we are; if not, the log no longer reaches that far back."""
        return is_contiguous(changes, after=self.seq) and (bool(changes) or self.sure_seq <= self.seq)

    def take_news(self, *, now: float, pause_seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """What is to be sent now, and nothing again before the pause is over."""
        if not self.news or now < self.news_due:
            return []
        waiting, self.news = self.news, {}
        self.news_due = now + pause_seconds
        return [(entry["kind"], entry["body"]) for entry in waiting.values()]


def is_contiguous(changes: Sequence[Any], *, after: int) -> bool:
    """Whether `changes` follow `after` one by one; if not, the log no longer reaches that far back."""
    return all(change.seq == after + step for step, change in enumerate(changes, start=1))


def finished_job(view: object) -> str | None:
    """The job whose mask is there by this change or snapshot, if there is one."""
    job = view.job if isinstance(view, m.JobEvent) else view
    return job.id if isinstance(job, m.JobView) and job.result is not None else None
