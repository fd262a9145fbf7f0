"""The life of a job: the table of architecture.md, cell by cell, and what it means."""

from dataclasses import replace
from datetime import timedelta

import pytest

from inference.contract import Stage
from server.core import events
from server.core.effects import Append, Change, Seek, Show, Stop
from server.core.events import (
    CancelRequested,
    Expiry,
    Faltered,
    Finished,
    Leased,
    LeaseExpired,
    Progressed,
    Resumed,
    Started,
)
from server.core.job import State
from server.core.machine import TRANSITIONS, LeaseStillHeld, Refused, StaleLease, advance
from tests.core.lives import (
    LATE,
    NOON,
    POLICY,
    after,
    event_of,
    job_in,
    leased_job,
    lost_job,
    queued_job,
    running_job,
)

TABLE = """
           Leased Started Progressed Finished   Faltered Failed LeaseExpired Resumed CancelRequested
queued     leased -       -          succeeded* -        -      -            leased* cancelled
leased     -      running -          succeeded  queued+  failed queued+      =       cancelled
running    -      =       running    succeeded  queued+  failed queued+      =       cancelled
succeeded  -      =       =          =          =        =      -            =       =
failed     -      =       =          =          =        =      -            =       =
cancelled  -      =       =          =          =        =      -            =       =
"""
HEAD, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
CELLS = [(row[0], kind, cell) for row in ROWS for kind, cell in zip(HEAD, row[1:], strict=True)]


@pytest.mark.parametrize(("state", "kind", "cell"), CELLS)
def test_every_cell_of_the_table(state, kind, cell):
    job = job_in(State(state))
    event = event_of(getattr(events, kind))

    if cell == "-":
        with pytest.raises(Refused):
            advance(job, event, POLICY)
        return
    changed, effects = advance(job, event, POLICY)

    if cell == "=":
        assert (changed, effects) == (job, ())
    else:
        assert changed.state == cell.rstrip("*+")


def test_the_table_speaks_of_every_state_and_event():
    assert set(TRANSITIONS) == set(State)
    assert {len(row) for row in TRANSITIONS.values()} == {len(HEAD)}


@pytest.mark.parametrize("kind", [kind for kind in HEAD if kind not in {"Leased", "CancelRequested"}])
@pytest.mark.parametrize("state", list(State))
def test_an_old_fence_is_stale_in_every_state(state, kind):
    job = replace(job_in(state), fence=2)

    with pytest.raises(StaleLease):
        advance(job, event_of(getattr(events, kind), fence=1), POLICY)


@pytest.mark.parametrize("state", list(State))
def test_only_the_worker_the_fence_was_given_to_is_believed(state):
    with pytest.raises(StaleLease):
        advance(job_in(state), event_of(Finished, worker_id="w2"), POLICY)


def test_nobody_finishes_a_job_that_was_never_leased():
    with pytest.raises(StaleLease):
        advance(queued_job(), event_of(Finished, fence=0), POLICY)


def test_a_ghost_worker_cannot_finish_a_job_it_lost():
    job = after(lost_job(), Leased(at=LATE, worker_id="w2"))

    with pytest.raises(StaleLease):
        advance(job, Finished(at=LATE, fence=1, worker_id="w1", result_id="r"), POLICY)


def test_a_late_result_with_the_newest_fence_is_taken():
    job, effects = advance(lost_job(), Finished(at=LATE, fence=1, worker_id="w1", result_id="r"), POLICY)

    assert (job.state, job.result_id, job.progress) == (State.SUCCEEDED, "r", 1.0)
    assert effects == (Append(Change.SUCCEEDED),)


def test_a_lease_grows_the_fence_and_lasts_as_long_as_an_offer():
    job = leased_job()

    assert (job.fence, job.worker_id, job.attempt) == (1, "w1", 0)
    assert job.lease_until == NOON + timedelta(seconds=3)


def test_taking_a_job_counts_the_attempt_and_lengthens_the_lease():
    job = running_job()

    assert (job.attempt, job.started_at) == (1, NOON)
    assert job.lease_until == NOON + timedelta(seconds=20)


def test_an_unanswered_offer_does_not_count_and_skips_the_worker_for_a_while():
    job, effects = advance(leased_job(), LeaseExpired(at=LATE, fence=1), POLICY)

    assert (job.attempt, job.causes[-1].code) == (0, "offer_unanswered")
    assert [(one.worker_id, one.until) for one in job.avoid] == [("w1", LATE + timedelta(seconds=30))]
    assert effects == (Append(Change.REQUEUED), Seek())


