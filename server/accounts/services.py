"""Making and withdrawing tokens."""

from __future__ import annotations

import hashlib
import secrets

from django.contrib.auth.models import User

from server.accounts.models import ApiToken

PREFIX = "sega_"


def digest_of(token: str) -> str:
    """What is stored of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue_api_token(*, user: User) -> str:
    """A new token, shown this once."""
    token = PREFIX + secrets.token_urlsafe(32)
    ApiToken.objects.create(user=user, digest=digest_of(token))
    return token
