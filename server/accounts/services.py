"""Making and withdrawing tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from server.accounts.models import ApiToken

PREFIX = "sega_"
SHOWN = len(PREFIX) + 6


def digest_of(token: str) -> str:
    """What is stored of a token: 256 random bits need no slow hash, and looking a digest up leaks nothing by time."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue_api_token(*, user: User, days: float | None = None) -> str:
    """A new token, shown this once. It is good for `days`, or as long as LIMITS says."""
    token = PREFIX + secrets.token_urlsafe(32)
    life = timedelta(days=settings.LIMITS.api_token_days if days is None else days)
    ApiToken.objects.create(user=user, digest=digest_of(token), prefix=token[:SHOWN], expires_at=timezone.now() + life)
    return token
