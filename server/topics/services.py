"""Writing to a topic's log."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F

from server.topics.models import Topic, TopicEvent
from server.topics.pokes import poke

KEPT_EVENTS = 1000


@transaction.atomic
def append(topic: str, *, kind: str, payload: dict[str, Any]) -> int:
    """Add one event in the caller's transaction and answer its seq; watchers are poked after the commit."""
    if not Topic.objects.filter(name=topic).update(last_seq=F("last_seq") + 1):
        Topic.objects.get_or_create(name=topic)
        Topic.objects.filter(name=topic).update(last_seq=F("last_seq") + 1)
    seq = Topic.objects.values_list("last_seq", flat=True).get(name=topic)
    TopicEvent.objects.create(topic_id=topic, seq=seq, kind=kind, payload=payload)
    if seq % KEPT_EVENTS == 0:
        TopicEvent.objects.filter(topic_id=topic, seq__lte=seq - KEPT_EVENTS).delete()
    transaction.on_commit(lambda: poke(topic, seq=seq))
    return seq
