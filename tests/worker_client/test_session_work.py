"""Offers, progress, answers, cancels and draining, as the session decides them."""

from __future__ import annotations

from tests.worker_client.builders import (
    IDENTITY,
    KEY,
    a_failure,
    a_result,
    an_offer,
    computing,
    signed_in,
)
from worker_client.actions import Begin, Forget, Halt, HangUp, Leave, Upload, UseToken
from worker_client.answers import Key
from worker_client.profile import Load
from worker_client.protocol import messages as wire

OTHER = Key("01OTHER", 1)


# ── offers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_offer_is_accepted_before_it_is_begun_and_takes_a_credit():
    talk = signed_in()

    talk.hear(an_offer())

    assert [type(action).__name__ for action in talk.actions] == ["Send", "Begin", "Send"]
    (accept,) = talk.said(wire.JobAccept)
    assert (accept.job, accept.fence, accept.re) == ("01JOB", 1, 7)
    assert [ready.credits for ready in talk.said(wire.Ready)] == [0]


def test_an_offer_without_a_free_slot_is_declined_and_the_credits_are_said_again():
    talk = computing()

    talk.hear(an_offer(OTHER))

    assert [decline.reason for decline in talk.said(wire.JobDecline)] == ["busy"]
    assert [ready.credits for ready in talk.said(wire.Ready)] == [0]
    assert talk.asked(Begin) == []


def test_a_model_that_is_not_installed_is_declined_and_frees_the_credit():
    talk = signed_in()
    foreign = wire.ModelName(name="segwire-compact", version="0.1.0", sha256="f" * 64)

    talk.hear(an_offer(model=foreign))

    assert [decline.reason for decline in talk.said(wire.JobDecline)] == ["no_model"]
    assert [ready.credits for ready in talk.said(wire.Ready)] == [1]


def test_an_offer_without_a_model_means_the_default_one():
    talk = signed_in()

    talk.hear(an_offer(model=None))

    assert len(talk.asked(Begin)) == 1


def test_the_same_offer_twice_is_accepted_twice_and_begun_once():
    talk = computing()

    talk.hear(an_offer())

    assert len(talk.said(wire.JobAccept)) == 1
    assert talk.asked(Begin) == []


def test_a_job_id_that_could_name_another_folder_is_refused():
    talk = signed_in()

    talk.hear(an_offer(Key("../../etc", 1)))

    assert [error.code for error in talk.said(wire.Error)] == ["bad_offer"]
    assert talk.asked(Begin) == []


# ── heartbeats ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_heartbeat_renews_exactly_the_leases_that_are_held():
    talk = computing(slots=2)
    talk.hear(an_offer(OTHER))
    talk.session.computed(a_result(OTHER), at=1.0)
    talk.session.measured(Load(share=0.5))

    talk.tick(at=5.0)

    (beat,) = talk.said(wire.Heartbeat)
    assert [(held.job, held.fence) for held in beat.jobs] == [("01JOB", 1), ("01OTHER", 1)]
    assert (beat.session, beat.load) == (5, 0.5)


def test_heartbeats_keep_the_interval_that_the_server_asked_for():
    talk = signed_in()

    beats = [len(talk.tick(at=at).said(wire.Heartbeat)) for at in (4.9, 5.0, 9.9, 10.0)]

    assert beats == [0, 1, 0, 1]


def test_a_job_whose_lease_is_lost_stops_and_says_nothing_more():
    talk = computing()

    talk.hear(wire.HeartbeatOk(server_time=0, lost=(wire.Held(job=KEY.job, fence=1),)))
    halts = talk.asked(Halt)
    talk.actions = talk.session.stopped(KEY, at=1.0)

    assert halts == [Halt(KEY, grace_seconds=0.0)]
    assert talk.said(wire.JobCancelled) == []
    assert [ready.credits for ready in talk.said(wire.Ready)] == [1]


def test_another_fence_of_the_same_job_is_not_touched():
    talk = computing(Key("01JOB", 2))

    talk.hear(wire.HeartbeatOk(server_time=0, lost=(wire.Held(job="01JOB", fence=1),)))

    assert talk.asked(Halt) == []


