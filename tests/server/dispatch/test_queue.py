"""The queue as a whole: turns, cancel against result, everybody gone, poison, a clock that is set (rows 20, 24-26)."""

import asyncio
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from inference.contract import Stage
from server.core.clocks import Reading
from server.core.events import Faltered, Finished, Progressed
from server.core.machine import StaleLease
from server.dispatch import clock, forecast, housekeeping, survey, wakeups
from server.dispatch.models import Worker, WorkerPace, WorkerSession
from server.jobs import selectors, services
from server.jobs.errors import QueueFull
from server.jobs.models import Job, JobEvent
from server.jobs.requests import Wish, request_segmentation
from tests.server.dispatch.scenes import (
    MODEL,
    a_job,
    a_worker,
    leased,
    one_round,
    overdue,
    reread,
    running,
    session_of,
)
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """What a process knows of paces and services does not pass from test to test."""
    for name in ("_services", "_paces", "_running"):
        monkeypatch.setattr(forecast, name, {})
    forecast.forget()


def job_of(name: str, *, uid: str, **wish) -> Job:
    """A queued job of another reader."""
    user = User.objects.filter(username=name).first() or a_user(name)
    four = four_series(a_study(user, uid=uid))
    wanted = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four), use_local=True, **wish)
    return Job.objects.get(pk=request_segmentation(user=user, wish=wanted)["id"])


def done(job: Job, worker: Worker) -> None:
    """The worker delivers what it was offered, and is free again."""
    said = {"at": timezone.now(), "fence": reread(job).fence, "worker_id": worker.pk}
    services.record(job.pk, Finished(**said, result_id=f"result of {job.pk}"))
    WorkerSession.objects.filter(worker=worker).update(credits=1)


def served(worker: Worker) -> str:
    """The job that the worker gets in the next round, and finishes."""
    one_round()
    (job,) = Job.objects.filter(state="leased", worker_id=worker.pk)
    done(job, worker)
    return job.pk


def test_a_queue_that_lost_all_its_workers_is_served_in_order_once_one_returns():
    """Row 25: nothing is lost, nobody starves, first come first served within a priority and a user."""
    routine = [a_job(uid=f"1.{number}") for number in range(12)]
    batch = a_job(uid="2.1", priority="batch")
    urgent = a_job(uid="3.1", priority="urgent")
    worker = a_worker()

    order = [served(worker) for _ in range(14)]

    assert order == [urgent.pk, *(job.pk for job in routine), batch.pk]
    assert not selectors.open_jobs().exists()


def test_one_users_many_jobs_do_not_block_anothers_one():
    many = [a_job(uid=f"1.{number}") for number in range(6)]
    single = job_of("ben", uid="2.1")
    worker = a_worker()

    order = [served(worker) for _ in range(3)]

    assert order[:2] == [many[0].pk, single.pk]
    assert selectors.standing_of(reread(many[-1])).queue_position == 4


def test_an_input_that_no_worker_survives_fails_after_three_attempts_and_holds_nobody_up():
    """Row 26."""
    poison, behind, worker = a_job(uid="1"), a_job(uid="2"), a_worker()
    for attempt in (1, 2, 3):
        Job.objects.filter(pk=poison.pk).update(avoid=[])
        one_round()
        hold = reread(poison).fence
        said = {"at": timezone.now(), "fence": hold, "worker_id": worker.pk}
        services.record(poison.pk, Faltered(**said, code="oom", detail=f"attempt {attempt}"))

    one_round()

    shown = selectors.snapshot(reread(poison))
    assert (shown["state"], shown["error"]["code"]) == ("failed", "attempts_exhausted")
    assert [cause["detail"] for cause in reread(poison).causes] == ["attempt 1", "attempt 2", "attempt 3"]
    assert reread(behind).state == "leased"


def test_a_worker_is_spared_a_job_for_a_moment_after_it_went_wrong_there_and_another_is_not():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    services.record(job.pk, Faltered(at=timezone.now(), fence=hold.fence, worker_id=worker.pk, code="oom"))

    one_round()
    spared = reread(job).state
    other = a_worker("other")
    one_round()

    assert (spared, reread(job).worker_id) == ("queued", other.pk)


def test_of_a_cancel_and_a_result_one_counts():
    """Row 24: whichever is first; the other changes nothing."""
    first, second, worker = a_job(uid="1"), a_job(uid="2"), a_worker(credits=2)
    holds = [running(job, worker) for job in (first, second)]

    services.cancel(first.pk)
    services.record(first.pk, Finished(at=timezone.now(), fence=holds[0].fence, worker_id=worker.pk, result_id="late"))
    services.record(second.pk, Finished(at=timezone.now(), fence=holds[1].fence, worker_id=worker.pk, result_id="r"))
    services.cancel(second.pk)

    assert (reread(first).state, reread(first).result_id) == ("cancelled", None)
    assert (reread(second).state, reread(second).is_stop_pending) == ("succeeded", False)
    assert JobEvent.objects.filter(kind__in=["cancelled", "succeeded"]).count() == 2


