"""The Django app of the browser leg: templates, static files, and no tables of its own."""

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.http import HttpRequest


class FrontendBridgeConfig(AppConfig):
    """Registers templates and static files, and tells a person's open sockets when they sign out."""

    name = "frontend_bridge"
    verbose_name = "Browser"

    def ready(self) -> None:
        user_logged_out.connect(_end_sockets, dispatch_uid="frontend_bridge.signed_out")


def _end_sockets(*, request: HttpRequest, user: Any, **_: object) -> None:
    """Django says so before the session is gone, so looking it up again could still find it: name it instead."""
    from frontend_bridge.ports import session_name
    from server.topics import pokes

    if user is not None:
        body = {"session": session_name(request.session.session_key)}
        pokes.news(f"user:{user.pk}", kind="signed_out", body=body)
