"""API tokens: shown once, kept as a digest, worth nothing once revoked."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from server.accounts.auth import user_of_token
from server.accounts.models import ApiToken
from server.accounts.services import issue_api_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return User.objects.create_user("doctor")


def test_a_token_speaks_for_its_user(doctor: User) -> None:
    token = issue_api_token(user=doctor)

    assert user_of_token(token) == doctor
    assert not ApiToken.objects.filter(digest__contains=token).exists()


@pytest.mark.parametrize("token", ["", "sega_", "sega_nonsense", "Bearer x"])
def test_a_made_up_token_speaks_for_nobody(doctor: User, token: str) -> None:
    issue_api_token(user=doctor)

    assert user_of_token(token) is None


def test_a_revoked_token_and_one_of_a_gone_user_speak_for_nobody(doctor: User) -> None:
    revoked, orphaned = issue_api_token(user=doctor), issue_api_token(user=User.objects.create_user("gone"))
    ApiToken.objects.filter(user=doctor).update(revoked_at=timezone.now())
    User.objects.filter(username="gone").update(is_active=False)

    assert user_of_token(revoked) is None
    assert user_of_token(orphaned) is None


def test_the_command_prints_the_token_alone(doctor: User) -> None:
    out = io.StringIO()

    call_command("api_token", "doctor", stdout=out)

    assert user_of_token(out.getvalue().strip()) == doctor


def test_the_command_names_an_unknown_user() -> None:
    with pytest.raises(CommandError, match="nobody"):
        call_command("api_token", "nobody")
