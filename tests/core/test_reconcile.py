"""What a returning worker is told."""

from datetime import timedelta

import pytest

from server.core.events import Expiry, Finished, Leased, LeaseExpired, Resumed, Started
from server.core.job import Job, State
from server.core.reconcile import Hold, Ruling, reconcile
from tests.core.lives import LATE, NOON, after, job_in, leased_job, lost_job, running_job

HOLD = Hold("job", 1)


def said(job: Job | None, *, running=(), outbox=()):
    jobs = {} if job is None else {job.id: job}
    return reconcile(jobs, worker_id="w1", running=running, outbox=outbox, at=LATE)


def test_a_job_still_running_is_kept():
    settled = said(running_job(), running=[HOLD])

    assert settled.verdicts == ((HOLD, Ruling.KEEP),)
    assert settled.events == ()


def test_a_job_whose_lease_ran_out_is_given_back_to_the_worker_that_still_runs_it():
    settled = said(lost_job(), running=[HOLD])

    assert settled.verdicts == ((HOLD, Ruling.KEEP),)
    assert [type(event) for _, event in settled.events] == [Resumed, Started]


def test_a_job_whose_acceptance_was_lost_counts_as_started():
    settled = said(leased_job(), running=[HOLD])

    assert [type(event) for _, event in settled.events] == [Started]


def test_a_job_that_somebody_else_has_now_is_revoked():
    job = after(lost_job(), Leased(at=LATE, worker_id="w2"))

    assert said(job, running=[HOLD]).verdicts == ((HOLD, Ruling.REVOKE),)
    assert said(job, outbox=[HOLD]).verdicts == ((HOLD, Ruling.REVOKE),)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_a_job_that_is_over_is_stopped_and_its_outbox_entry_dropped(state):
    assert said(job_in(state), running=[HOLD]).verdicts == ((HOLD, Ruling.REVOKE),)
    assert said(job_in(state), outbox=[HOLD]).verdicts == ((HOLD, Ruling.ALREADY_DONE),)


def test_a_result_in_the_outbox_is_asked_for_and_nobody_else_gets_the_job_meanwhile():
    settled = said(lost_job(), outbox=[HOLD])

    assert settled.verdicts == ((HOLD, Ruling.SEND_RESULT),)
    job = after(lost_job(), *(event for _, event in settled.events))
    assert job.state is State.RUNNING
    assert after(job, Finished(at=LATE, fence=1, worker_id="w1", result_id="r")).state is State.SUCCEEDED


@pytest.mark.parametrize("job", [leased_job(), running_job()])
def test_a_job_the_worker_forgot_is_queued_at_once(job):
    settled = said(job)

    assert settled.events == (("job", LeaseExpired(at=LATE, fence=1, why=Expiry.WORKER_RESTARTED)),)
    assert after(job, *(event for _, event in settled.events)).state is State.QUEUED


def test_a_job_held_under_a_newer_fence_than_listed_is_queued_at_once():
    job = after(lost_job(), Leased(at=LATE, worker_id="w1"))

    settled = said(job, running=[HOLD])

    assert settled.verdicts == ((HOLD, Ruling.REVOKE),)
    assert [event.fence for _, event in settled.events] == [2]


def test_an_unknown_job_is_revoked():
    assert said(None, running=[HOLD]).verdicts == ((HOLD, Ruling.REVOKE),)
    assert said(None, outbox=[HOLD]).verdicts == ((HOLD, Ruling.REVOKE),)


def test_jobs_of_other_workers_are_left_alone():
    assert said(running_job("w2")).events == ()
    assert NOON + timedelta(seconds=20) == running_job("w2").lease_until
