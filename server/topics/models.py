"""The log of the topics `study:<id>` and `workers`. A job keeps its own (jobs.JobEvent), with the same rules."""

from __future__ import annotations

import uuid

from django.db import models


def new_epoch() -> str:
    """A random name for one life of a log; another life starts counting again."""
    return uuid.uuid4().hex


class Topic(models.Model):
    """One log: its `epoch` and the `seq` of its newest event."""

    name = models.CharField(max_length=80, primary_key=True)
    epoch = models.CharField(max_length=32, default=new_epoch)
    last_seq = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class TopicEvent(models.Model):
    """One change. `seq` has no gaps within a topic."""

    topic = models.ForeignKey(Topic, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=40)
    payload = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["topic", "seq"], name="topic_event_seq")]
        ordering = ["seq"]

    def __str__(self) -> str:
        return f"{self.topic_id} {self.seq}"
