"""The same rows changed by many threads at once, each with a connection of its own, as by several servers.

On SQLite they take turns; the run on PostgreSQL (tests/system/test_on_services.py) is where they really meet.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections

from server.core.events import CancelRequested, Finished, LeaseExpired, Started
from server.core.job import OPEN_STATES, State
from server.core.machine import Refused
from server.core.reconcile import Hold
from server.dispatch import assigner, housekeeping, sessions
from server.dispatch.models import Worker, WorkerSession
from server.jobs import services
from server.jobs.models import Job, JobEvent
from server.jobs.requests import Wish, request_segmentation
from tests.server.dispatch.scenes import QUIET, a_job, a_worker, an_arrival, overdue, reread, running
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db(transaction=True)

HARMLESS = (Refused, sessions.SessionOver)
"""What a thread may hear that came too late."""


def side_by_side(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Start all of them at the same moment and answer what each gave, a harmless refusal as itself."""
    calls = list(calls)
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        start.wait(30)
        try:
            return call()
        except HARMLESS as refusal:
            return refusal
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=len(calls)) as threads:
        return list(threads.map(run, calls))


def assert_in_order(job_id: str) -> None:
    """Its log has no gap, ends with its state, and says at most once that it ended."""
    row = Job.objects.get(pk=job_id)
    events = list(JobEvent.objects.filter(job_id=job_id).order_by("seq"))
    assert [event.seq for event in events] == list(range(1, row.last_seq + 1))
    assert events[-1].payload["state"] == row.state
    assert sum(event.payload["state"] not in OPEN_STATES for event in events) == (row.state not in OPEN_STATES)


def a_wish(owner: User, uid: str) -> Wish:
    four = four_series(a_study(owner, uid=uid))
    return Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four), use_local=True)


@pytest.mark.parametrize("key", ["", "the-same-key"])
def test_fifty_equal_clicks_at_once_are_one_job(key: str) -> None:
    reader = a_user()
    wish = a_wish(reader, "1.2.3")

    answers = side_by_side([lambda: request_segmentation(user=reader, wish=wish, idempotency_key=key)] * 50)

    assert len({answer["id"] for answer in answers}) == Job.objects.count() == 1
    assert_in_order(answers[0]["id"])


def test_eight_dispatchers_give_every_job_out_once_and_nobody_more_than_it_takes() -> None:
    reader = a_user()
    for number in range(24):
        request_segmentation(user=reader, wish=a_wish(reader, f"1.2.{number}"))
    workers = [a_worker(f"lab-{number}", credits=5) for number in range(4)]

    for _ in range(3):
        side_by_side([assigner.assign_round] * 8)

    rows = list(Job.objects.filter(state=State.LEASED))
    held = Counter(row.worker_id for row in rows)
    assert len(rows) == 20
    assert {row.fence for row in rows} == {1}
    assert held == {worker.pk: 5 for worker in workers}
    for row in Job.objects.all():
        assert_in_order(row.pk)


def test_clicks_and_dispatchers_at_once_fill_a_worker_to_the_brim_and_no_further() -> None:
    reader = a_user()
    wishes = [a_wish(reader, f"1.2.{number}") for number in range(8)]
    worker = a_worker(credits=3)
    clicks = [lambda wish=wish: request_segmentation(user=reader, wish=wish) for wish in wishes]

    side_by_side([*clicks, *[assigner.assign_round] * 4])
    assigner.assign_round()

    assert Job.objects.filter(worker_id=worker.pk).count() == 3
    assert Job.objects.filter(state=State.QUEUED).count() == 5


def steps_on(job: Job, worker: Worker, hold: Hold) -> dict[str, Callable[[], Any]]:
    """What may strike a running job: it is taken back and given out again, it ends, it is cancelled."""
    at = services.now()
    return {
        "expire": lambda: services.record(job.pk, LeaseExpired(at=at, fence=hold.fence)),
        "claim": assigner.assign_round,
        "result": lambda: services.record(
            job.pk, Finished(at=at, fence=hold.fence, worker_id=worker.pk, result_id="r" * 26)
        ),
        "cancel": lambda: services.record(job.pk, CancelRequested(at=at)),
    }


def a_running_job(number: int, worker: Worker) -> tuple[Job, Hold]:
    job = a_job(uid=f"1.2.{number}")
    hold = running(job, worker)
    overdue(job)
    return reread(job), hold


def assert_one_end(job: Job, hold: Hold) -> None:
    after = reread(job)
    assert_in_order(job.pk)
    assert after.state in {State.SUCCEEDED, State.CANCELLED}
    assert (after.result_id is not None) == (after.state == State.SUCCEEDED)
    if after.state == State.SUCCEEDED:
        assert after.fence == hold.fence