@pytest.mark.parametrize("stage", [None, *Stage])
def test_a_cancel_is_stored_at_every_stage_and_the_worker_is_to_stop(stage):
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    if stage is not None:
        said = {"at": timezone.now(), "fence": hold.fence, "worker_id": worker.pk}
        services.record(job.pk, Progressed(**said, stage=stage, fraction=0.5))

    services.cancel(job.pk)

    assert (reread(job).state, reread(job).is_stop_pending) == ("cancelled", True)
    with pytest.raises(StaleLease):
        services.record(job.pk, Faltered(at=timezone.now(), fence=hold.fence + 1, worker_id=worker.pk, code="oom"))


def test_a_full_queue_takes_no_more_and_a_job_that_is_taken_at_once_is_no_queue(settings):
    settings.LIMITS = type(settings.LIMITS)(queued_jobs=2)
    a_job(uid="1")
    a_job(uid="2")

    with pytest.raises(QueueFull) as refusal:
        a_job(uid="3")

    assert (refusal.value.status, refusal.value.code) == (503, "queue_full")
    assert refusal.value.headers["Retry-After"]
    assert Job.objects.count() == 2


def test_a_job_goes_to_a_worker_with_its_labels_only():
    job, plain = a_job(labels=frozenset({"a100"})), a_worker("plain")
    one_round()
    waits = reread(job).waiting_reason
    labelled = a_worker("labelled")
    Worker.objects.filter(pk=labelled.pk).update(labels=["a100", "room 3"])

    one_round()

    assert (waits, plain.pk != labelled.pk, reread(job).worker_id) == ("no_worker", True, labelled.pk)


def test_the_reason_follows_the_workers_come_go_drain_and_suspension():
    job, worker = a_job(), a_worker(credits=0)
    said = []

    def look() -> None:
        survey.look_around()
        said.append(reread(job).waiting_reason)

    look()
    WorkerSession.objects.update(is_draining=True)
    look()
    WorkerSession.objects.update(is_draining=False, models_offered=[])
    look()
    WorkerSession.objects.update(models_offered=[{"name": "compact", "version": "1.0", "sha256": "a" * 64}])
    Worker.objects.filter(pk=worker.pk).update(state=Worker.State.SUSPENDED)
    look()

    assert said == ["all_busy", "no_worker", "model_missing", "no_worker"]


def test_many_jobs_are_told_a_reason_some_at_a_time(monkeypatch):
    monkeypatch.setattr(survey, "AT_ONCE", 2)
    jobs = [a_job(uid=f"1.{number}") for number in range(5)]
    a_worker(credits=0)

    behind = [survey.look_around().is_behind for _ in range(3)]

    assert behind == [True, True, False]
    assert {reread(job).waiting_reason for job in jobs} == {"all_busy"}


def test_what_a_job_took_tells_the_next_one_how_long_it_will(django_capture_on_commit_callbacks):
    first, worker = a_job(uid="1"), a_worker()
    hold = leased(first, worker)
    Job.objects.filter(pk=first.pk).update(started_fence=hold.fence, attempt=1, state="running")
    JobEvent.objects.create(job=first, seq=7, kind="started", payload={"stage": None}, at=_ago(60))
    JobEvent.objects.create(job=first, seq=8, kind="stage", payload={"stage": "inference"}, at=_ago(50))
    Job.objects.filter(pk=first.pk).update(last_seq=8)
    with django_capture_on_commit_callbacks(execute=True):
        done(first, worker)
    WorkerSession.objects.update(credits=0)
    waiting = [a_job(uid="2"), a_job(uid="3")]

    shown = survey.look_around().places

    pace = WorkerPace.objects.get(worker=worker, model_sha256=MODEL.sha256)
    assert pace.stages == {"fetch": pytest.approx(10.0, abs=1.0), "inference": pytest.approx(50.0, abs=1.0)}
    assert [shown[job.pk] for job in waiting] == [
        (1, pytest.approx(60.0, abs=2.0)),
        (2, pytest.approx(120.0, abs=4.0)),
    ]
    assert selectors.snapshot(reread(waiting[1]))["eta_seconds"] == shown[waiting[1].pk][1]


