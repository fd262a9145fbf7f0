"""Signing in: the first words on a connection, and what the server's verdicts mean."""

from __future__ import annotations

import pytest

from tests.worker_client.builders import (
    EPOCH,
    KEY,
    Talk,
    a_failure,
    a_result,
    a_welcome,
    an_offer,
    computing,
    profile,
    signed_in,
)
from worker_client.actions import Begin, Forget, Halt, HangUp, Upload
from worker_client.answers import Key
from worker_client.comeback import ComeBack, StayAway
from worker_client.protocol import messages as wire
from worker_client.protocol.errors import BadFrame, UnknownType
from worker_client.session import Session


def test_a_challenge_is_answered_with_a_signature_over_nonce_host_worker_and_boot():
    talk = Talk(Session(profile()))

    talk.open()

    (hello,) = talk.said(wire.Hello)
    assert hello.sig == "signed seg-worker-auth-v1|bm9uY2U=|segwire.example|w1|boot-1"
    assert (hello.worker_id, hello.boot_id, hello.re) == ("w1", "boot-1", 1)


def test_a_fresh_worker_has_nothing_running_and_owes_nothing():
    talk = Talk(Session(profile()))

    talk.open()

    (hello,) = talk.said(wire.Hello)
    assert hello.running == ()
    assert hello.outbox == ()


def test_after_the_welcome_the_worker_grants_one_credit_a_slot():
    talk = Talk(Session(profile(slots=2)))

    talk.sign_in()

    (ready,) = talk.said(wire.Ready)
    assert ready.credits == 2
    assert not ready.draining


def test_hello_lists_what_is_computed_and_how_far():
    talk = computing()
    talk.session.progressed(KEY, stage="inference", percent=40.0, eta_seconds=9.0, at=1.0)
    talk.session.closed(code=1006, reason="")

    talk.open(at=2.0)

    (hello,) = talk.said(wire.Hello)
    assert hello.running == (wire.Running(job=KEY.job, fence=1, attempt=1, stage="inference", pct=40.0),)


def test_hello_lists_what_the_outbox_held_when_the_process_started():
    talk = Talk(Session(profile(), answers=(a_result(), a_failure(Key("01OTHER", 3)))))

    talk.open()

    (hello,) = talk.said(wire.Hello)
    assert [(kept.job, kept.fence, kept.kind) for kept in hello.outbox] == [
        ("01JOB", 1, "result"),
        ("01OTHER", 3, "failed"),
    ]
    assert hello.outbox[0].sha256 == "c" * 64


def test_work_goes_on_when_the_server_says_keep():
    talk = computing()
    talk.session.closed(code=1006, reason="")

    talk.sign_in((KEY, "keep"), at=3.0)

    assert talk.asked(Halt) == []
    assert len(talk.session.jobs) == 1


@pytest.mark.parametrize("verdict", ["revoke", "already_done"])
def test_work_stops_when_the_server_no_longer_wants_it(verdict):
    talk = computing()
    talk.session.closed(code=1006, reason="")

    talk.sign_in((KEY, verdict), at=3.0)

    assert talk.asked(Halt) == [Halt(KEY, grace_seconds=0.0)]


@pytest.mark.parametrize("verdict", ["revoke", "already_done"])
def test_an_answer_is_forgotten_when_the_server_no_longer_wants_it(verdict):
    talk = Talk(Session(profile(), answers=(a_result(),)))

    talk.sign_in((KEY, verdict))

    assert talk.asked(Forget) == [Forget(KEY)]
    assert talk.session.owed == ()


def test_after_a_restart_a_result_first_asks_for_a_token_and_is_then_uploaded():
    """Data tokens are not kept on disk: what could move a result's bytes would outlive the process."""
    talk = Talk(Session(profile(), answers=(a_result(),)))

    talk.sign_in((KEY, "send_result"))
    asked = talk.said(wire.TokenRefresh)
    talk.hear(wire.TokenRefreshOk(job=KEY.job, fence=1, data_token="token-2"))

    assert [(one.job, one.fence) for one in asked] == [("01JOB", 1)]
    assert talk.asked(Upload) == [Upload(a_result(), "token-2")]


