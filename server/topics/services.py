"""Writing to a topic's log."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction

from server.topics.models import Topic, TopicEvent, new_epoch
from server.topics.pokes import poke

KEPT_EVENTS = 1000


# One statement to count and to learn the number; both databases have RETURNING, Django's update() has not.
_NEXT = "UPDATE topics_topic SET last_seq = last_seq + 1 WHERE name = %s RETURNING last_seq"


@transaction.atomic(savepoint=False)
def append(topic: str, *, kind: str, payload: dict[str, Any]) -> int:
    """Add one event in the caller's transaction and answer its seq; watchers are poked after the commit."""
    seq = _next_seq(topic)
    if seq is None:
        Topic.objects.get_or_create(name=topic)
        seq = _next_seq(topic) or 0
    TopicEvent(topic_id=topic, seq=seq, kind=kind, payload=payload).save(force_insert=True)
    if seq % KEPT_EVENTS == 0:
        TopicEvent.objects.filter(topic_id=topic, seq__lte=seq - KEPT_EVENTS).delete()
    transaction.on_commit(lambda: poke(topic, seq=seq))
    return seq


def _next_seq(topic: str) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, [topic])
        row = cursor.fetchone()
    return row[0] if row else None


@transaction.atomic
def begin_anew() -> None:
    """Give every log another life, so that whoever follows it reads it from the start."""
    for name in list(Topic.objects.values_list("name", flat=True)):
        Topic.objects.filter(name=name).update(epoch=new_epoch())
