"""Taking back what somebody is signed in with, by hand of an administrator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from server.accounts import tickets
from server.accounts.auth import user_of_token
from server.accounts.models import ApiToken, Ticket
from server.accounts.services import digest_of, issue_api_token, tidy
from server.audit.models import Entry

pytestmark = pytest.mark.django_db


@pytest.fixture
def doctor() -> User:
    return User.objects.create_user("doctor")


@pytest.fixture
def admin() -> Client:
    """The admin of a superuser."""
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


def acted(admin: Client, model: str, action: str, *rows: Any) -> None:
    """Choose rows and an action."""
    body = {"action": action, "_selected_action": [row.pk for row in rows]}
    assert admin.post(f"/admin/{model}/", body).status_code == 302


def test_everything_somebody_is_signed_in_with_ends_at_once(admin: Client, doctor: User) -> None:
    phone, desk, colleague = Client(), Client(), Client()
    for browser, user in ((phone, doctor), (desk, doctor), (colleague, User.objects.create_user("colleague"))):
        browser.force_login(user)
    token = issue_api_token(user=doctor)
    ticket = tickets.issue(doctor, session_key=phone.session.session_key)

    acted(admin, "auth/user", "sign_out_everywhere", doctor)

    assert {browser.get("/api/mri/studies/").status_code for browser in (phone, desk)} == {401}
    assert colleague.get("/api/mri/studies/").status_code == 200
    assert (user_of_token(token), tickets.redeem(ticket), Ticket.objects.count()) == (None, None, 0)
    assert Session.objects.count() == 2


def test_a_token_is_told_apart_by_how_it_begins_and_taken_back(admin: Client, doctor: User) -> None:
    lost, kept = issue_api_token(user=doctor), issue_api_token(user=doctor)

    assert lost[:11] in admin.get("/admin/accounts/apitoken/").content.decode()
    acted(admin, "accounts/apitoken", "revoke", ApiToken.objects.get(prefix=lost[:11]))

    assert (user_of_token(lost), user_of_token(kept)) == (None, doctor)
    done = Entry.objects.filter(action="token.revoke").get()
    assert (done.actor.partition(":")[0], done.ids["user"]) == ("user", str(doctor.pk))


def test_a_token_runs_out(doctor: User) -> None:
    year, week = issue_api_token(user=doctor), issue_api_token(user=doctor, days=7)

    lives = {token.prefix: token.expires_at - timezone.now() for token in ApiToken.objects.all()}
    assert timedelta(days=364) < lives[year[:11]] < timedelta(days=366)
    assert timedelta(days=6) < lives[week[:11]] < timedelta(days=8)
    ApiToken.objects.filter(prefix=week[:11]).update(expires_at=timezone.now())
    assert user_of_token(week) is None


def test_its_last_use_is_noted_once_an_hour(doctor: User) -> None:
    token = issue_api_token(user=doctor)
    client = Client(headers={"Authorization": f"Bearer {token}"})
    client.get("/api/mri/studies/")

    used_at = ApiToken.objects.get().last_used_at
    client.get("/api/mri/studies/")

    assert used_at is not None
    assert ApiToken.objects.get().last_used_at == used_at


def test_what_has_run_out_is_cleared_away_and_nothing_else(doctor: User) -> None:
    browser = Client()
    browser.force_login(doctor)
    key = browser.session.session_key
    kept = tickets.issue(doctor, session_key=key)
    tickets.issue(doctor, session_key=key)
    yesterday = timezone.now() - timedelta(days=1)
    Ticket.objects.exclude(digest=digest_of(kept)).update(expires_at=yesterday)
    Session.objects.create(session_key="old", session_data="", expire_date=yesterday)

    tidy()

    assert [session.pk for session in Session.objects.all()] == [key]
    assert tickets.redeem(kept) is not None
    assert not Ticket.objects.exists()
