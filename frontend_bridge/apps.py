"""The Django app of the browser leg: templates, static files, and no tables of its own."""

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out


class FrontendBridgeConfig(AppConfig):
    """Registers templates and static files, and tells a person's open sockets when they sign out."""

    name = "frontend_bridge"
    verbose_name = "Browser"

    def ready(self) -> None:
        user_logged_out.connect(_recheck_sockets, dispatch_uid="frontend_bridge.signed_out")


def _recheck_sockets(*, user: Any, **_: object) -> None:
    from server.topics import pokes

    if user is not None:
        pokes.poke(f"user:{user.pk}", seq=0)
