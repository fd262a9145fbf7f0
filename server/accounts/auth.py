"""The two ways to say who speaks over HTTP: the session cookie (with CSRF), or `Authorization: Bearer <api token>`."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer

from server.accounts.models import ApiToken
from server.accounts.services import PREFIX, digest_of


def user_of_token(token: str) -> User | None:
    """The active user that a token stands for."""
    if not token.startswith(PREFIX):
        return None
    found = (
        ApiToken.objects.select_related("user")
        .filter(digest=digest_of(token), revoked_at=None, user__is_active=True)
        .first()
    )
    return found.user if found else None


class BearerAuth(HttpBearer):
    """A program that speaks for a user."""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        user = user_of_token(token)
        if user is not None:
            request.user = user
        return user


class SessionAuth(APIKeyCookie):
    """A person in a browser; changes need the CSRF token."""

    param_name = settings.SESSION_COOKIE_NAME

    def _get_key(self, request: HttpRequest) -> str | None:
        # Without a cookie the answer is "sign in", not "your CSRF token is missing".
        return super()._get_key(request) if self.param_name in request.COOKIES else None

    def authenticate(self, request: HttpRequest, key: str | None) -> User | None:
        return request.user if key and request.user.is_authenticated else None


user_auth = [BearerAuth(), SessionAuth()]