def test_fifteen_silent_seconds_end_the_connection():
    talk = signed_in()
    talk.hear(wire.HeartbeatOk(server_time=0), at=3.0)

    before = talk.tick(at=17.9).asked(HangUp)
    after = talk.tick(at=18.0).asked(HangUp)

    assert before == []
    assert [hang_up.code for hang_up in after] == [4408]


def test_the_next_tick_is_the_next_thing_that_is_due():
    talk = computing()
    first = talk.session.next_tick()

    talk.session.progressed(KEY, stage="fetch", percent=1.0, eta_seconds=None, at=1.0)
    talk.session.progressed(KEY, stage="fetch", percent=2.0, eta_seconds=None, at=1.1)

    assert first == 5.0
    assert talk.session.next_tick() == 1.25


# ── progress ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_progress_is_said_at_most_four_times_a_second_and_only_the_newest():
    talk = computing()
    session = talk.session

    said = []
    for step in range(40):
        talk.actions = session.progressed(KEY, stage="inference", percent=step, eta_seconds=4.0, at=step * 0.05)
        talk.actions += session.tick(at=step * 0.05)
        said += talk.said(wire.JobProgress)

    assert len(said) == 8
    assert [report.pct for report in said][:3] == [0.0, 5.0, 10.0]
    assert [report.pseq for report in said] == list(range(1, 9))


def test_what_was_held_back_is_said_when_its_time_comes():
    talk = computing()
    talk.session.progressed(KEY, stage="fetch", percent=1.0, eta_seconds=None, at=0.0)
    talk.session.progressed(KEY, stage="inference", percent=2.0, eta_seconds=5.0, at=0.1)

    talk.tick(at=0.25)

    (report,) = talk.said(wire.JobProgress)
    assert (report.stage, report.pct, report.eta) == ("inference", 2.0, 5.0)


def test_previews_are_said_at_most_twice_a_second():
    talk = computing()

    said = []
    for step in range(20):
        preview = wire.JobPreview(job=KEY.job, fence=1, pseq=0, shape=(1, 1, 1), affine=IDENTITY, labels=str(step))
        talk.actions = talk.session.previewed(preview, at=step * 0.1)
        said += talk.said(wire.JobPreview)

    assert [preview.labels for preview in said] == ["0", "5", "10", "15"]


def test_progress_of_a_job_that_shall_stop_is_kept_quiet():
    talk = computing()
    talk.hear(wire.JobCancel(job=KEY.job, fence=1))

    talk.actions = talk.session.progressed(KEY, stage="fetch", percent=1.0, eta_seconds=None, at=1.0)

    assert talk.actions == []


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────


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

    talk.actions = talk.session.token_needed(KEY) + talk.session.token_needed(KEY)
    asked = talk.said(wire.TokenRefresh)
    talk.hear(wire.TokenRefreshOk(job=KEY.job, fence=1, data_token="token-2"))

    assert len(asked) == 1
    assert talk.asked(UseToken) == [UseToken(KEY, "token-2")]


def test_a_token_wanted_while_offline_is_asked_for_after_the_welcome():
    talk = computing()
    talk.session.closed(code=1006, reason="")
    talk.session.token_needed(KEY)

    talk.sign_in((KEY, "keep"), at=3.0)

    assert len(talk.said(wire.TokenRefresh)) == 1


# ── cancel ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cancel_is_confirmed_only_when_the_work_has_stopped():
    talk = computing()

    talk.hear(wire.JobCancel(job=KEY.job, fence=1, grace_s=2.0))
    halts, confirmed_early = talk.asked(Halt), talk.said(wire.JobCancelled)
    talk.actions = talk.session.stopped(KEY, at=1.0)

    assert halts == [Halt(KEY, grace_seconds=2.0)]
    assert confirmed_early == []
    assert [(one.job, one.fence) for one in talk.said(wire.JobCancelled)] == [("01JOB", 1)]


def test_a_cancel_said_twice_halts_once():
    talk = computing()
    talk.hear(wire.JobCancel(job=KEY.job, fence=1))

    talk.hear(wire.JobCancel(job=KEY.job, fence=1))

    assert talk.actions == []


def test_a_cancel_of_an_unknown_job_is_confirmed_at_once():
    talk = signed_in()

    talk.hear(wire.JobCancel(job="01GONE", fence=3))

    assert [(one.job, one.fence) for one in talk.said(wire.JobCancelled)] == [("01GONE", 3)]


