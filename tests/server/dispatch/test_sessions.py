"""What a worker holds across cuts, restarts and silence."""

from datetime import timedelta

import pytest
from django.utils import timezone

from server.core.job import State
from server.core.reconcile import Hold, Ruling
from server.dispatch import housekeeping, sessions
from server.dispatch.sessions import SessionOver
from server.jobs import services
from server.jobs.models import Job
from server.topics.selectors import events_since
from tests.server.dispatch.scenes import (
    QUIET,
    a_job,
    a_worker,
    an_arrival,
    leased,
    overdue,
    reread,
    running,
    session_of,
)

pytestmark = pytest.mark.django_db


def comes_back(worker, **held):
    return sessions.take_seat(an_arrival(worker, **held), node="node", channel_name="channel.new")


def beat(worker, *holds, **changes):
    return sessions.beat(worker.pk, session_of(worker).session, holds=holds, pulse=QUIET, **changes)


def test_every_sign_in_is_a_newer_session():
    worker = a_worker()

    assert comes_back(worker).session == 2
    assert session_of(worker).credits == 0
    assert [event.kind for event in events_since("workers", 0)] == ["worker.connected", "worker.connected"]


def test_a_worker_that_still_runs_its_job_keeps_it():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)

    seat = comes_back(worker, running=(hold,))

    assert seat.verdicts == ((hold, Ruling.KEEP),)
    assert (reread(job).state, reread(job).fence, reread(job).attempt) == ("running", 1, 1)


def test_a_worker_gets_a_lease_back_that_ran_out_when_nobody_else_took_it():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    overdue(job)
    housekeeping.expire()

    seat = comes_back(worker, running=(hold,))

    assert seat.verdicts == ((hold, Ruling.KEEP),)
    assert (reread(job).state, reread(job).attempt) == ("running", 1)
    assert reread(job).lease_until > timezone.now() + timedelta(seconds=15)


def test_a_restarted_worker_has_its_forgotten_job_queued_at_once():
    job, worker = a_job(), a_worker()
    running(job, worker)

    comes_back(worker, boot_id="boot-2")

    assert (reread(job).state, reread(job).causes[-1]["code"]) == ("queued", "worker_restarted")


def test_a_result_in_the_outbox_is_asked_for_and_its_job_goes_to_nobody_else():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    overdue(job)
    housekeeping.expire()

    seat = comes_back(worker, boot_id="boot-2", outbox=(hold,))

    assert seat.verdicts == ((hold, Ruling.SEND_RESULT),)
    assert reread(job).state == State.RUNNING


def test_an_attempt_somebody_else_has_is_revoked():
    job, worker, other = a_job(), a_worker(), a_worker("lab-2")
    hold = running(job, worker)
    overdue(job)
    housekeeping.expire()
    running(job, other)

    seat = comes_back(worker, running=(hold,))

    assert seat.verdicts == ((hold, Ruling.REVOKE),)
    assert reread(job).worker_id == other.pk


def test_what_is_void_is_revoked():
    worker = a_worker()
    hold = Hold("old", 3)

    assert comes_back(worker, void=(hold,)).verdicts == ((hold, Ruling.REVOKE),)


def test_a_heartbeat_renews_exactly_what_it_lists():
    listed, silent, worker = a_job(uid="1"), a_job(uid="2"), a_worker(credits=2)
    hold, _ = running(listed, worker), running(silent, worker)
    Job.objects.update(lease_until=timezone.now() + timedelta(seconds=1))

    answer = beat(worker, hold)

    assert answer.lost == ()
    assert reread(listed).lease_until > timezone.now() + timedelta(seconds=15)
    assert reread(silent).lease_until < timezone.now() + timedelta(seconds=2)


def test_a_heartbeat_is_told_what_is_lost_and_what_was_cancelled():
    taken, cancelled, worker, other = a_job(uid="1"), a_job(uid="2"), a_worker(credits=2), a_worker("lab-2")
    lost, stopped = running(taken, worker), running(cancelled, worker)
    overdue(taken)
    housekeeping.expire()
    running(taken, other)
    services.cancel(cancelled.pk)

    answer = beat(worker, lost, stopped)

    assert set(answer.lost) == {lost, stopped}
    assert answer.stops == (stopped,)


def test_a_heartbeat_that_came_late_gets_its_lease_back():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    overdue(job)
    housekeeping.expire()

    answer = beat(worker, hold)

    assert answer.lost == ()
    assert (reread(job).state, reread(job).attempt) == ("running", 1)


def test_the_words_of_an_old_session_do_not_count():
    worker = a_worker()
    comes_back(worker)

    with pytest.raises(SessionOver):
        sessions.beat(worker.pk, 1, holds=(), pulse=QUIET)
    with pytest.raises(SessionOver):
        sessions.note_ready(worker.pk, 1, credits=1, pulse=QUIET, is_draining=False)


def test_a_cut_leaves_ten_seconds_to_come_back():
    job, worker = a_job(), a_worker()
    running(job, worker)

    sessions.leave(worker.pk, 1, is_orderly=False)

    left = reread(job).lease_until - timezone.now()
    assert timedelta(seconds=8) < left <= timedelta(seconds=10)
    assert events_since("workers", 0)[-1].kind == "worker.disconnected"


def test_a_goodbye_leaves_the_leases_as_they_are():
    job, worker = a_job(), a_worker()
    running(job, worker)
    before = reread(job).lease_until

    sessions.leave(worker.pk, 1, is_orderly=True)

    assert reread(job).lease_until == before


def test_the_end_of_an_old_socket_does_not_end_the_new_session():
    worker = a_worker()
    comes_back(worker)

    sessions.leave(worker.pk, 1, is_orderly=False)

    assert session_of(worker).closed_at is None


def test_only_another_boot_is_another_session():
    worker = a_worker()

    assert sessions.other_session(worker.pk, boot_id="boot-1") is None
    assert sessions.other_session(worker.pk, boot_id="boot-2") == session_of(worker)
    sessions.leave(worker.pk, 1, is_orderly=False)
    assert sessions.other_session(worker.pk, boot_id="boot-2") is None


def test_holding_on_takes_a_job_for_its_newest_attempt_only():
    job, worker = a_job(), a_worker()
    hold = leased(job, worker)

    assert sessions.hold_on(hold, worker_id=worker.pk)
    assert reread(job).state == State.RUNNING
    assert not sessions.hold_on(Hold(job.pk, 7), worker_id=worker.pk)
    assert not sessions.hold_on(hold, worker_id="another")
    services.cancel(job.pk)
    assert not sessions.hold_on(hold, worker_id=worker.pk)
