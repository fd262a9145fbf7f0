"""The server's wish to drain, memory, slots, sleep, and messages that can never be said."""

from __future__ import annotations

import pytest

from tests.worker_client.builders import (
    KEY,
    MODEL,
    Talk,
    a_failure,
    a_result,
    an_offer,
    computing,
    profile,
    signed_in,
)
from worker_client.actions import Begin, Forget, GiveUp, Halt, HangUp, Leave
from worker_client.answers import Key
from worker_client.profile import Load
from worker_client.protocol import messages as wire
from worker_client.session import Session

OTHER = Key("01OTHER", 1)
THIRSTY = wire.ModelName(name=MODEL.name, version=MODEL.version, sha256=MODEL.sha256, memory_mb=4_000)


# ── the server's wish to drain ──────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_is_asked_to_drain_takes_no_more_and_stays():
    talk = computing(slots=2)

    talk.hear(wire.Drain())
    ready = talk.said(wire.Ready)
    talk.hear(an_offer(OTHER))

    assert [(one.credits, one.draining) for one in ready] == [(0, True)]
    assert [decline.reason for decline in talk.said(wire.JobDecline)] == ["draining"]
    assert talk.asked(Leave) == []
    assert not talk.session.is_leaving


def test_what_runs_is_finished_while_draining_for_the_server():
    talk = computing()
    talk.hear(wire.Drain())

    talk.actions = talk.session.computed(a_failure(), at=1.0)
    said = talk.said(wire.JobFailed)
    talk.hear(wire.ResultOk(job=KEY.job, fence=1), at=1.0)

    assert len(said) == 1
    assert talk.asked(Leave) == []


def test_at_the_servers_deadline_what_is_not_done_is_given_back():
    talk = computing()
    talk.hear(wire.Drain(deadline=30.0), at=10.0)

    early = talk.tick(at=14.9).said(wire.JobRelease)
    for at in (15.0, 25.0, 35.0):
        talk.hear(wire.HeartbeatOk(server_time=0), at=at)
    late = talk.tick(at=40.0)

    assert early == []
    assert [(one.job, one.reason) for one in late.said(wire.JobRelease)] == [("01JOB", "owner")]
    assert late.asked(Halt) == [Halt(KEY, grace_seconds=0.0)]
    assert talk.tick(at=40.1).said(wire.JobRelease) == []


def test_a_drain_that_is_taken_back_opens_the_worker_again():
    talk = signed_in()
    talk.hear(wire.Drain(deadline=5.0))

    talk.hear(wire.Drain(is_over=True))

    assert [(one.credits, one.draining) for one in talk.said(wire.Ready)] == [(1, False)]


def test_on_a_new_connection_the_server_says_it_again():
    talk = signed_in()
    talk.hear(wire.Drain())
    talk.session.closed(code=1006, reason="")

    talk.sign_in(at=1.0)

    assert [one.credits for one in talk.said(wire.Ready)] == [1]


def test_the_servers_drain_does_not_keep_a_worker_from_ending():
    talk = signed_in()
    talk.hear(wire.Drain())

    talk.actions = talk.session.drain(at=1.0, seconds=8.0)

    assert len(talk.asked(Leave)) == 1


# ── memory and slots ────────────────────────────────────────────────────────────────────────────────────────────


def test_an_offer_that_does_not_fit_into_memory_is_declined():
    talk = Talk(Session(profile(models=(THIRSTY,))))
    talk.session.measured(Load(free_mb=3_999))
    talk.sign_in()

    talk.hear(an_offer())

    assert [(one.reason, one.retry_after) for one in talk.said(wire.JobDecline)] == [("vram", 30.0)]
    assert talk.asked(Begin) == []


@pytest.mark.parametrize("free_mb", [None, 4_000])
def test_unknown_or_sufficient_memory_is_no_reason_to_decline(free_mb):
    talk = Talk(Session(profile(models=(THIRSTY,))))
    talk.session.measured(Load(free_mb=free_mb))
    talk.sign_in()

    talk.hear(an_offer())

    assert len(talk.asked(Begin)) == 1


def test_what_a_job_will_need_counts_although_it_does_not_have_it_yet():
    talk = Talk(Session(profile(slots=2, models=(THIRSTY,))))
    talk.session.measured(Load(free_mb=7_000))
    talk.sign_in()
    talk.hear(an_offer())

    talk.hear(an_offer(OTHER))

    assert [one.reason for one in talk.said(wire.JobDecline)] == ["vram"]


