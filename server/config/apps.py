"""The composition root as an app: its system checks run with `manage.py check`."""

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    name = "server.config"
    label = "config"

    def ready(self) -> None:
        from server.config import checks  # noqa: F401  (registers the checks)
