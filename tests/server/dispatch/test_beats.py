"""Heartbeats of many idle workers share one transaction, and each still gets an answer of its own."""

from datetime import timedelta

import pytest
from django.utils import timezone

from server.dispatch.beats import IdleBeat, idle_beats
from server.dispatch.models import Worker, WorkerSession
from server.dispatch.sessions import Pulse
from server.jobs import services
from tests.server.dispatch.scenes import QUIET, a_job, a_worker, running, session_of

pytestmark = pytest.mark.django_db


def _beat(worker: Worker, *, session: int = 1, pulse: Pulse = QUIET) -> IdleBeat:
    return IdleBeat(worker.pk, session, pulse)


def test_many_beats_cost_no_more_statements_than_a_few(django_assert_max_num_queries):
    few, many = [a_worker(f"few-{n}") for n in range(2)], [a_worker(f"many-{n}") for n in range(30)]

    with django_assert_max_num_queries(12) as of_few:
        idle_beats([_beat(worker) for worker in few])
    with django_assert_max_num_queries(12) as of_many:
        answers = idle_beats([_beat(worker) for worker in many])

    assert len(of_many) == len(of_few)
    assert [answer.state for answer in answers] == ["active"] * 30


def test_a_beat_renews_its_session_and_notes_what_the_machine_says():
    worker = a_worker()
    WorkerSession.objects.update(lease_until=timezone.now() + timedelta(seconds=1))

    idle_beats([_beat(worker, pulse=Pulse(load=0.7, gpu={"util": 0.5}, rtt_ms=12.0))])

    session = session_of(worker)
    assert session.lease_until > timezone.now() + timedelta(seconds=15)
    assert (session.load, session.gpu, session.rtt_ms) == (0.7, {"util": 0.5}, 12.0)
    assert Worker.objects.get().last_seen is not None


def test_the_words_of_an_old_session_do_not_count_and_spoil_nobody_elses():
    old, current, stranger = a_worker("old"), a_worker("current"), Worker(pk="nobody")

    answers = idle_beats([_beat(old, session=7), _beat(current), _beat(stranger)])

    assert [answer is None for answer in answers] == [True, False, True]


def test_a_suspended_and_a_revoked_worker_are_told_apart():
    suspended, revoked = a_worker("suspended"), a_worker("revoked")
    Worker.objects.filter(pk=suspended.pk).update(state="suspended")
    Worker.objects.filter(pk=revoked.pk).update(state="revoked")

    answers = idle_beats([_beat(suspended), _beat(revoked)])

    assert [answer.state for answer in answers] == ["suspended", "revoked"]


def test_a_cancelled_attempt_is_told_again_to_a_worker_that_says_it_is_idle():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    services.cancel(job.pk)

    (answer,) = idle_beats([_beat(worker)])

    assert answer.stops == (hold,)
