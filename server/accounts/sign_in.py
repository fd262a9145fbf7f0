"""Signing in with a password: who failed too often waits, and the audit log hears of it.

Two limits stand beside each other. django-axes counts one user name from one address. Here an address is counted over
all names, for those who try one password on many; that limit is wide, since a whole hospital may share an address.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from server import addresses
from server.accounts import throttle
from server.accounts.errors import TooMany
from server.audit.services import ANONYMOUS, actor_of, note

SCOPE = "sign_in"
NAMES_PER_ADDRESS = 10
"""How many people may each use up their own failures before their common address has to wait."""


def address_of(request: HttpRequest) -> str | None:
    """The client's address, as django-axes wants it."""
    return addresses.of_request(request) or None


class Patience:
    """The first authentication backend: it signs nobody in, and turns away an address that failed too often."""

    def authenticate(self, request: HttpRequest | None, **_: Any) -> None:
        """Raises PermissionDenied, which ends Django's search; `config.lockout` answers with how long to wait."""
        if request is None:
            return
        try:
            throttle.check_failures(SCOPE, addresses.of_request(request))
        except TooMany as refusal:
            request.wait_seconds = refusal.retry_after_seconds
            raise PermissionDenied from refusal


def on_signed_in(*, user: User, **_: Any) -> None:
    """Somebody has signed in."""
    note(actor=actor_of(user), action="user.sign_in")


def on_signed_out(*, user: User | None, **_: Any) -> None:
    """Somebody has signed out."""
    if user is not None:
        note(actor=actor_of(user), action="user.sign_out")


def on_refused(*, request: HttpRequest | None = None, **_: Any) -> None:
    """A password or a name was wrong. Whoever was turned away before is not counted and not written down again."""
    if request is None or (is_turned_away(request) and getattr(request, "axes_failures_since_start", None) is None):
        return
    address = addresses.of_request(request)
    throttle.failed(SCOPE, address, rounds=NAMES_PER_ADDRESS)
    note(actor=ANONYMOUS, action="user.refused", address=address or None)


def is_turned_away(request: HttpRequest) -> bool:
    """Whether whoever sent this request has to wait now."""
    return hasattr(request, "wait_seconds") or bool(getattr(request, "axes_locked_out", False))
