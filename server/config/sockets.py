"""What stands in front of the sockets: whose session cookie counts, and the answer to an unknown path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import AnonymousUser

Application = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]


class SessionFromKnownOrigin:
    """Lets a session cookie count only when the page's full origin is allowed.

    A foreign page can open a socket with the person's cookie (cross-site WebSocket hijacking). Channels' own
    AllowedHostsOriginValidator compares the host alone, so `http://` and other ports of the same host pass.
    """

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if origin_of(scope) not in settings.ALLOWED_ORIGINS:
            scope = {**scope, "user": AnonymousUser()}
        await self.application(scope, receive, send)


def origin_of(scope: dict[str, Any]) -> str:
    """The Origin header of a handshake, or an empty text."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), "").lower()


class Unrouted(AsyncWebsocketConsumer):
    """Refuses a socket that no application serves."""

    async def connect(self) -> None:
        await self.close()
