"""Tickets: a person or program that is signed in over HTTP opens a socket elsewhere, without a cookie there.

A ticket is good once, for LIMITS.ticket_seconds. It travels in the first frame and never in an address, since
addresses are logged.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from server.accounts import binding
from server.accounts.models import Ticket
from server.accounts.services import digest_of

PREFIX = "segt_"


def issue(user: Any, *, session_key: str) -> str:
    """A new ticket for `user`, shown this once.

    `session_key` is what the socket depends on while it is open: see `binding.user_of`.
    """
    now = timezone.now()
    ticket = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        Ticket.objects.filter(expires_at__lte=now).delete()
        Ticket.objects.create(
            digest=digest_of(ticket),
            user=user,
            session_key=session_key,
            expires_at=now + timedelta(seconds=settings.LIMITS.ticket_seconds),
        )
    return ticket


def redeem(ticket: str) -> tuple[User, str] | None:
    """Whose ticket it was and what its socket depends on; None for one that is unknown, used or too old.

    Of two who bring the same ticket at once, the one whose DELETE removes the row has it. A ticket whose session was
    signed out since, or whose token was revoked, is worth nothing.
    """
    if not ticket.startswith(PREFIX):
        return None
    mine = Ticket.objects.filter(digest=digest_of(ticket), expires_at__gt=timezone.now())
    with transaction.atomic():
        found = mine.first()
        removed, _ = mine.delete()
    if found is None or removed != 1:
        return None
    user = binding.user_of(found.session_key)
    return (user, found.session_key) if user is not None and user.pk == found.user_id else None
