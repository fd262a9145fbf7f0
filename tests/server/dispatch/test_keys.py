"""Signatures and tokens."""

import time

import pytest
from django.core import signing

from server.dispatch import keys
from server.dispatch.errors import DataTokenRefused
from tests.server.dispatch.fakes import Machine, base64_of

CLAIM = keys.DataClaim(job="j", fence=3, worker="w", artifacts=("a", "b"))


def test_only_the_holder_of_the_key_has_signed():
    machine, other = Machine(), Machine()
    signature = base64_of(machine.key.sign(b"text"))

    assert keys.has_signed(public_key=machine.public_key, signature=signature, text=b"text")
    assert not keys.has_signed(public_key=machine.public_key, signature=signature, text=b"another text")
    assert not keys.has_signed(public_key=other.public_key, signature=signature, text=b"text")


@pytest.mark.parametrize("signature", ["", "no base64!", "AAAA", base64_of(bytes(64))])
def test_garbage_is_no_signature(signature):
    assert not keys.has_signed(public_key=Machine().public_key, signature=signature, text=b"text")


def test_nobody_signs_for_an_unknown_worker():
    assert not keys.has_signed(public_key="", signature=base64_of(bytes(64)), text=b"text")


@pytest.mark.parametrize("text", ["", "AAAA", base64_of(bytes(31)), "not base64"])
def test_garbage_is_no_public_key(text):
    assert not keys.is_public_key(text)


def test_an_enrol_token_is_new_each_time_and_catches_a_slip():
    one, other = keys.new_enrol_token(), keys.new_enrol_token()
    slip = one[:10] + ("A" if one[10] != "A" else "B") + one[11:]

    assert one != other
    assert keys.is_enrol_token(one)
    assert not keys.is_enrol_token(slip)
    assert not keys.is_enrol_token(one.removeprefix("sege_"))


def test_a_data_token_says_what_it_was_made_for():
    assert keys.read_data_token(f"Bearer {keys.data_token(CLAIM)}", op=keys.FETCH) == CLAIM


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x:y:z", "Basic {token}", "{token}", "Bearer {token}x"])
def test_anything_else_opens_nothing(authorization):
    with pytest.raises(DataTokenRefused):
        keys.read_data_token(authorization.format(token=keys.data_token(CLAIM)), op=keys.FETCH)


def test_a_data_token_does_only_what_it_names():
    token = keys.data_token(keys.DataClaim(job="j", fence=3, worker="w", ops=(keys.FETCH,)))

    with pytest.raises(DataTokenRefused):
        keys.read_data_token(f"Bearer {token}", op=keys.STORE)


@pytest.mark.parametrize("seconds", [-59, 900 + 59])
def test_the_clocks_of_two_servers_may_differ_by_a_minute(settings, monkeypatch, seconds):
    token = keys.data_token(CLAIM)
    made = time.time()
    monkeypatch.setattr(time, "time", lambda: made + seconds)

    assert keys.read_data_token(f"Bearer {token}", op=keys.FETCH) == CLAIM


@pytest.mark.parametrize("seconds", [-62, 900 + 62])
def test_a_data_token_runs_out_and_is_not_of_the_future(settings, monkeypatch, seconds):
    token = keys.data_token(CLAIM)
    made = time.time()
    monkeypatch.setattr(time, "time", lambda: made + seconds)

    with pytest.raises(DataTokenRefused):
        keys.read_data_token(f"Bearer {token}", op=keys.FETCH)


def test_a_token_signed_for_something_else_opens_nothing():
    foreign = signing.dumps({"job": "j", "fence": 3, "worker": "w", "ops": ["fetch"]}, salt="another purpose")

    with pytest.raises(DataTokenRefused):
        keys.read_data_token(f"Bearer {foreign}", op=keys.FETCH)