def test_a_declined_offer_does_not_count_and_skips_the_worker_as_long_as_it_asked():
    declined = Faltered(at=NOON, fence=1, worker_id="w1", code="busy", is_declined=True, skip_seconds=10)

    job = after(leased_job(), declined)

    assert job.attempt == 0
    assert [(one.worker_id, one.until) for one in job.avoid] == [("w1", NOON + timedelta(seconds=10))]


def test_the_third_started_attempt_that_falters_is_the_last():
    job = queued_job()
    for fence in (1, 2, 3):
        begun = after(job, Leased(at=NOON, worker_id="w1"), Started(at=NOON, fence=fence, worker_id="w1"))
        job = after(begun, Faltered(at=NOON, fence=fence, worker_id="w1", code="oom"))

    assert (job.state, job.error_code, job.attempt) == (State.FAILED, "attempts_exhausted", 3)
    assert [(cause.attempt, cause.code) for cause in job.causes] == [(1, "oom"), (2, "oom"), (3, "oom")]


def test_declines_never_exhaust_a_job():
    job = queued_job()
    for fence in range(1, 10):
        declined = Faltered(at=NOON, fence=fence, worker_id="w1", code="busy", is_declined=True)
        job = after(job, Leased(at=NOON, worker_id="w1"), declined)

    assert (job.state, job.attempt) == (State.QUEUED, 0)


def test_a_lease_that_was_renewed_in_the_meantime_does_not_expire():
    with pytest.raises(LeaseStillHeld):
        advance(running_job(), LeaseExpired(at=NOON + timedelta(seconds=19), fence=1), POLICY)


def test_a_restarted_worker_loses_its_job_before_the_lease_runs_out_and_may_have_it_again():
    job = after(running_job(), LeaseExpired(at=NOON, fence=1, why=Expiry.WORKER_RESTARTED))

    assert (job.state, job.avoid, job.causes[-1].code) == (State.QUEUED, (), "worker_restarted")


def test_a_worker_that_comes_back_with_the_newest_fence_counts_the_attempt_once():
    resumed = Resumed(at=LATE, fence=1, worker_id="w1")

    job = after(lost_job(), resumed, Started(at=LATE, fence=1, worker_id="w1"))

    assert (job.state, job.attempt, job.fence) == (State.RUNNING, 1, 1)


def test_progress_never_runs_backwards_within_an_attempt():
    def at_stage(stage: Stage, fraction: float) -> Progressed:
        return Progressed(at=NOON, fence=1, worker_id="w1", stage=stage, fraction=fraction)

    ahead = after(running_job(), at_stage(Stage.INFERENCE, 0.8))
    late = after(ahead, at_stage(Stage.FETCH, 1.0), at_stage(Stage.INFERENCE, 0.1))

    assert (late.stage, late.progress) == (Stage.INFERENCE, ahead.progress)


def test_only_a_new_stage_is_worth_an_event():
    first = Progressed(at=NOON, fence=1, worker_id="w1", stage=Stage.FETCH, fraction=0.1)

    job, entered = advance(running_job(), first, POLICY)
    _, moved = advance(job, replace(first, fraction=0.9), POLICY)

    assert (entered, moved) == ((Append(Change.STAGE),), (Show(),))


def test_the_next_attempt_starts_from_nothing():
    far = Progressed(at=NOON, fence=1, worker_id="w1", stage=Stage.UPLOAD, fraction=1.0, eta_seconds=1.0)

    job = after(running_job(), far, LeaseExpired(at=LATE, fence=1), Leased(at=LATE, worker_id="w2"))

    assert (job.progress, job.stage, job.eta_seconds, job.attempt) == (0.0, None, None, 1)


def test_cancelling_a_running_job_stops_its_worker_until_it_confirms():
    job, effects = advance(running_job(), CancelRequested(at=NOON), POLICY)

    assert (job.state, job.is_stop_pending, job.lease_until) == (State.CANCELLED, True, None)
    assert effects == (Append(Change.CANCELLED), Stop(worker_id="w1", fence=1))


def test_cancelling_a_queued_job_concerns_nobody_else():
    job, effects = advance(queued_job(), CancelRequested(at=NOON), POLICY)

    assert (job.is_stop_pending, effects) == (False, (Append(Change.CANCELLED),))
