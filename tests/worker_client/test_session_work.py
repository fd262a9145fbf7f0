"""Offers, heartbeats and progress, as the session decides them."""

from __future__ import annotations

from tests.worker_client.builders import (
    IDENTITY,
    KEY,
    Talk,
    a_result,
    an_offer,
    computing,
    profile,
    signed_in,
)
from worker_client.actions import Begin, Halt, HangUp
from worker_client.answers import Key
from worker_client.profile import Load
from worker_client.protocol import messages as wire
from worker_client.session import Session

OTHER = Key("01OTHER", 1)


# ── offers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_offer_is_accepted_before_it_is_begun_and_takes_a_credit():
    talk = signed_in()

    talk.hear(an_offer())

    assert [type(action).__name__ for action in talk.actions] == ["Send", "Begin", "Send"]
    (accept,) = talk.said(wire.JobAccept)
    assert (accept.job, accept.fence, accept.re) == ("01JOB", 1, 7)
    assert [ready.credits for ready in talk.said(wire.Ready)] == [0]


def test_no_work_is_asked_for_before_the_analysis_can_start():
    talk = Talk(Session(profile(), is_warm=False)).sign_in()
    before = [ready.credits for ready in talk.said(wire.Ready)]

    talk.actions = talk.session.warmed()

    assert before == [0]
    assert [ready.credits for ready in talk.said(wire.Ready)] == [1]


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