def test_what_is_left_of_a_running_job_follows_from_the_pace_of_its_worker():
    job, worker = a_job(), a_worker()
    running(job, worker)
    WorkerPace.objects.create(worker=worker, model_sha256=MODEL.sha256, jobs=3, stages={"inference": 40.0, "upload": 2})

    survey.look_around()

    assert forecast.seconds_left(job.pk, stage=Stage.INFERENCE, fraction=0.75) == 12.0
    assert forecast.seconds_left("another", stage=Stage.INFERENCE, fraction=0.75) is None


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Clocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.now = Reading(wall=1_000_000.0, monotonic=50.0)

    def pass_by(self, seconds: float, *, jump: float = 0.0) -> None:
        """Time passes; the wall clock is set by `jump` as well."""
        self.now = Reading(wall=self.now.wall + seconds + jump, monotonic=self.now.monotonic + seconds)


@pytest.mark.parametrize(("passes", "jump"), [(2.0, 0.0), (2.0, 3600.0), (2.0, -3600.0), (2.0, 1.0), (30.0, 0.0)])
async def test_the_dispatcher_notices_that_the_clock_was_set(monkeypatch, passes, jump):
    """Row 20: a second of slewing, or a slow look, is no jump."""
    clocks, seen = Clocks(), []
    monkeypatch.setattr(housekeeping, "expire", lambda *, jump: seen.append(jump))
    monkeypatch.setattr(clock.assigner, "assign_round", clock.assigner.Round)
    monkeypatch.setattr(clock.survey, "look_around", survey.Standings)
    monkeypatch.setattr(clock, "is_own_clock", lambda: True)
    dispatcher = clock.Dispatcher(on_server_job=lambda: None, read=lambda: clocks.now)

    await dispatcher.look()
    clocks.pass_by(passes, jump=jump)
    await dispatcher.look()

    assert seen == [0.0, jump if abs(jump) > 5 else 0.0]


def test_a_clock_set_forward_ends_no_lease_and_no_session():
    job, worker = a_job(), a_worker()
    running(job, worker)
    overdue(job, seconds=3600)
    WorkerSession.objects.update(lease_until=_ago(3600))

    housekeeping.expire(jump=3600.0)

    assert (reread(job).state, session_of(worker).closed_at) == ("running", None)
    assert reread(job).lease_until > timezone.now()


def test_a_clock_set_back_keeps_no_dead_worker_alive_for_an_hour():
    job, worker = a_job(), a_worker()
    running(job, worker)
    ahead = timezone.now() + timedelta(hours=1)
    Job.objects.update(lease_until=ahead)
    WorkerSession.objects.update(lease_until=ahead, credits=0)
    spared = a_job(uid="2")
    Job.objects.filter(pk=spared.pk).update(avoid=[{"worker_id": worker.pk, "until": ahead.isoformat()}])

    housekeeping.expire(jump=-3600.0)

    latest = timezone.now() + timedelta(seconds=20)
    assert (reread(job).lease_until <= latest, session_of(worker).lease_until <= latest) == (True, True)
    assert reread(spared).avoid == []


# ── the way of an offer ─────────────────────────────────────────────────────────────────────────────────────────


async def test_an_offer_reaches_a_socket_of_this_process_itself_and_one_of_another_by_a_poke(monkeypatch):
    poked, came = [], []
    monkeypatch.setattr(wakeups, "aside", lambda send, channel, message: poked.append(channel))
    wakeups.doors.open("here", came.append)

    wakeups.hand_over("here", "an offer")
    wakeups.hand_over("elsewhere", "another")
    wakeups.doors.close("here")
    wakeups.hand_over("here", "a third")
    await _a_turn_of_the_loop()

    assert (came, poked) == (["an offer"], ["elsewhere", "here"])


def test_a_click_that_meets_a_free_worker_is_a_dozen_statements(django_assert_max_num_queries):
    a_worker()
    a_job(uid="0")
    reader = User.objects.get(username="reader")
    four = four_series(a_study(reader, uid="1"))
    WorkerSession.objects.update(credits=5)
    wish = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four), use_local=True)

    # Two of them are the savepoint of the test, and three begin the log of a new study; PostgreSQL is asked for the
    # time and for a lock besides.
    with django_assert_max_num_queries(17 if connection.vendor == "sqlite" else 20):
        snapshot = request_segmentation(user=reader, wish=wish)

    assert (snapshot["state"], Job.objects.get(pk=snapshot["id"]).state) == ("queued", "leased")


def _ago(seconds: float):
    return timezone.now() - timedelta(seconds=seconds)


async def _a_turn_of_the_loop() -> None:
    await asyncio.sleep(0)