def test_every_order_of_claim_expiry_result_and_cancel_ends_a_job_once() -> None:
    worker = a_worker(credits=0)

    for number, order in enumerate(permutations(("expire", "claim", "result", "cancel"))):
        job, hold = a_running_job(number, worker)
        steps = steps_on(job, worker, hold)
        for name in order:
            try:
                steps[name]()
            except HARMLESS:
                continue
        assert_one_end(job, hold)


def test_claim_expiry_result_and_cancel_at_the_same_moment_end_a_job_once() -> None:
    worker = a_worker(credits=0)

    for number in range(15):
        job, hold = a_running_job(number, worker)
        side_by_side(steps_on(job, worker, hold).values())
        assert_one_end(job, hold)


class Storm:
    """A thread that does at random what servers do; what comes too late is refused, and nothing else goes wrong."""

    def __init__(self, *, seed: int, reader: User, workers: list[Worker], wishes: list[Wish]) -> None:
        self.luck = random.Random(seed)
        self.reader = reader
        self.workers = workers
        self.wishes = wishes

    def __call__(self) -> None:
        deeds = [
            self.click,
            self.give,
            self.beat,
            self.come,
            self.go,
            self.accept,
            self.expire,
            self.finish,
            self.cancel,
        ]
        for _ in range(25):
            try:
                self.luck.choice(deeds)()
            except HARMLESS:
                continue

    def click(self) -> None:
        request_segmentation(user=self.reader, wish=self.luck.choice(self.wishes))

    def give(self) -> None:
        assigner.assign_round()

    def beat(self) -> None:
        worker = self.luck.choice(self.workers)
        holds = [Hold(row.pk, row.fence) for row in self._held(worker)]
        sessions.beat(worker.pk, self._session(worker), holds=holds, pulse=QUIET)

    def come(self) -> None:
        worker = self.luck.choice(self.workers)
        holds = tuple(Hold(row.pk, row.fence) for row in self._held(worker) if self.luck.random() < 0.5)
        arrival = an_arrival(worker, boot_id=f"boot-{self.luck.random()}", running=holds)
        seat = sessions.take_seat(arrival, node="node", channel_name=f"channel.{self.luck.random()}")
        sessions.note_ready(worker.pk, seat.session, credits=2, pulse=QUIET, is_draining=False)

    def go(self) -> None:
        worker = self.luck.choice(self.workers)
        sessions.leave(worker.pk, self._session(worker), is_orderly=False)

    def accept(self) -> None:
        for row in Job.objects.filter(state=State.LEASED):
            said = Started(at=services.now(), fence=row.fence, worker_id=row.worker_id or "")
            sessions.accept(row.pk, said, session=self._session_of(row.worker_id))

    def expire(self) -> None:
        job = self._any_job(State.RUNNING)
        if job is not None:
            overdue(job)
        housekeeping.expire()

    def finish(self) -> None:
        job = self._any_job(State.RUNNING)
        if job is not None:
            said = {"at": services.now(), "fence": job.fence, "worker_id": job.worker_id or ""}
            services.record(job.pk, Finished(**said, result_id=f"r-{job.pk}-{job.fence}"))

    def cancel(self) -> None:
        job = self._any_job(State.QUEUED)
        if job is not None:
            services.cancel(job.pk)

    def _any_job(self, state: State) -> Job | None:
        found = list(Job.objects.filter(state=state))
        return self.luck.choice(found) if found else None

    def _held(self, worker: Worker) -> list[Job]:
        return list(Job.objects.filter(worker_id=worker.pk, state__in=[State.LEASED, State.RUNNING]))

    def _session(self, worker: Worker) -> int:
        return self._session_of(worker.pk)

    def _session_of(self, worker_id: str | None) -> int:
        return WorkerSession.objects.values_list("session", flat=True).get(worker_id=worker_id)


def test_a_storm_of_everything_leaves_every_log_whole_and_nobody_waiting_for_ever() -> None:
    """A deadlock would be an OperationalError here."""
    reader = a_user()
    workers = [a_worker(f"lab-{number}", credits=2) for number in range(3)]
    wishes = [a_wish(reader, f"1.2.{number}") for number in range(6)]

    side_by_side([Storm(seed=seed, reader=reader, workers=workers, wishes=wishes) for seed in range(6)])

    assert Job.objects.exists()
    for row in Job.objects.all():
        assert_in_order(row.pk)
    held = Counter(Job.objects.filter(state=State.LEASED).values_list("worker_id", flat=True))
    assert all(count <= 2 for count in held.values())
