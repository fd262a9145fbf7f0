"""Who gets which job, and why a job waits."""

from dataclasses import replace
from datetime import timedelta

import pytest

from server.core.job import Avoidance, Priority, Route, WaitingReason
from server.core.scheduler import Assignment, Candidate, Model, Waiting, assign, in_order, model_for, waiting_reason
from tests.core.lives import NOON

SMALL = Model("compact", "1.0", "a" * 64)
LARGE = Model("large", "2.0", "b" * 64)
WORKER = Candidate(worker_id="w1", route=Route.LAB, free=1, models=(SMALL,))
JOB = Waiting(job_id="j1", route=Route.LAB, priority=Priority.ROUTINE, created_at=NOON)


def test_a_free_worker_gets_the_job():
    assert assign([JOB], [WORKER], at=NOON) == [Assignment("j1", "w1")]


def test_no_worker_gets_more_than_it_has_room_for():
    queue = [replace(JOB, job_id=f"j{n}") for n in range(5)]
    workers = [replace(WORKER, free=2), replace(WORKER, worker_id="w2", free=1)]

    given = assign(queue, workers, at=NOON)

    assert sorted(one.worker_id for one in given) == ["w1", "w1", "w2"]


@pytest.mark.parametrize(
    "worker",
    [
        replace(WORKER, free=0),
        replace(WORKER, route=Route.SERVER),
        replace(WORKER, is_draining=True),
        replace(WORKER, models=()),
    ],
)
def test_a_worker_that_cannot_is_not_asked(worker):
    assert assign([JOB], [worker], at=NOON) == []


def test_the_least_loaded_worker_is_asked_first():
    busy, idle = replace(WORKER, load=0.9), replace(WORKER, worker_id="w2", load=0.1)

    assert assign([JOB], [busy, idle], at=NOON) == [Assignment("j1", "w2")]


def test_a_worker_with_the_model_warm_is_asked_before_an_idle_one():
    warm, idle = replace(WORKER, load=0.9, warm=SMALL), replace(WORKER, worker_id="w0", load=0.1)

    assert assign([JOB], [idle, warm], at=NOON) == [Assignment("j1", "w1")]


def test_another_worker_is_preferred_after_a_failure_but_a_lone_one_gets_it_again():
    again = replace(JOB, faltered_on=frozenset({"w1"}))
    other = replace(WORKER, worker_id="w2", load=1.0)

    assert assign([again], [WORKER, other], at=NOON) == [Assignment("j1", "w2")]
    assert assign([again], [WORKER], at=NOON) == [Assignment("j1", "w1")]


def test_a_worker_is_left_alone_until_the_time_it_named():
    until = NOON + timedelta(seconds=10)
    declined = replace(JOB, avoid=(Avoidance(worker_id="w1", until=until),))

    assert assign([declined], [WORKER], at=NOON) == []
    assert assign([declined], [WORKER], at=until) == [Assignment("j1", "w1")]


def test_a_job_nobody_can_take_does_not_hold_up_the_ones_behind_it():
    picky = replace(JOB, job_id="j0", model_name="large")

    assert assign([picky, JOB], [WORKER], at=NOON) == [Assignment("j1", "w1")]


def test_the_queue_is_first_come_first_served_within_a_priority():
    early = replace(JOB, job_id="early")
    late = replace(JOB, job_id="late", created_at=NOON + timedelta(seconds=1))
    urgent = replace(JOB, job_id="urgent", priority=Priority.URGENT, created_at=NOON + timedelta(seconds=2))
    batch = replace(JOB, job_id="batch", priority=Priority.BATCH, created_at=NOON - timedelta(seconds=9))

    assert [job.job_id for job in in_order([batch, late, urgent, early])] == ["urgent", "early", "late", "batch"]


@pytest.mark.parametrize(
    ("workers", "reason"),
    [
        ([], WaitingReason.NO_WORKER),
        ([replace(WORKER, route=Route.SERVER)], WaitingReason.NO_WORKER),
        ([replace(WORKER, is_draining=True)], WaitingReason.NO_WORKER),
        ([replace(WORKER, models=(LARGE,))], WaitingReason.MODEL_MISSING),
        ([replace(WORKER, free=0)], WaitingReason.ALL_BUSY),
        ([replace(WORKER, free=0), replace(WORKER, models=(LARGE,))], WaitingReason.ALL_BUSY),
        ([WORKER], None),
    ],
)
def test_a_job_says_why_it_waits(workers, reason):
    wanting = replace(JOB, model_name="compact")

    assert waiting_reason(wanting, workers, at=NOON) is reason


def test_a_model_is_meant_by_its_name_and_its_version_if_one_is_named():
    assert model_for(None, "", [SMALL, LARGE]) == SMALL
    assert model_for("large", "", [SMALL, LARGE]) == LARGE
    assert model_for("large", "1.0", [SMALL, LARGE]) is None
