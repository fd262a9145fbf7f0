"""What a request hears while the database is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection
from django.test import Client

pytestmark = pytest.mark.django_db

JOBS = "/api/mri/segmentation/jobs/"


@pytest.fixture
def browser(client: Client) -> Client:
    """Signed in; an error is answered and not raised into the test."""
    client.force_login(User.objects.create_user("reader"))
    client.raise_request_exception = False
    return client


@contextmanager
def failing(error: Exception) -> Iterator[None]:
    """Every statement fails."""

    def fail(*_: Any) -> None:
        raise error

    with connection.execute_wrapper(fail):
        yield


@pytest.mark.parametrize("error", [OperationalError("the connection is lost"), InterfaceError("already closed")])
def test_a_call_hears_that_the_database_is_away_and_when_to_ask_again(browser: Client, error: Exception) -> None:
    with failing(error):
        answer = browser.get(JOBS)

    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0


def test_a_page_says_it_in_words(browser: Client) -> None:
    with failing(OperationalError("deadlock detected")):
        answer = browser.get("/")

    assert answer.status_code == 503
    assert "ask again" in answer.content.decode().lower()
    assert "deadlock" not in answer.content.decode()


def test_what_nobody_foresaw_stays_a_failure_of_the_server(browser: Client) -> None:
    with failing(ZeroDivisionError("a bug")):
        answer = browser.get(JOBS)

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_server_error")
