"""What is forgotten in time, and what a trimmed log says to whoever asks for more than is left."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from server.accounts.services import issue_api_token
from server.jobs import pruning, selectors, services
from server.jobs.models import Job, JobEvent, RequestKey
from server.jobs.requests import Wish, request_segmentation
from server.topics.models import TopicEvent
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(days=31)


@pytest.fixture
def reader():
    return a_user()


def cancelled(reader, *, uid: str, key: str = "", ago: timedelta = LONG_AGO) -> Job:
    four = four_series(a_study(reader, uid=uid))
    wish = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four))
    job_id = request_segmentation(user=reader, wish=wish, idempotency_key=key)["id"]
    services.cancel(job_id)
    Job.objects.filter(pk=job_id).update(finished_at=timezone.now() - ago)
    return Job.objects.get(pk=job_id)


def asked(reader, job: Job, *, since: int) -> dict:
    bearer = {"Authorization": f"Bearer {issue_api_token(user=reader)}"}
    return Client().get(f"/api/mri/segmentation/jobs/{job.pk}/events?since={since}", headers=bearer).json()


def test_the_log_of_an_old_job_is_forgotten_and_the_job_is_not(reader):
    old, young = cancelled(reader, uid="1"), cancelled(reader, uid="2", ago=timedelta(days=1))

    pruning.prune()

    assert set(JobEvent.objects.values_list("job_id", flat=True)) == {young.pk}
    assert selectors.position_and_snapshot(old.pk)[1:] == (2, selectors.snapshot(old))


def test_who_asks_a_trimmed_log_is_told_to_read_the_job_anew(reader):
    job = cancelled(reader, uid="1")
    pruning.prune()

    behind, abreast = asked(reader, job, since=1), asked(reader, job, since=2)

    assert (behind["recovered"], behind["seq"], behind["events"]) == (False, 2, [])
    assert (abreast["recovered"], abreast["seq"], abreast["events"]) == (True, 2, [])


def test_half_a_log_is_never_passed_off_as_a_whole_one(reader):
    job = cancelled(reader, uid="1")
    JobEvent.objects.filter(job=job, seq=1).delete()

    assert asked(reader, job, since=0)["recovered"] is False
    assert [event["seq"] for event in asked(reader, job, since=1)["events"]] == [2]


def test_the_log_of_a_job_that_waits_for_days_stays_bounded(reader, monkeypatch):
    monkeypatch.setattr(pruning, "KEPT_EVENTS", 3)
    four = four_series(a_study(reader, uid="1"))
    wish = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four))
    job = Job.objects.get(pk=request_segmentation(user=reader, wish=wish)["id"])
    for number in range(4):
        services.note_waiting([job.pk], sorted(services.WaitingReason)[number % 2])

    pruning.prune()

    kept = list(JobEvent.objects.filter(job=job).values_list("seq", flat=True))
    assert kept == [3, 4, 5]
    assert Job.objects.get().last_seq == 5


def test_keys_of_requests_are_forgotten_after_two_days(reader):
    for number, days in enumerate((1, 3)):
        cancelled(reader, uid=str(number), key=f"key {days}")
        RequestKey.objects.filter(key=f"key {days}").update(created_at=timezone.now() - timedelta(days=days))

    pruning.prune()

    assert list(RequestKey.objects.values_list("key", flat=True)) == ["key 1"]


def test_the_logs_of_studies_and_workers_lose_what_is_old(reader, monkeypatch):
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    job = cancelled(reader, uid="1")
    count = TopicEvent.objects.count()
    oldest = list(TopicEvent.objects.order_by("pk").values_list("pk", flat=True)[: count - 1])
    TopicEvent.objects.filter(pk__in=oldest).update(at=timezone.now() - LONG_AGO)

    pruning.prune()

    assert TopicEvent.objects.get().payload == {"job": job.pk}