def test_a_cancel_takes_a_finished_result_with_it():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)

    talk.hear(wire.JobCancel(job=KEY.job, fence=1))

    assert len(talk.said(wire.JobCancelled)) == 1
    assert talk.asked(Forget) == [Forget(KEY)]


def test_an_answer_that_comes_after_the_cancel_is_dropped_and_the_cancel_confirmed():
    talk = computing()
    talk.hear(wire.JobCancel(job=KEY.job, fence=1))

    talk.actions = talk.session.computed(a_result(), at=1.0)

    assert talk.asked(Forget) == [Forget(KEY)]
    assert len(talk.said(wire.JobCancelled)) == 1
    assert talk.asked(Upload) == []


# ── draining ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_idle_worker_says_goodbye_and_leaves_at_once():
    talk = signed_in()

    talk.actions = talk.session.drain(at=1.0, seconds=8.0)

    assert [ready.draining for ready in talk.said(wire.Ready)] == [True]
    assert [(bye.code, bye.reconnect) for bye in talk.said(wire.Bye)] == [(1000, False)]
    assert [type(action).__name__ for action in talk.actions[-2:]] == ["HangUp", "Leave"]


def test_a_job_that_ends_in_time_is_finished_before_leaving():
    talk = computing()
    talk.session.progressed(KEY, stage="inference", percent=90.0, eta_seconds=3.0, at=0.5)

    talk.actions = talk.session.drain(at=1.0, seconds=8.0)
    kept_on = not talk.asked(Halt) and not talk.asked(Leave)
    talk.session.computed(a_result(), at=3.0)
    talk.session.uploaded(KEY, artifact="up-1", at=3.5)
    talk.hear(wire.ResultOk(job=KEY.job, fence=1), at=4.0)

    assert kept_on
    assert len(talk.asked(Leave)) == 1


def test_a_job_that_takes_longer_is_given_back_at_once():
    talk = computing()
    talk.session.progressed(KEY, stage="inference", percent=10.0, eta_seconds=60.0, at=0.5)

    talk.actions = talk.session.drain(at=1.0, seconds=8.0)
    released = [(one.job, one.reason) for one in talk.said(wire.JobRelease)]
    talk.actions += talk.session.stopped(KEY, at=1.2)

    assert released == [("01JOB", "shutdown")]
    assert talk.asked(Halt) == [Halt(KEY, grace_seconds=0.0)]
    assert len(talk.asked(Leave)) == 1


def test_a_job_that_said_nothing_about_its_end_is_given_back_when_the_time_is_over():
    talk = computing()
    talk.session.drain(at=1.0, seconds=8.0)

    assert talk.session.next_tick() == 5.0
    assert talk.tick(at=8.9).said(wire.JobRelease) == []
    assert len(talk.tick(at=9.0).said(wire.JobRelease)) == 1


def test_draining_never_asks_to_be_woken_in_the_past():
    """The loop would spin while the child is being killed."""
    talk = computing()
    talk.session.drain(at=1.0, seconds=8.0)
    talk.tick(at=9.0)

    assert talk.session.next_tick() > 9.0


def test_no_offer_is_taken_while_draining():
    talk = computing(slots=2)
    talk.session.drain(at=1.0, seconds=8.0)

    talk.hear(an_offer(OTHER))

    assert [decline.reason for decline in talk.said(wire.JobDecline)] == ["draining"]


def test_a_result_that_is_not_acknowledged_in_time_stays_on_the_disk():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    waiting = talk.session.drain(at=1.0, seconds=8.0)

    talk.tick(at=9.0)

    assert not any(isinstance(action, Leave) for action in waiting)
    assert len(talk.asked(Leave)) == 1
    assert talk.asked(Forget) == []


def test_draining_without_a_connection_does_not_wait_for_one():
    talk = signed_in()
    talk.session.closed(code=1006, reason="")

    talk.actions = talk.session.drain(at=1.0, seconds=8.0)

    assert talk.actions == [Leave()]


def test_draining_twice_is_draining_once():
    talk = computing()
    talk.session.drain(at=1.0, seconds=8.0)

    assert talk.session.drain(at=2.0, seconds=8.0) == []
