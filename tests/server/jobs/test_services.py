"""A change and its event are one transaction; pokes come after; the snapshot is contract.md's."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from inference.contract import Sequence, Stage
from server.core.events import Failed, Faltered, Finished, Leased, LeaseExpired, Progressed, Started
from server.core.job import State, WaitingReason
from server.core.machine import Refused, StaleLease
from server.imaging.models import Mask
from server.jobs import outbox, selectors, services
from server.jobs.models import Job, JobEvent
from server.jobs.outlook import Lease
from server.jobs.requests import Wish, request_segmentation
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db

LEASE = Lease(worker_name="lab-1", run_model={"name": "compact", "version": "1", "sha256": "a" * 64})
FIELDS = {
    *("id", "state", "route", "stage", "progress", "eta_seconds", "queue_position", "waiting_reason", "worker"),
    *("model", "attempt", "series_id", "sequence_series_ids", "created_at", "started_at", "finished_at"),
    *("error", "result", "epoch", "seq"),
}


@pytest.fixture
def reader():
    return a_user()


@pytest.fixture
def job(reader):
    return queued(reader)


def queued(reader, *, uid: str = "1.2.3", **changes) -> Job:
    four = four_series(a_study(reader, uid=uid))
    wish = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four), **changes)
    return Job.objects.get(pk=request_segmentation(user=reader, wish=wish)["id"])


def lease(job: Job, worker_id: str = "w1") -> None:
    services.record(job.pk, Leased(at=timezone.now(), worker_id=worker_id), lease=LEASE)


def start(job: Job, *, fence: int = 1) -> None:
    lease(job)
    services.record(job.pk, Started(at=timezone.now(), fence=fence, worker_id="w1"))


def test_the_snapshot_has_the_fields_of_the_contract(job):
    assert set(selectors.snapshot(job)) >= FIELDS


def test_every_change_is_an_event_in_order_with_the_snapshot_right_after_it(job):
    start(job)
    said = {"at": timezone.now(), "fence": 1, "worker_id": "w1"}
    services.record(job.pk, Progressed(**said, stage=Stage.INFERENCE, fraction=0.5))
    services.record(job.pk, Failed(**said, code="input_invalid", detail="secret detail"))

    events = selectors.events_since(job.pk, 0)

    assert [(event.seq, event.kind) for event in events] == [
        (1, "queued"),
        (2, "leased"),
        (3, "started"),
        (4, "stage"),
        (5, "failed"),
    ]
    assert [event.payload["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert events[1].payload["worker"] == "lab-1"
    assert events[3].payload["stage"] == "inference"
    assert events[4].payload["error"] == {
        "code": "input_invalid",
        "message": "The images could not be used for the analysis.",
    }
    assert selectors.events_since(job.pk, 4) == events[4:]


def test_the_log_gives_no_worker_detail_away(job):
    start(job)
    services.record(
        job.pk, Failed(at=timezone.now(), fence=1, worker_id="w1", code="internal", detail="/home/lab/patient")
    )

    assert "/home/lab" not in str([event.payload for event in JobEvent.objects.all()])


def test_progress_without_a_new_stage_is_no_event(job):
    start(job)
    said = {"at": timezone.now(), "fence": 1, "worker_id": "w1", "stage": Stage.FETCH}
    services.record(job.pk, Progressed(**said, fraction=0.1))

    services.record(job.pk, Progressed(**said, fraction=0.9))

    assert JobEvent.objects.filter(job=job).count() == 4
    assert selectors.snapshot(Job.objects.get())["progress"] > 0.05


def test_a_refused_event_changes_nothing(job):
    start(job)
    services.record(job.pk, LeaseExpired(at=timezone.now() + timedelta(hours=1), fence=1))
    lease(job, "w2")

    with pytest.raises(StaleLease):
        services.record(job.pk, Finished(at=timezone.now(), fence=1, worker_id="w1", result_id="r"))

    assert Job.objects.get().state == State.LEASED
    assert Mask.objects.count() == 0


def test_a_job_is_leased_once(job):
    lease(job)

    with pytest.raises(Refused):
        lease(job, "w2")


def test_a_row_that_moved_under_our_hands_is_not_written(job):
    stale = Job.objects.get(pk=job.pk)
    lease(job)

    with pytest.raises(services.RowMoved), transaction.atomic():
        services.record_on(stale, Leased(at=timezone.now(), worker_id="w2"), lease=LEASE)

    assert Job.objects.get().worker_id == "w1"


def test_what_belongs_together_is_stored_together(job):
    start(job)

    def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        services.record(job.pk, Finished(at=timezone.now(), fence=1, worker_id="w1", result_id="r"), together_with=fail)

    assert Job.objects.get().state == State.RUNNING


def test_a_repeated_result_calls_nothing_again(job):
    start(job)
    finished = Finished(at=timezone.now(), fence=1, worker_id="w1", result_id="r")
    calls = []
    services.record(job.pk, finished, together_with=lambda: calls.append("first"))

    services.record(job.pk, finished, together_with=lambda: calls.append("second"))

    assert calls == ["first"]


def test_the_database_keeps_one_open_job_for_a_question(job):
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(
            study=job.study,
            series=job.series,
            sequence_series_ids=job.sequence_series_ids,
            requested_by=job.requested_by,
            dedupe_key=job.dedupe_key,
            route=job.route,
        )


def test_renewing_lengthens_exactly_the_listed_leases(reader, job):
    other = queued(reader, uid="4.5")
    start(job)
    start(other)
    until = timezone.now() + timedelta(hours=1)

    lost = services.renew(worker_id="w1", holds={job.pk: 1, "unknown": 1}, until=until)

    assert lost == {"unknown"}
    assert Job.objects.get(pk=job.pk).lease_until == until
    assert Job.objects.get(pk=other.pk).lease_until < until


def test_a_lease_of_an_old_fence_or_another_worker_is_not_renewed(job):
    start(job)
    until = timezone.now() + timedelta(hours=1)

    assert services.renew(worker_id="w1", holds={job.pk: 7}, until=until) == {job.pk}
    assert services.renew(worker_id="w2", holds={job.pk: 1}, until=until) == {job.pk}


def test_the_newest_progress_is_stored_without_an_event_while_the_attempt_counts(job):
    start(job)
    value = services.record(
        job.pk, Progressed(at=timezone.now(), fence=1, worker_id="w1", stage=Stage.FETCH, fraction=0.5)
    )

    assert services.note_progress(value)
    services.cancel(job.pk)
    assert not services.note_progress(value)


def test_the_queue_is_counted_within_a_route_and_by_priority(reader):
    first = queued(reader, uid="1")
    second = queued(reader, uid="2")
    elsewhere = queued(reader, uid="3", use_local=True)
    urgent = queued(reader, uid="4", priority="urgent")

    places = {job.pk: selectors.standing_of(job).queue_position for job in Job.objects.all()}

    assert places == {urgent.pk: 1, first.pk: 2, second.pk: 3, elsewhere.pk: 1}


def test_a_change_of_the_waiting_reason_is_an_event(job):
    services.note_waiting([job.pk], WaitingReason.ALL_BUSY)
    services.note_waiting([job.pk], WaitingReason.ALL_BUSY)

    assert [event.payload["waiting_reason"] for event in selectors.events_since(job.pk, 1)] == ["all_busy"]


def test_a_cancelled_attempt_is_to_be_stopped_until_its_worker_confirms(job):
    start(job)
    services.cancel(job.pk)
    assert Job.objects.get().is_stop_pending

    services.confirm_stop(job.pk, worker_id="w2", fence=1)
    assert Job.objects.get().is_stop_pending

    services.confirm_stop(job.pk, worker_id="w1", fence=1)
    assert not Job.objects.get().is_stop_pending


def test_after_the_commit_the_assigner_is_woken_and_the_watchers_are_poked(
    job, monkeypatch, django_capture_on_commit_callbacks
):
    calls = []
    monkeypatch.setattr(outbox, "_seekers", [lambda: calls.append("seek")])
    monkeypatch.setattr(outbox.pokes, "poke", lambda topic, **body: calls.append((topic, body)))
    start(job)

    with django_capture_on_commit_callbacks(execute=True):
        services.record(job.pk, Faltered(at=timezone.now(), fence=1, worker_id="w1", code="oom"))

    assert calls == ["seek", (f"job:{job.pk}", {"seq": 4})]


def test_a_queued_job_shows_no_progress_of_the_attempt_before(job):
    start(job)
    services.record(job.pk, Progressed(at=timezone.now(), fence=1, worker_id="w1", stage=Stage.UPLOAD, fraction=0.5))
    services.record(job.pk, Faltered(at=timezone.now(), fence=1, worker_id="w1", code="oom"))

    snapshot = selectors.snapshot(Job.objects.get())

    assert (snapshot["state"], snapshot["progress"], snapshot["stage"], snapshot["worker"]) == (
        "queued",
        0.0,
        None,
        None,
    )


def test_the_sequences_keep_their_order_in_the_snapshot(job):
    names = [job.study.series.get(pk=pk).sequence for pk in selectors.snapshot(job)["sequence_series_ids"]]

    assert names == list(Sequence)