def test_the_server_is_told_what_is_left_and_what_lies_in_the_cache():
    talk = Talk(Session(profile(models=(THIRSTY,))))
    talk.session.measured(Load(free_mb=7_300, cached=("aa" * 8,)))
    talk.sign_in()
    before = talk.said(wire.Ready)

    talk.hear(an_offer())

    assert [(one.free_mb, one.cached) for one in before] == [(7_300, ("aa" * 8,))]
    assert [one.free_mb for one in talk.said(wire.Ready)] == [3_300]


def test_memory_that_breathes_is_no_news_and_memory_that_goes_is():
    talk = Talk(Session(profile()))
    talk.session.measured(Load(free_mb=8_000))
    talk.sign_in()

    talk.session.measured(Load(free_mb=8_100))
    breath = talk.tick(at=5.0).said(wire.Ready)
    talk.session.measured(Load(free_mb=2_000))
    gone = talk.tick(at=10.0).said(wire.Ready)

    assert breath == []
    assert [one.free_mb for one in gone] == [2_000]


def test_each_slot_is_a_credit():
    talk = signed_in(slots=3)

    talk.hear(an_offer())
    first = talk.said(wire.Ready)[-1].credits
    talk.hear(an_offer(OTHER))

    assert (first, talk.said(wire.Ready)[-1].credits) == (2, 1)


def test_credits_that_the_server_did_not_take_are_said_again():
    """Its limit on messages threw `ready` away, and the worker stayed without work for ever."""
    talk = signed_in()

    talk.hear(wire.Error(re=2, code="rate", temporary=True), at=1.0)

    assert [one.credits for one in talk.tick(at=5.0).said(wire.Ready)] == [1]


# ── offers that come late, twice or out of order ────────────────────────────────────────────────────────────────


def test_an_offer_that_is_over_here_begins_nothing():
    talk = computing()
    talk.session.computed(a_failure(), at=1.0)
    talk.hear(wire.ResultOk(job=KEY.job, fence=1), at=1.0)

    talk.hear(an_offer(), at=2.0)

    assert talk.asked(Begin) == []
    assert [one.reason for one in talk.said(wire.JobDecline)] == ["busy"]


def test_an_older_attempt_that_comes_after_a_newer_one_begins_nothing():
    talk = computing(Key("01JOB", 2), slots=2)

    talk.hear(an_offer(Key("01JOB", 1)))

    assert talk.asked(Begin) == []


def test_a_newer_attempt_ends_the_older_one():
    talk = computing(slots=2)

    talk.hear(an_offer(Key("01JOB", 2)))

    assert talk.asked(Halt) == [Halt(KEY, grace_seconds=0.0)]
    assert [begin.offer.fence for begin in talk.asked(Begin)] == [2]


def test_a_newer_attempt_forgets_the_older_ones_answer():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)

    talk.hear(an_offer(Key("01JOB", 2)), at=2.0)

    assert talk.asked(Forget) == [Forget(KEY)]
    assert len(talk.asked(Begin)) == 1


def test_a_restored_server_may_give_out_the_same_fence_again():
    talk = computing()
    talk.session.computed(a_failure(), at=1.0)
    talk.hear(wire.ResultOk(job=KEY.job, fence=1), at=1.0)
    talk.session.closed(code=1006, reason="")
    talk.sign_in(at=2.0, epoch="epoch-2")

    talk.hear(an_offer(epoch="epoch-2"), at=3.0)

    assert len(talk.asked(Begin)) == 1


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_renewed_before_it_runs_out():
    talk = signed_in().hear(an_offer(data_token_seconds=10.0))

    early = talk.tick(at=7.9).said(wire.TokenRefresh)
    late = talk.tick(at=8.0).said(wire.TokenRefresh)
    again = talk.tick(at=9.0).said(wire.TokenRefresh)

    assert (early, again) == ([], [])
    assert [(one.job, one.fence) for one in late] == [KEY]


def test_a_token_is_renewed_while_a_mask_is_on_its_way():
    talk = signed_in().hear(an_offer(data_token_seconds=10.0))
    talk.session.computed(a_result(), at=1.0)

    talk.tick(at=8.0)

    assert len(talk.said(wire.TokenRefresh)) == 1


