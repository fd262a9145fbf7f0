"""Whether and when a worker connects again."""

from __future__ import annotations

import pytest

from worker_client.comeback import Backoff, ComeBack, StayAway, after_close
from worker_client.protocol.messages import Bye


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 4000, 4408, 4413])
def test_ordinary_ends_are_no_reason_to_stay_away(code):
    """Daphne closes with 1000 after a day, and with no code at all when it dies."""
    assert after_close(code=code, reason="", bye=None) == ComeBack()


@pytest.mark.parametrize("code", [4501, 4503, 4506, 4510])
def test_codes_from_4500_up_need_a_person(code):
    assert after_close(code=code, reason="no", bye=None) == StayAway(code=code, reason="no")


@pytest.mark.parametrize(("code", "seconds"), [(4409, 30.0), (4429, 10.0), (4511, 60.0)])
def test_some_ends_ask_for_patience(code, seconds):
    assert after_close(code=code, reason="", bye=None) == ComeBack(after_seconds=seconds)


def test_a_goodbye_counts_more_than_the_code():
    bye = Bye(code=4501, reason="the key store restarts", reconnect=True, retry_after_s=5.0)

    assert after_close(code=4501, reason="", bye=bye) == ComeBack(after_seconds=5.0)


def test_a_worker_whose_twin_is_connected_asks_again_after_a_minute():
    """The twin may be this very machine before it was switched off hard."""
    bye = Bye(code=4511, reason="already connected", reconnect=False)

    assert after_close(code=4511, reason="", bye=bye) == ComeBack(after_seconds=60.0)


def test_the_pauses_grow_to_their_cap_and_are_jittered_over_all_of_it():
    backoff = Backoff()

    delays = []
    for _ in range(8):
        backoff.ended(signed_in_seconds=0.0)
        delays.append(backoff.delay(ComeBack(), is_urgent=False, luck=1.0))

    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert backoff.delay(ComeBack(), is_urgent=False, luck=0.0) == 0.0


def test_a_worker_that_holds_work_is_back_within_three_seconds():
    backoff = Backoff()
    for _ in range(10):
        backoff.ended(signed_in_seconds=0.0)

    assert backoff.delay(ComeBack(), is_urgent=True, luck=1.0) == 3.0


def test_a_server_that_welcomes_and_closes_at_once_is_not_asked_in_a_tight_loop():
    """`async for` of websockets starts its pauses anew after every handshake: 169 connections in 3 seconds."""
    backoff = Backoff()
    for _ in range(6):
        backoff.ended(signed_in_seconds=0.1)

    assert backoff.delay(ComeBack(), is_urgent=False, luck=1.0) == 30.0


def test_the_pauses_start_anew_after_a_minute_of_life():
    backoff = Backoff()
    for _ in range(6):
        backoff.ended(signed_in_seconds=0.0)

    backoff.ended(signed_in_seconds=60.0)

    assert backoff.delay(ComeBack(), is_urgent=False, luck=1.0) == 1.0


def test_the_third_403_in_a_row_makes_it_slow_even_with_work_at_hand():
    backoff = Backoff()

    delays = []
    for _ in range(3):
        backoff.ended(signed_in_seconds=0.0, status=403)
        delays.append(backoff.delay(ComeBack(), is_urgent=True, luck=0.5))

    assert delays == [0.5, 1.0, 30.0]


def test_a_403_between_other_failures_is_only_a_failure():
    """Daphne answers 403 to every handshake that it cannot serve, a database hiccup among them."""
    backoff = Backoff()
    for status in (403, 403, 502, 403):
        backoff.ended(signed_in_seconds=0.0, status=status)

    assert backoff.delay(ComeBack(), is_urgent=True, luck=1.0) == 3.0


def test_what_the_server_asks_for_is_the_least():
    backoff = Backoff()
    backoff.ended(signed_in_seconds=100.0)

    delay = backoff.delay(ComeBack(after_seconds=5.0, jitter_seconds=4.0), is_urgent=True, luck=0.5)

    assert delay == 7.0
