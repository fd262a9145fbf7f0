"""Signing in: patience with one name, with one address, and a session that is new each time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import AsyncClient, Client

from server.audit.models import Entry

pytestmark = pytest.mark.django_db
PASSWORD = "not-so-secret-1"
DOORS = ("/login/", "/admin/login/")


@pytest.fixture
def doctor() -> User:
    return User.objects.create_user("doctor", password=PASSWORD, is_staff=True)


def tried(client: Client, *, password: str = "wrong", name: str = "doctor", door: str = "/login/", **more: Any) -> Any:
    """The answer to one attempt."""
    return client.post(door, {"username": name, "password": password}, **more)


@pytest.mark.parametrize("door", DOORS)
def test_five_wrong_passwords_make_a_name_wait(doctor: User, client: Client, door: str) -> None:
    answers = [tried(client, door=door) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "300"
    locked = tried(client, door=door, password=PASSWORD)
    assert (locked.status_code, "_auth_user_id" in client.session) == (429, False)


def test_the_page_says_how_long_in_both_languages(doctor: User, client: Client) -> None:
    for _ in range(5):
        tried(client)

    english, korean = (tried(client, headers={"Accept-Language": tongue}) for tongue in ("en", "ko"))

    assert "Try again in 5 minutes" in english.content.decode()
    assert "5분 뒤에" in korean.content.decode()


def test_a_program_is_told_by_a_problem_document(doctor: User, client: Client) -> None:
    for _ in range(5):
        tried(client)

    answer = tried(client, headers={"Accept": "application/json"})

    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["status"]) == ("too_many_requests", 429)


@pytest.mark.django_db(transaction=True)
async def test_the_answer_is_the_same_on_the_event_loop(doctor: User) -> None:
    """django-axes' own middleware fails there, with a NameError."""
    client = AsyncClient()

    for _ in range(5):
        answer = await client.post("/login/", {"username": "doctor", "password": "wrong"})

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "300")


def test_the_lock_outlives_the_process(doctor: User, client: Client) -> None:
    for _ in range(5):
        tried(client)

    cache.clear()

    assert tried(client, password=PASSWORD).status_code == 429


def test_another_address_of_the_same_name_is_served(doctor: User, client: Client) -> None:
    """Otherwise anybody could lock a doctor out."""
    for _ in range(5):
        tried(client, REMOTE_ADDR="203.0.113.9")

    assert tried(client, password=PASSWORD, REMOTE_ADDR="203.0.113.10").status_code == 302


def test_a_client_cannot_choose_its_address(doctor: User, client: Client) -> None:
    for number in range(6):
        answer = tried(client, REMOTE_ADDR="203.0.113.9", headers={"X-Forwarded-For": f"198.51.100.{number}"})

    assert answer.status_code == 429


def test_one_password_on_many_names_makes_the_address_wait(client: Client, settings: Any) -> None:
    settings.LIMITS = replace(settings.LIMITS, failures_per_minute=1)

    answers = [tried(client, name=f"name{number}", REMOTE_ADDR="203.0.113.9") for number in range(11)]

    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[-1].headers["Retry-After"] == "60"


def test_a_success_forgives_the_failures_before_it(doctor: User, client: Client) -> None:
    for _ in range(4):
        tried(client)
    tried(client, password=PASSWORD)

    assert [tried(Client()).status_code for _ in range(4)] == [200] * 4


def test_a_session_has_a_new_key_after_the_sign_in(doctor: User, client: Client) -> None:
    """Session fixation: a key that somebody planted is worth nothing."""
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key

    tried(client, password=PASSWORD)

    assert client.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()


def test_a_session_ends_after_twelve_hours_and_at_sign_out(doctor: User, client: Client) -> None:
    tried(client, password=PASSWORD)

    assert client.session.get_expiry_age() == 12 * 3600
    client.post("/logout/")
    assert not Session.objects.exists()


def test_a_new_password_ends_every_session(doctor: User, client: Client) -> None:
    tried(client, password=PASSWORD)

    doctor.set_password("another-one-entirely")
    doctor.save()

    assert client.get("/api/mri/studies/").status_code == 401


def test_who_came_and_who_was_refused_is_in_the_audit_log(doctor: User, client: Client) -> None:
    for _ in range(6):
        tried(client, REMOTE_ADDR="203.0.113.9")
    tried(client, password=PASSWORD)
    client.post("/logout/")

    entries = list(Entry.objects.order_by("id").values_list("actor", "action", "address"))
    me = f"user:{doctor.pk}"
    assert entries == [
        *[("anonymous", "user.refused", "203.0.113.9")] * 5,
        (me, "user.sign_in", None),
        (me, "user.sign_out", None),
    ]


def test_what_is_kept_of_an_attempt_holds_no_password_and_no_token(doctor: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    form = browser.get("/login/").context["csrf_token"]
    body = {"username": "doctor", "password": "hunter2-hunter2", "csrfmiddlewaretoken": str(form)}
    browser.post("/login/", body)

    kept = str(AccessAttempt.objects.values().get())

    assert "hunter2" not in kept
    assert str(form) not in kept
