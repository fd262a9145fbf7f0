"""A new key: at every moment there is one that works, whatever is lost on the way."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.worker_client.builders import AKey, Talk, a_welcome, profile
from tests.worker_client.desk import enrolled
from worker_client import disk
from worker_client.actions import AdoptKey, MakeKey
from worker_client.comeback import ComeBack, StayAway
from worker_client.home import KEY, NEXT_KEY, Home, public_text
from worker_client.keyring import Keyring
from worker_client.protocol import messages as wire
from worker_client.session import Session

REFUSED = wire.Bye(code=4501, reason="the key or the signature is not valid here", reconnect=False)


def talk_with(keys: Keyring) -> Talk:
    return Talk(Session(profile(keys=keys)))


# ── what is said ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wish_for_a_new_key_makes_one_before_anything_is_said():
    talk = talk_with(Keyring(AKey())).sign_in()

    talk.hear(wire.RotateKeyWanted(id=9))

    assert talk.actions == [MakeKey()]


def test_the_new_key_is_told_signed_by_both():
    keys = Keyring(AKey())
    talk = talk_with(keys).sign_in()
    talk.hear(wire.RotateKeyWanted(id=9))
    keys.fresh = AKey("key-2")

    talk.actions = talk.session.key_made()

    (rotate,) = talk.said(wire.RotateKey)
    assert rotate.public_key == "key-2"
    assert rotate.sig == "signed seg-worker-rotate-v1|w1|5|key-2"
    assert rotate.proof == "key-2 seg-worker-rotate-v1|w1|5|key-2"


def test_the_old_key_goes_only_when_the_server_has_taken_the_new_one():
    keys = Keyring(AKey(), fresh=AKey("key-2"))
    keys.refused()
    talk = talk_with(keys).sign_in()

    talk.hear(wire.RotateKeyOk(public_key="key-other"))
    after_another = talk.actions
    talk.hear(wire.RotateKeyOk(public_key="key-2"))

    assert after_another == []
    assert talk.actions == [AdoptKey()]
    assert (keys.current, keys.fresh) == (AKey("key-2"), None)


def test_after_a_lost_answer_the_new_key_is_tried_first_and_adopted_when_it_is_welcome():
    keys = Keyring(AKey(), fresh=AKey("key-2"))
    talk = talk_with(keys).open()
    hello = talk.said(wire.Hello)[0]

    talk.hear(a_welcome())

    assert hello.sig.startswith("key-2 ")
    assert talk.asked(AdoptKey) == [AdoptKey()]


def test_a_new_key_that_the_server_never_heard_of_is_followed_by_the_old_one():
    keys = Keyring(AKey(), fresh=AKey("key-2"))
    talk = talk_with(keys).open()
    talk.hear(REFUSED)

    verdict = talk.session.closed(code=4501, reason="")
    hello = talk.open(at=1.0).said(wire.Hello)[0]
    talk.hear(a_welcome(), at=1.0)

    assert verdict == ComeBack()
    assert hello.sig.startswith("signed ")
    assert talk.asked(AdoptKey) == []
    assert keys.fresh == AKey("key-2")


def test_when_neither_key_is_taken_a_person_has_to_look():
    keys = Keyring(AKey(), fresh=AKey("key-2"))
    talk = talk_with(keys)

    verdicts = []
    for _ in range(2):
        talk.open().hear(REFUSED)
        verdicts.append(talk.session.closed(code=4501, reason=""))

    assert verdicts == [ComeBack(), StayAway(code=4501, reason=REFUSED.reason)]


def test_a_refusal_without_another_key_is_final():
    talk = talk_with(Keyring(AKey())).open()
    talk.hear(REFUSED)

    assert isinstance(talk.session.closed(code=4501, reason=""), StayAway)


def test_a_key_that_waits_is_told_again_and_not_made_anew():
    keys = Keyring(AKey(), fresh=AKey("key-2"))
    talk = talk_with(keys).open()
    talk.hear(REFUSED)
    talk.session.closed(code=4501, reason="")
    talk.sign_in(at=1.0)

    talk.hear(wire.RotateKeyWanted(id=3))
    told = talk.said(wire.RotateKey)
    talk.session.closed(code=1006, reason="")
    hello = talk.open(at=2.0).said(wire.Hello)[0]

    assert [rotate.public_key for rotate in told] == ["key-2"]
    assert hello.sig.startswith("key-2 ")  # its answer was lost, so the server may know it


def test_an_old_key_is_replaced_without_being_asked():
    talk = talk_with(Keyring(AKey(), is_old=True)).sign_in()

    assert talk.asked(MakeKey) == [MakeKey()]


def test_a_key_that_was_made_while_offline_waits_for_the_next_sign_in():
    keys = Keyring(AKey())
    talk = talk_with(keys).sign_in()
    talk.session.closed(code=1006, reason="")
    keys.fresh = AKey("key-2")

    assert talk.session.key_made() == []


# ── what lies on the disk ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return enrolled(tmp_path / "w", "http://127.0.0.1:1")


def test_a_new_key_lies_beside_the_old_one_for_this_user_alone(home):
    before = home.identity()

    key = home.make_next_key()
    after = home.identity()

    assert public_text(after.key) == public_text(before.key)
    assert after.next_key is not None
    assert public_text(after.next_key) == public_text(key)
    assert (home.path / NEXT_KEY).stat().st_mode & 0o777 == 0o600


def test_an_adopted_key_takes_the_place_of_the_old_one(home):
    key = home.make_next_key()

    home.adopt_next_key()
    home.adopt_next_key()
    after = home.identity()

    assert public_text(after.key) == public_text(key)
    assert after.next_key is None


class PowerCut(BaseException):
    """Everything after this moment did not happen."""


@pytest.mark.parametrize("step", ["make", "adopt"])
@pytest.mark.parametrize("cut_at", range(1, 5))
def test_a_power_cut_leaves_a_key_that_the_server_may_know(home, monkeypatch, step, cut_at):
    old = public_text(home.identity().key)
    told = public_text(home.make_next_key()) if step == "adopt" else ""
    seen = 0

    def count(real):
        def call(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == cut_at:
                raise PowerCut
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(disk.os, "fsync", count(os.fsync))
        patched.setattr(Path, "replace", count(Path.replace))
        with contextlib.suppress(PowerCut):
            (home.adopt_next_key if step == "adopt" else home.make_next_key)()

    after = home.identity()
    keys = {public_text(after.key)} | ({public_text(after.next_key)} if after.next_key else set())
    assert (told or old) in keys


def test_a_damaged_new_key_is_not_used_and_does_not_stop_the_worker(home, caplog):
    home.make_next_key()
    (home.path / NEXT_KEY).write_bytes(b"-----BEGIN")

    assert home.identity().next_key is None
    assert "cannot be read" in caplog.text


def test_a_key_that_the_disk_would_not_adopt_is_never_overwritten(home):
    """The server had taken it, the rename failed, and the next rotation would have thrown the only good key away."""
    taken = home.make_next_key()

    home.make_next_key()

    assert public_text(home.identity().key) == public_text(taken)


def test_enrolling_anew_forgets_a_key_that_waited(home):
    home.make_next_key()

    again = enrolled(home.path, "http://127.0.0.1:2")

    assert again.identity().next_key is None
    assert (home.path / KEY).exists()
