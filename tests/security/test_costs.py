"""A refusal costs the same whatever the reason is, so that its time tells nothing: counted, not measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from server.dispatch import keys, reception
from server.dispatch.enrolment import issue_enrol_token
from server.dispatch.models import EnrolToken
from tests.server.dispatch.fakes import Machine

pytestmark = pytest.mark.django_db


class Counting(MD5PasswordHasher):
    """Knows how often it had to work."""

    worked = 0

    def encode(self, password: str, salt: str) -> str:
        type(self).worked += 1
        return super().encode(password, salt)


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Each signature that was looked at, and whether it was good."""
    looked: list[bool] = []
    real = keys.has_signed

    def has_signed(**given: Any) -> bool:
        looked.append(real(**given))
        return looked[-1]

    monkeypatch.setattr(keys, "has_signed", has_signed)
    return looked


def cost(act: Callable[[], object]) -> list[str]:
    """The kinds of statements that something takes, in order."""
    cache.clear()
    with CaptureQueriesContext(connection) as queries:
        act()
    kinds = (query["sql"].split(" WHERE ")[0].split(" VALUES ")[0] for query in queries.captured_queries)
    return [kind for kind in kinds if "SAVEPOINT" not in kind]


def enrolled(machine: Machine, with_token: str, **changes: str) -> int:
    """The status of an application."""
    body = {**machine.application(with_token), **changes}
    return Client().post("/api/worker/enrol/", json.dumps(body), content_type="application/json").status_code


def test_a_token_that_is_unknown_used_or_too_old_costs_the_same(signatures: list[bool]) -> None:
    used, old, unknown = issue_enrol_token(name="a"), issue_enrol_token(name="b"), keys.new_enrol_token()
    assert enrolled(Machine(), used) == 200
    EnrolToken.objects.filter(digest=keys.digest_of(old)).update(expires_at=timezone.now() - timedelta(hours=1))
    signatures.clear()

    costs = [cost(lambda token=token: enrolled(Machine(), token)) for token in (unknown, used, old)]

    assert costs[0] == costs[1] == costs[2]
    assert signatures == [True, True, True]


def test_a_proof_is_looked_at_even_when_nothing_else_fits(signatures: list[bool]) -> None:
    odd = [{"token": "nonsense"}, {"public_key": "nonsense"}, {"proof": "nonsense"}, {"name": "another"}]

    statuses = [enrolled(Machine(), issue_enrol_token(name="a"), **change) for change in odd]

    assert statuses == [403] * 4
    assert signatures == [False] * 4


@pytest.mark.parametrize("is_known", [True, False])
def test_an_unknown_worker_costs_as_many_looks_at_a_signature(signatures: list[bool], *, is_known: bool) -> None:
    machine = Machine()
    worker_id = machine.enrolled().pk if is_known else "nobody"
    hello = Machine().hello("bm9uY2U=", worker_id)

    statements = cost(lambda: reception._identity_of(worker_id))
    identity = reception._identity_of(worker_id)
    is_believed = reception._has_signed(hello, identity, nonce="bm9uY2U=", hosts=frozenset({"testserver"}))

    assert (len(statements), is_believed, len(signatures)) == (1, False, 2)


def test_an_unknown_user_costs_a_password_too(settings: Any) -> None:
    settings.PASSWORD_HASHERS = [f"{__name__}.Counting"]
    User.objects.create_user("doctor", password="not-so-secret-1")
    User.objects.create_user("left", password="not-so-secret-1", is_active=False)
    worked = {}

    for name in ("doctor", "nobody", "left"):
        Counting.worked = 0
        assert Client().post("/login/", {"username": name, "password": "wrong"}).status_code == 200
        worked[name] = Counting.worked

    assert worked == {"doctor": 1, "nobody": 1, "left": 1}
