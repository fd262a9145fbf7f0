"""Bringing an answer to the server, until it is acknowledged."""

from __future__ import annotations

from tests.worker_client.builders import (
    KEY,
    a_failure,
    a_result,
    computing,
)
from worker_client.actions import Forget, Upload, UseToken
from worker_client.answers import Key
from worker_client.protocol import messages as wire

OTHER = Key("01OTHER", 1)


def test_a_computed_result_is_uploaded_first_and_frees_the_slot():
    talk = computing()

    talk.actions = talk.session.computed(a_result(), at=1.0)

    assert talk.asked(Upload) == [Upload(a_result(), "token-1")]
    assert talk.said(wire.JobResult) == []
    assert [ready.credits for ready in talk.said(wire.Ready)] == [1]


def test_a_result_is_announced_once_its_mask_is_there():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)

    talk.actions = talk.session.uploaded(KEY, artifact="up-1", at=2.0)

    (said,) = talk.said(wire.JobResult)
    assert (said.result_id, said.epoch) == ("result-1", "epoch-1")
    assert [(one.artifact, one.role, one.size) for one in said.artifacts] == [("up-1", "mask", 9)]


def test_an_acknowledged_result_is_forgotten_whether_taken_or_stale():
    for kind in (wire.ResultOk, wire.ResultStale):
        talk = computing()
        talk.session.computed(a_result(), at=1.0)

        talk.hear(kind(job=KEY.job, fence=1, result_id="result-1"))

        assert talk.asked(Forget) == [Forget(KEY)]
        assert talk.session.owed == ()


def test_a_result_is_said_again_when_no_acknowledgement_comes():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    talk.session.uploaded(KEY, artifact="up-1", at=2.0)
    for at in (10.0, 20.0, 30.0):
        talk.hear(wire.HeartbeatOk(server_time=0), at=at)

    said = [len(talk.tick(at=at).said(wire.JobResult)) for at in (31.9, 32.0, 32.1)]

    assert said == [0, 1, 0]


def test_a_result_that_the_server_could_not_serve_is_said_again_soon():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    talk.actions = talk.session.uploaded(KEY, artifact="up-1", at=2.0)
    (said,) = talk.said(wire.JobResult)

    talk.hear(wire.Error(re=said.id, code="busy", temporary=True), at=3.0)

    assert talk.tick(at=7.9).said(wire.JobResult) == []
    assert len(talk.tick(at=8.0).said(wire.JobResult)) == 1


def test_an_upload_that_the_server_lost_is_made_again():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    talk.actions = talk.session.uploaded(KEY, artifact="up-1", at=2.0)
    (said,) = talk.said(wire.JobResult)
    talk.hear(wire.Error(re=said.id, code="upload_incomplete", temporary=True), at=3.0)

    talk.tick(at=8.0)

    assert talk.asked(Upload) == [Upload(a_result(), "token-1")]


def test_an_uploaded_result_is_announced_again_after_a_reconnect_without_another_upload():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    talk.session.uploaded(KEY, artifact="up-1", at=2.0)
    talk.session.closed(code=1006, reason="")

    talk.sign_in((KEY, "send_result"), at=3.0)

    assert len(talk.said(wire.JobResult)) == 1
    assert talk.asked(Upload) == []


def test_an_upload_goes_on_through_a_reconnect():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    talk.session.closed(code=1006, reason="")

    talk.sign_in((KEY, "send_result"), at=3.0)

    assert talk.asked(Upload) == []


def test_a_result_computed_while_nobody_listens_is_uploaded_after_the_welcome():
    talk = computing()
    talk.session.closed(code=1006, reason="")
    offline = talk.session.computed(a_result(), at=1.0)

    talk.sign_in((KEY, "send_result"), at=3.0)

    assert offline == []
    assert talk.asked(Upload) == [Upload(a_result(), "token-1")]


def test_a_failure_is_said_and_kept_until_it_is_acknowledged():
    talk = computing()

    talk.actions = talk.session.computed(a_failure(), at=1.0)

    assert [failed.code for failed in talk.said(wire.JobFailed)] == ["oom"]
    assert len(talk.session.owed) == 1


def test_a_lease_that_the_data_plane_calls_gone_is_forgotten():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)

    talk.actions = talk.session.lease_gone(KEY, at=2.0)

    assert talk.asked(Forget) == [Forget(KEY)]


def test_a_refused_token_is_asked_for_once_and_handed_on():
    talk = computing()

    talk.actions = talk.session.token_needed(KEY, at=0.0) + talk.session.token_needed(KEY, at=0.0)
    asked = talk.said(wire.TokenRefresh)
    talk.hear(wire.TokenRefreshOk(job=KEY.job, fence=1, data_token="token-2"))

    assert len(asked) == 1
    assert talk.asked(UseToken) == [UseToken(KEY, "token-2")]


def test_a_token_wanted_while_offline_is_asked_for_after_the_welcome():
    talk = computing()
    talk.session.closed(code=1006, reason="")
    talk.session.token_needed(KEY, at=0.0)

    talk.sign_in((KEY, "keep"), at=3.0)

    assert len(talk.said(wire.TokenRefresh)) == 1
