"""Making and withdrawing tokens, and ending sessions."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from server.accounts.models import ApiToken, Ticket
from server.audit.services import SERVER, note

PREFIX = "sega_"
SHOWN = len(PREFIX) + 6


def digest_of(token: str) -> str:
    """What is stored of a token: 256 random bits need no slow hash, and looking a digest up leaks nothing by time."""
    return hashlib.sha256(token.encode()).hexdigest()


@transaction.atomic
def issue_api_token(*, user: User, days: float | None = None, by: str = SERVER) -> str:
    """A new token, shown this once. It is good for `days`, or as long as LIMITS says."""
    token = PREFIX + secrets.token_urlsafe(32)
    life = timedelta(days=settings.LIMITS.api_token_days if days is None else days)
    made = ApiToken.objects.create(
        user=user, digest=digest_of(token), prefix=token[:SHOWN], expires_at=timezone.now() + life
    )
    note(actor=by, action="token.issue", token=str(made.pk), user=str(user.pk))
    return token


@transaction.atomic
def revoke_api_token(*, token: ApiToken, by: str) -> None:
    """The token opens nothing any more. It is saved by itself, so that sockets that came by it hear of it."""
    token.revoked_at = timezone.now()
    token.save(update_fields=["revoked_at"])
    note(actor=by, action="token.revoke", token=str(token.pk), user=str(token.user_id))


@transaction.atomic
def sign_out_everywhere(*, user: User, by: str) -> None:
    """End all that `user` is signed in with. The password stays; who knows it can sign in again."""
    open_sessions = Session.objects.filter(expire_date__gt=timezone.now())
    mine = [one.pk for one in open_sessions.iterator() if one.get_decoded().get(SESSION_KEY) == str(user.pk)]
    Session.objects.filter(pk__in=mine).delete()
    Ticket.objects.filter(user=user).delete()
    for token in ApiToken.objects.filter(user=user, revoked_at=None):
        revoke_api_token(token=token, by=by)
    note(actor=by, action="user.sign_out_everywhere", user=str(user.pk))
    user.save(update_fields=["is_active"])  # unchanged: open sockets hear that they shall look at their rights again


def tidy() -> None:
    """Drop sessions and tickets that have run out."""
    now = timezone.now()
    Session.objects.filter(expire_date__lte=now).delete()
    Ticket.objects.filter(expires_at__lte=now).delete()
