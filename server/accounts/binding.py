"""What an open socket depends on: the session it was opened with, or the API token. Looked up again now and then."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.http import HttpRequest

from server.accounts.auth import valid_tokens

_TOKEN = "token:"  # noqa: S105  (a prefix)


def key_of(request: HttpRequest) -> str:
    """What a request that is signed in was signed in with: a session key, or `token:<id>`."""
    token = getattr(request, "api_token", None)
    if token is not None:
        return f"{_TOKEN}{token.pk}"
    return request.session.session_key or ""


def user_of(session_key: str | None) -> User | None:
    """Whose it is by the database as it is now; None once signed out, revoked, inactive, or the password changed."""
    if session_key and session_key.startswith(_TOKEN):
        token = valid_tokens().select_related("user").filter(pk=session_key.removeprefix(_TOKEN)).first()
        return token.user if token else None
    request: Any = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user if user.is_authenticated and user.is_active else None
