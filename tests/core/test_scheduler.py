"""Who gets which job, and why a job waits."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.job import Avoidance, Priority, Route, WaitingReason
from server.core.scheduler import (
    PRIORITY_ORDER,
    Assignment,
    Candidate,
    Demand,
    Line,
    Model,
    Waiting,
    assign,
    in_order,
    model_for,
    place,
    waiting_reason,
)
from tests.core.lives import NOON

SMALL = Model("compact", "1.0", "a" * 64)
LARGE = Model("large", "2.0", "b" * 64)
ANY = Demand(route=Route.LAB)
WORKER = Candidate(worker_id="w1", route=Route.LAB, free=1, models=(SMALL,))
JOB = Waiting(job_id="j1", demand=ANY, priority=Priority.ROUTINE, created_at=NOON, user_id="anna")
SECOND = timedelta(seconds=1)


def jobs_of(user_id: str, count: int, *, after: int = 0, **changes) -> list[Waiting]:
    """Jobs of one user, a second apart, the first `after` seconds past noon."""
    return [
        replace(JOB, job_id=f"{user_id}{n}", user_id=user_id, created_at=NOON + (after + n) * SECOND, **changes)
        for n in range(count)
    ]


def ids(queue, **given) -> list[str]:
    """The order of a queue."""
    return [job.job_id for job in in_order(queue, **{"at": NOON, **given})]


def test_a_free_worker_gets_the_job():
    assert assign([JOB], [WORKER], at=NOON) == [Assignment("j1", "w1")]


def test_no_worker_gets_more_than_it_has_room_for():
    workers = [replace(WORKER, free=2, slots=2), replace(WORKER, worker_id="w2", free=1)]

    given_out = assign(jobs_of("anna", 5), workers, at=NOON)

    assert sorted(one.worker_id for one in given_out) == ["w1", "w1", "w2"]


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


@pytest.mark.parametrize(
    ("rather", "than"),
    [
        ({"load": 0.1}, {"load": 0.9}),
        ({"warm": SMALL, "load": 0.9}, {"load": 0.1}),
        ({"cached": frozenset("123")}, {"cached": frozenset("1"), "load": 0.1}),
        ({"warm": SMALL}, {"cached": frozenset("1234")}),
        ({"free_mb": 9000, "load": 0.9}, {"free_mb": 100, "warm": LARGE, "load": 0.1}),
        ({"free": 2, "slots": 2}, {}),
    ],
)
def test_the_worker_that_will_be_done_first_is_asked_first(rather, than):
    common = {"models": (SMALL, LARGE), "memory_mb": {SMALL.sha256: 2000}}
    one, other = replace(WORKER, worker_id="w9", **common, **rather), replace(WORKER, worker_id="w0", **common, **than)
    job = replace(JOB, inputs=frozenset("1234"))

    assert assign([job], [other, one], at=NOON) == [Assignment("j1", "w9")]


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
    picky = replace(JOB, job_id="j0", demand=replace(ANY, model_name="large"))

    assert assign([picky, JOB], [WORKER], at=NOON) == [Assignment("j1", "w1")]


def test_a_job_goes_only_to_a_worker_with_all_the_labels_it_asks_for():
    wanting = replace(JOB, demand=replace(ANY, labels=frozenset({"a", "b"})))
    both = replace(WORKER, worker_id="w2", labels=frozenset("abc"), load=1.0)

    assert assign([wanting], [replace(WORKER, labels=frozenset("a")), both], at=NOON) == [Assignment("j1", "w2")]


@pytest.mark.parametrize(
    ("changes", "is_asked"),
    [
        ({"vram_mb": 1000}, False),
        ({"vram_mb": 4000, "free_mb": 1000}, True),
        ({"vram_mb": 4000, "free_mb": 1000, "slots": 2}, False),
        ({"vram_mb": 4000, "free_mb": 2000, "slots": 2}, True),
        ({"free_mb": 1000, "slots": 2, "warm": SMALL}, True),
        ({"slots": 2}, True),
    ],
)
def test_a_model_needs_its_memory(changes, is_asked):
    """An idle worker can drop what it keeps warm; one that computes already cannot; unknown figures count as enough."""
    worker = replace(WORKER, memory_mb={SMALL.sha256: 2000}, **changes)

    assert bool(assign([JOB], [worker], at=NOON)) is is_asked


def test_the_queue_is_first_come_first_served_within_a_priority():
    early = replace(JOB, job_id="early")
    late = replace(JOB, job_id="late", created_at=NOON + SECOND)
    urgent = replace(JOB, job_id="urgent", priority=Priority.URGENT, created_at=NOON + 2 * SECOND)
    batch = replace(JOB, job_id="batch", priority=Priority.BATCH, created_at=NOON - 9 * SECOND)

    assert ids([batch, late, urgent, early]) == ["urgent", "early", "late", "batch"]


def test_a_hundred_jobs_of_one_user_do_not_block_the_one_of_another():
    queue = jobs_of("anna", 100) + jobs_of("ben", 1, after=500)

    assert ids(queue).index("ben0") == 1


def test_users_take_turns():
    queue = jobs_of("anna", 3) + jobs_of("ben", 2, after=10) + jobs_of("cleo", 1, after=20)

    assert ids(queue) == ["anna0", "ben0", "cleo0", "anna1", "ben1", "anna2"]


def test_who_has_had_much_lately_comes_after_who_has_had_little():
    queue = jobs_of("anna", 3) + jobs_of("ben", 3, after=10)

    assert ids(queue, used={"anna": 2}) == ["ben0", "ben1", "anna0", "ben2", "anna1", "anna2"]


def test_what_somebody_had_is_forgotten_while_they_wait():
    queue = jobs_of("anna", 1) + jobs_of("ben", 1, after=3600)

    assert ids(queue, used={"anna": 50}, at=NOON + timedelta(seconds=60)) == ["ben0", "anna0"]
    assert ids(queue, used={"anna": 50}, at=NOON + timedelta(seconds=3600)) == ["anna0", "ben0"]


@pytest.mark.parametrize(
    ("workers", "reason"),
    [
        ([], WaitingReason.NO_WORKER),
        ([replace(WORKER, route=Route.SERVER)], WaitingReason.NO_WORKER),
        ([replace(WORKER, is_draining=True)], WaitingReason.NO_WORKER),
        ([replace(WORKER, models=(LARGE,))], WaitingReason.MODEL_MISSING),
        ([replace(WORKER, vram_mb=100, memory_mb={SMALL.sha256: 200})], WaitingReason.MODEL_MISSING),
        ([replace(WORKER, free=0)], WaitingReason.ALL_BUSY),
        ([replace(WORKER, free_mb=100, vram_mb=900, memory_mb={SMALL.sha256: 200})], WaitingReason.ALL_BUSY),
        ([replace(WORKER, free=0), replace(WORKER, models=(LARGE,))], WaitingReason.ALL_BUSY),
    ],
)
def test_a_job_says_why_it_waits(workers, reason):
    assert waiting_reason(replace(ANY, model_name="compact"), workers) is reason


def test_no_worker_with_the_labels_is_no_worker():
    assert waiting_reason(replace(ANY, labels=frozenset({"x"})), [WORKER]) is WaitingReason.NO_WORKER


def test_a_model_is_meant_by_its_name_and_its_version_if_one_is_named():
    assert model_for(ANY, [SMALL, LARGE]) == SMALL
    assert model_for(replace(ANY, model_name="large"), [SMALL, LARGE]) == LARGE
    assert model_for(replace(ANY, model_name="large", model_version="1.0"), [SMALL, LARGE]) is None


def test_only_a_model_for_exactly_the_sequences_at_hand_fits():
    without_t1ce = replace(SMALL, name="three", sequences=frozenset({"T1", "T2", "FLAIR"}))
    three = replace(ANY, sequences=without_t1ce.sequences)

    assert model_for(three, [SMALL, LARGE, without_t1ce]) == without_t1ce
    assert model_for(ANY, [without_t1ce, LARGE]) == LARGE
    assert model_for(replace(ANY, sequences=frozenset({"T1", "T2"})), [SMALL, without_t1ce]) is None
    assert model_for(replace(three, model_name="large"), [LARGE, without_t1ce]) is None


# ── any queue ───────────────────────────────────────────────────────────────────────────────────────────────────

QUEUES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(PRIORITY_ORDER), st.integers(0, 300)), max_size=40
).map(
    lambda drawn: [
        replace(JOB, job_id=f"j{n:02}", user_id=user, priority=priority, created_at=NOON + seconds * SECOND)
        for n, (user, priority, seconds) in enumerate(drawn)
    ]
)
USED = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 6))
MOMENTS = st.integers(0, 900).map(lambda seconds: NOON + seconds * SECOND)


@given(queue=QUEUES, used=USED, at=MOMENTS)
def test_the_place_from_the_lengths_of_the_lines_is_the_place_in_the_order(queue, used, at):
    order = in_order(queue, at=at, used=used)
    own = {}
    for job in order:
        own.setdefault((job.priority, job.user_id), []).append(job)
    lines = {
        key: Line(priority=key[0], user_id=key[1], waiting=len(jobs), first_at=jobs[0].created_at)
        for key, jobs in own.items()
    }

    places = [
        place(lines[key], own[key].index(job), lines.values(), at=at, used=used)
        for job in order
        for key in [(job.priority, job.user_id)]
    ]

    assert places == list(range(1, len(queue) + 1))


@given(queue=QUEUES, used=USED, at=MOMENTS)
def test_nobody_overtakes_their_own_earlier_job_or_a_higher_priority(queue, used, at):
    order = in_order(queue, at=at, used=used)

    ranks = [PRIORITY_ORDER.index(job.priority) for job in order]
    assert ranks == sorted(ranks)
    for user in "abcd":
        for priority in PRIORITY_ORDER:
            own = [(job.created_at, job.job_id) for job in order if (job.user_id, job.priority) == (user, priority)]
            assert own == sorted(own)


@given(queue=QUEUES, used=USED, newcomers=st.integers(0, 30))
def test_nobody_starves_however_many_come_later(queue, used, newcomers):
    """Six minutes forget what anybody here has had; then only those are served first who waited as long."""
    oldest = replace(JOB, job_id="oldest", user_id="a", created_at=NOON - SECOND)
    later = [
        replace(JOB, job_id=f"n{n}", user_id=f"new{n}", created_at=NOON + (600 + n) * SECOND) for n in range(newcomers)
    ]
    routine = [replace(job, priority=Priority.ROUTINE) for job in queue]

    order = ids([oldest, *routine, *later], used=used, at=NOON + timedelta(seconds=3600))

    assert order[0] == "oldest"


@given(
    queue=QUEUES,
    frees=st.lists(st.integers(0, 3), max_size=4),
    at=MOMENTS,
)
def test_as_many_are_given_out_as_there_is_room_for_and_each_once(queue, frees, at):
    workers = [replace(WORKER, worker_id=f"w{n}", free=free, slots=3) for n, free in enumerate(frees)]

    given_out = assign(queue, workers, at=at)

    assert len({one.job_id for one in given_out}) == len(given_out) == min(len(queue), sum(frees))
    for worker in workers:
        assert sum(one.worker_id == worker.worker_id for one in given_out) <= worker.free
