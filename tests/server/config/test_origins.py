"""What pages of other origins may ask: those that are listed, of the API alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from server.accounts.services import issue_api_token
from server.config.csp import HEADER

pytestmark = pytest.mark.django_db
LISTED, FOREIGN = "https://viewer.example.org", "https://elsewhere.example.org"
ALLOW = "Access-Control-Allow-Origin"


@pytest.fixture(autouse=True)
def listed(settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = [LISTED]
    settings.ALLOWED_ORIGINS = [*settings.ALLOWED_ORIGINS, LISTED]
    settings.CSRF_TRUSTED_ORIGINS = [*settings.CSRF_TRUSTED_ORIGINS, LISTED]


@pytest.fixture
def doctor() -> User:
    return User.objects.create_user("doctor", first_name="Dana", password="not-so-secret")


def asked_before(origin: str, path: str) -> Any:
    """The answer to the question that a browser asks before it sends something."""
    wants = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    return Client().options(path, headers={"origin": origin, **wants})


def test_a_listed_page_may_send_what_a_viewer_sends() -> None:
    answer = asked_before(LISTED, "/api/ws-ticket/")

    assert answer.headers[ALLOW] == LISTED
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert {"authorization", "x-csrftoken", "idempotency-key"} <= set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("origin", "path"),
    [
        (FOREIGN, "/api/ws-ticket/"),
        ("null", "/api/ws-ticket/"),
        (f"{LISTED}.example.net", "/api/mri/studies/"),
        (LISTED, "/login/"),
        (LISTED, "/admin/"),
        (LISTED, "/metrics"),
        (LISTED, "/api/worker/sync/"),
    ],
)
def test_nobody_else_may_and_nothing_else(origin: str, path: str) -> None:
    before, answer = asked_before(origin, path), Client().get(path, headers={"origin": origin})

    assert ALLOW not in before.headers
    assert ALLOW not in answer.headers


def test_a_refusal_can_be_read_too_and_keeps_the_policy() -> None:
    answer = Client().get("/api/mri/studies/", headers={"origin": LISTED})

    assert (answer.status_code, answer.headers[ALLOW]) == (401, LISTED)
    assert answer.headers["Content-Security-Policy"] == HEADER


def test_a_listed_page_learns_who_is_signed_in_and_can_then_make_changes(doctor: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(doctor)
    origin = {"origin": LISTED, "sec-fetch-site": "same-site"}

    me = browser.get("/api/session/", headers=origin).json()
    without = browser.post("/api/ws-ticket/", headers=origin)
    with_token = browser.post("/api/ws-ticket/", headers={**origin, "x-csrftoken": me["csrf_token"]})

    assert (me["username"], me["name"]) == ("doctor", "Dana")
    assert (without.status_code, with_token.status_code) == (403, 200)


def test_an_api_token_needs_no_csrf_token(doctor: User) -> None:
    bearer = {
        "origin": LISTED,
        "sec-fetch-site": "cross-site",
        "authorization": f"Bearer {issue_api_token(user=doctor)}",
    }

    me = Client().get("/api/session/", headers=bearer).json()
    ticket = Client(enforce_csrf_checks=True).post("/api/ws-ticket/", headers=bearer)

    assert (me["username"], me["csrf_token"]) == ("doctor", "")
    assert ticket.status_code == 200