def test_a_new_token_has_a_life_of_its_own():
    talk = signed_in().hear(an_offer(data_token_seconds=10.0))
    talk.tick(at=8.0)
    talk.hear(wire.TokenRefreshOk(job=KEY.job, fence=1, data_token="token-2", data_token_seconds=100.0), at=8.0)

    assert talk.tick(at=14.0).said(wire.TokenRefresh) == []


def test_a_token_that_never_comes_is_asked_for_again():
    talk = computing()
    talk.actions = talk.session.token_needed(KEY, at=0.0)
    for at in (10.0, 20.0, 29.0):
        talk.hear(wire.HeartbeatOk(server_time=0), at=at)

    assert len(talk.tick(at=30.0).said(wire.TokenRefresh)) == 1


# ── sleep ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_a_long_sleep_the_connection_is_made_anew_and_hello_asks_what_still_counts():
    """The clock that deadlines run by stops while a laptop sleeps; the server's leases do not."""
    talk = computing()

    talk.actions = talk.session.slept(60.0, at=1.0)
    hang_ups = talk.asked(HangUp)
    talk.session.closed(code=4408, reason="")
    talk.sign_in((KEY, "revoke"), at=2.0)

    assert [one.code for one in hang_ups] == [4408]
    assert talk.asked(Halt) == [Halt(KEY, grace_seconds=0.0)]


def test_after_a_short_sleep_the_leases_are_renewed_at_once():
    talk = computing()

    talk.actions = talk.session.slept(6.0, at=1.0)

    assert [[held.job for held in beat.jobs] for beat in talk.said(wire.Heartbeat)] == [["01JOB"]]
    assert talk.asked(HangUp) == []


def test_a_process_that_was_stopped_notices_by_the_clock():
    talk = computing()

    talk.tick(at=41.0)

    assert [one.code for one in talk.asked(HangUp)] == [4408]


def test_tokens_age_while_the_machine_sleeps():
    talk = signed_in().hear(an_offer(data_token_seconds=900.0))

    talk.session.slept(800.0, at=1.0)
    talk.session.closed(code=4408, reason="")
    talk.sign_in((KEY, "keep"), at=2.0)

    assert len(talk.tick(at=2.1).said(wire.TokenRefresh)) == 1


# ── what can never be said ──────────────────────────────────────────────────────────────────────────────────────


def delivered() -> Talk:
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    talk.actions = talk.session.uploaded(KEY, artifact="up-1", at=2.0)
    return talk


def test_a_result_that_is_too_long_for_the_protocol_becomes_a_failure_and_no_loop():
    talk = delivered()
    (result,) = talk.said(wire.JobResult)

    talk.actions = talk.session.unsendable(result)
    given_up = talk.asked(GiveUp)
    talk.hear(wire.HeartbeatOk(server_time=0), at=30.0)
    quiet = talk.tick(at=40.0).said(wire.JobResult)
    talk.actions = talk.session.computed(a_failure(), at=41.0)

    assert [one.answer for one in given_up] == [a_result()]
    assert quiet == []
    assert len(talk.said(wire.JobFailed)) == 1


def test_a_result_that_the_server_refuses_for_good_becomes_a_failure():
    talk = delivered()
    (result,) = talk.said(wire.JobResult)

    talk.hear(wire.Error(re=result.id, code="one_mask_expected"), at=3.0)

    assert [one.why for one in talk.asked(GiveUp)] == ["the server refuses it (one_mask_expected)"]


def test_a_failure_that_can_never_be_said_is_forgotten_and_the_lease_runs_out():
    talk = computing()
    talk.actions = talk.session.computed(a_failure(), at=1.0)
    (failed,) = talk.said(wire.JobFailed)

    talk.actions = talk.session.unsendable(failed)

    assert talk.asked(Forget) == [Forget(KEY)]
    assert talk.session.owed == ()


def test_other_messages_that_are_too_long_are_only_dropped():
    talk = signed_in()

    assert talk.session.unsendable(wire.Error(code="x", detail="y" * 70_000)) == []


def test_hello_lists_no_more_than_fits_into_a_frame():
    answers = tuple(a_failure(Key(f"01J{number}", 1)) for number in range(500))
    talk = Talk(Session(profile(), answers=answers)).open()

    (hello,) = talk.said(wire.Hello)

    assert len(hello.outbox) == 200


def test_a_cancelled_analysis_has_three_seconds_whatever_the_server_allows_it():
    talk = computing()

    talk.hear(wire.JobCancel(job=KEY.job, fence=1, grace_s=600.0))

    assert talk.asked(Halt) == [Halt(KEY, grace_seconds=3.0)]