def test_a_failure_from_before_is_said_at_once():
    talk = Talk(Session(profile(), answers=(a_failure(),)))

    talk.sign_in((KEY, "send_result"))

    (failed,) = talk.said(wire.JobFailed)
    assert (failed.code, failed.retryable, failed.epoch) == ("oom", True, EPOCH)


def test_work_of_another_epoch_is_dropped():
    """A server restored from a backup issues the same fence numbers again."""
    talk = computing()
    talk.session.closed(code=1006, reason="")

    talk.sign_in((KEY, "keep"), epoch="epoch-2", at=3.0)

    assert talk.asked(Halt) == [Halt(KEY, grace_seconds=0.0)]


def test_a_job_offered_before_the_welcome_is_not_taken():
    talk = Talk(Session(profile())).open()

    talk.hear(an_offer())

    assert talk.actions == []
    assert talk.session.jobs == ()


def test_a_second_challenge_is_not_signed():
    talk = signed_in()

    talk.hear(wire.Challenge(id=9, nonce="b3RoZXI=", server_time=0, server_id="s"))

    assert talk.actions == []


def test_a_server_that_never_says_welcome_is_left_after_fifteen_seconds():
    talk = Talk(Session(profile())).open()

    early = talk.tick(at=14.9).asked(HangUp)
    late = talk.tick(at=15.0).asked(HangUp)

    assert early == []
    assert [hang_up.code for hang_up in late] == [4408]


def test_frames_are_numbered_anew_on_every_connection():
    talk = signed_in()
    talk.session.closed(code=1006, reason="")

    talk.open(at=1.0)

    (hello,) = talk.said(wire.Hello)
    assert hello.id == 1


def test_an_unknown_type_is_answered_and_the_connection_lives():
    talk = signed_in()

    talk.actions = talk.session.garbled(UnknownType("job.teleport", re=12), at=1.0)

    (error,) = talk.said(wire.Error)
    assert (error.code, error.re) == ("unknown_type", 12)
    assert talk.asked(HangUp) == []


def test_a_frame_that_is_no_message_ends_the_connection_and_the_worker_comes_back():
    talk = signed_in()

    talk.actions = talk.session.garbled(BadFrame("not JSON"), at=1.0)
    verdict = talk.session.closed(code=4503, reason="")

    assert [bye.code for bye in talk.said(wire.Bye)] == [4503]
    assert [hang_up.code for hang_up in talk.asked(HangUp)] == [4503]
    assert verdict == ComeBack()


def test_a_ping_is_answered_with_the_same_time():
    talk = signed_in()

    talk.hear(wire.Ping(id=4, ts=123.5))

    (pong,) = talk.said(wire.Pong)
    assert (pong.ts, pong.re) == (123.5, 4)


def test_a_goodbye_that_forbids_coming_back_is_obeyed():
    talk = signed_in()

    talk.hear(wire.Bye(code=4510, reason="revoked", reconnect=False))

    assert talk.session.closed(code=4510, reason="") == StayAway(code=4510, reason="revoked")


def test_a_goodbye_before_the_welcome_counts_too():
    talk = Talk(Session(profile())).open()

    talk.hear(wire.Bye(code=4501, reason="unknown worker", reconnect=False))

    assert talk.session.closed(code=4501, reason="") == StayAway(code=4501, reason="unknown worker")


def test_a_restarting_server_says_when_to_come_back():
    talk = signed_in()

    talk.hear(wire.Bye(code=4000, reason="restart", retry_after_s=2.0, jitter_s=3.0))

    assert talk.session.closed(code=4000, reason="") == ComeBack(after_seconds=2.0, jitter_seconds=3.0)


def test_nothing_is_said_after_the_connection_is_gone():
    talk = computing()
    talk.session.closed(code=1006, reason="")

    talk.actions = talk.session.progressed(KEY, stage="fetch", percent=10.0, eta_seconds=None, at=1.0)

    assert talk.actions == []


def test_a_welcome_for_a_job_nobody_knows_changes_nothing():
    talk = Talk(Session(profile())).open()

    talk.hear(a_welcome((Key("01UNKNOWN", 4), "revoke")))

    assert talk.asked(Halt) == []
    assert talk.asked(Forget) == []
    assert talk.asked(Begin) == []
