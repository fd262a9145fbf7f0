"""Reading a topic's log."""

from __future__ import annotations

from server.topics.models import Topic, TopicEvent


def position(topic: str) -> tuple[str, int]:
    """Epoch and newest seq of a topic; a topic that nothing was written to yet is at ("", 0)."""
    found = Topic.objects.filter(name=topic).values_list("epoch", "last_seq").first()
    return found or ("", 0)


def positions(topics: list[str]) -> dict[str, tuple[str, int]]:
    """Epoch and newest seq of many topics in one query."""
    rows = Topic.objects.filter(name__in=topics).values_list("name", "epoch", "last_seq")
    return {name: (epoch, seq) for name, epoch, seq in rows}


def events_since(topic: str, seq: int, *, limit: int | None = None) -> list[TopicEvent]:
    """Events after `seq`, in order; at most `limit` of them, the oldest first.

    The first has a seq other than seq + 1 when the log no longer reaches that far.
    """
    return list(TopicEvent.objects.filter(topic_id=topic, seq__gt=seq).order_by("seq")[:limit])
