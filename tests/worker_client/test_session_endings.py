"""Cancels and draining, as the session decides them."""

from __future__ import annotations

from tests.worker_client.builders import (
    KEY,
    a_result,
    an_offer,
    computing,
    signed_in,
)
from worker_client.actions import Forget, Halt, Leave, Upload
from worker_client.answers import Key
from worker_client.protocol import messages as wire

OTHER = Key("01OTHER", 1)


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
