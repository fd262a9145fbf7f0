"""The two ways to say who speaks over HTTP: the session cookie (with CSRF), or `Authorization: Bearer <api token>`."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from ninja.security import APIKeyCookie, HttpBearer

from server import addresses
from server.accounts import throttle
from server.accounts.models import ApiToken
from server.accounts.services import PREFIX, digest_of

NOTED_EVERY = timedelta(hours=1)


def valid_tokens() -> QuerySet[ApiToken]:
    """Tokens that were not revoked and have not run out, of users who are active."""
    in_time = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return ApiToken.objects.filter(in_time, revoked_at=None, user__is_active=True)


def token_of(text: str) -> ApiToken | None:
    """The token, with its user."""
    if not text.startswith(PREFIX):
        return None
    return valid_tokens().select_related("user").filter(digest=digest_of(text)).first()


def user_of_token(text: str) -> User | None:
    """The active user that a token stands for."""
    token = token_of(text)
    return token.user if token else None


class BearerAuth(HttpBearer):
    """A program that speaks for a user. Whoever guesses is slowed down."""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        found = token_of(token)
        if found is None:
            # A worker's data token is no guess: the routes that take one read it themselves.
            if token.startswith(PREFIX):
                _slow_down(addresses.of_request(request))
            return None
        _note_use(found)
        request.user, request.api_token = found.user, found
        return found.user


def _slow_down(address: str) -> None:
    throttle.check_failures("bearer", address)
    throttle.failed("bearer", address)


def _note_use(token: ApiToken) -> None:
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


class SessionAuth(APIKeyCookie):
    """A person in a browser; changes need the CSRF token."""

    param_name = settings.SESSION_COOKIE_NAME

    def _get_key(self, request: HttpRequest) -> str | None:
        # Without a cookie the answer is "sign in", not "your CSRF token is missing".
        return super()._get_key(request) if self.param_name in request.COOKIES else None

    def authenticate(self, request: HttpRequest, key: str | None) -> User | None:
        return request.user if key and request.user.is_authenticated else None


user_auth = [BearerAuth(), SessionAuth()]
