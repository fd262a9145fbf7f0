"""Tickets: one socket, thirty seconds, one use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from server.accounts import binding, tickets
from server.accounts.models import ApiToken, Ticket
from server.accounts.services import issue_api_token

pytestmark = pytest.mark.django_db
ADDRESS = "/api/ws-ticket/"


@pytest.fixture
def doctor() -> User:
    return User.objects.create_user("doctor", password="not-so-secret")


def signed_in(user: User) -> str:
    """The key of a session."""
    browser = Client()
    browser.force_login(user)
    return browser.session.session_key


def test_a_ticket_is_good_once(doctor: User) -> None:
    key = signed_in(doctor)
    ticket = tickets.issue(doctor, session_key=key)

    assert tickets.redeem(ticket) == (doctor, key)
    assert tickets.redeem(ticket) is None


@pytest.mark.django_db(transaction=True)
def test_of_eight_who_bring_the_same_ticket_at_once_one_gets_in(doctor: User) -> None:
    ticket = tickets.issue(doctor, session_key=signed_in(doctor))

    def redeemed(_: int) -> bool:
        try:
            return tickets.redeem(ticket) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        admitted = list(threads.map(redeemed, range(8)))

    assert admitted.count(True) == 1


def test_a_ticket_is_not_stored_as_it_is(doctor: User) -> None:
    ticket = tickets.issue(doctor, session_key="k")

    assert ticket not in str(Ticket.objects.values().get())


def test_an_old_ticket_is_worth_nothing_and_is_cleared_away(doctor: User) -> None:
    old = tickets.issue(doctor, session_key=signed_in(doctor))
    Ticket.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert tickets.redeem(old) is None
    tickets.issue(doctor, session_key="k")
    assert Ticket.objects.count() == 1


@pytest.mark.parametrize("text", ["", "segt_", "segt_nonsense", "sega_nonsense", "x" * 10_000])
def test_a_made_up_ticket_is_worth_nothing(doctor: User, text: str) -> None:
    tickets.issue(doctor, session_key="k")

    assert tickets.redeem(text) is None


def test_a_ticket_of_somebody_who_left_is_worth_nothing(doctor: User) -> None:
    ticket = tickets.issue(doctor, session_key=signed_in(doctor))
    User.objects.update(is_active=False)

    assert tickets.redeem(ticket) is None


def test_signing_out_takes_the_tickets_of_the_session_along(doctor: User, client: Client) -> None:
    client.force_login(doctor)
    ticket = client.post(ADDRESS).json()["ticket"]

    client.post("/logout/")

    assert tickets.redeem(ticket) is None


def test_a_ticket_is_of_one_user_and_one_session_together(doctor: User) -> None:
    ticket = tickets.issue(doctor, session_key=signed_in(User.objects.create_user("other")))

    assert tickets.redeem(ticket) is None


def test_a_session_gets_a_ticket_that_depends_on_it(doctor: User, client: Client) -> None:
    client.force_login(doctor)

    answer = client.post(ADDRESS).json()

    user, key = tickets.redeem(answer["ticket"])
    assert (user, answer["expires_in"]) == (doctor, 30.0)
    assert binding.user_of(key) == doctor
    client.post("/logout/")
    assert binding.user_of(key) is None


def test_a_program_gets_a_ticket_that_depends_on_its_token(doctor: User, client: Client) -> None:
    token = issue_api_token(user=doctor)

    answer = client.post(ADDRESS, headers={"Authorization": f"Bearer {token}"}).json()

    _, key = tickets.redeem(answer["ticket"])
    assert binding.user_of(key) == doctor
    ApiToken.objects.update(revoked_at=timezone.now())
    assert binding.user_of(key) is None


def test_a_new_password_ends_what_depends_on_the_session(doctor: User, client: Client) -> None:
    client.force_login(doctor)
    _, key = tickets.redeem(client.post(ADDRESS).json()["ticket"])

    doctor.set_password("another-one-entirely")
    doctor.save()

    assert binding.user_of(key) is None


def test_a_foreign_page_gets_no_ticket(doctor: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(doctor)

    answer = browser.post(ADDRESS, headers={"Origin": "https://elsewhere.example"})

    assert (answer.status_code, Ticket.objects.count()) == (403, 0)


def test_tickets_run_out_of_supply(doctor: User, client: Client, settings: Any) -> None:
    settings.LIMITS = replace(settings.LIMITS, requests_per_minute=3)
    client.force_login(doctor)

    answers = [client.post(ADDRESS) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "too_many_requests"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 120
