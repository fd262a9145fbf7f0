"""The Django app of the browser leg: templates, static files, and no tables of its own."""

from django.apps import AppConfig


class FrontendBridgeConfig(AppConfig):
    """Registers templates and static files, and listens for what ends a person's open sockets."""

    name = "frontend_bridge"
    verbose_name = "Browser"

    def ready(self) -> None:
        from frontend_bridge import control

        control.listen()
