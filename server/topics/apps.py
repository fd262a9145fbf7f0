"""Topics: an ordered log of changes for each thing that somebody may watch."""

from django.apps import AppConfig


class TopicsConfig(AppConfig):
    name = "server.topics"
    label = "topics"
