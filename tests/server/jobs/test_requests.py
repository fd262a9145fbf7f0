"""From a click to a job: which series is which, what is the same request, who may ask."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from inference.contract import Sequence
from server.core.job import Priority, Route, WaitingReason
from server.imaging.errors import SeriesNotFound
from server.imaging.sequences import correct
from server.jobs import outlook, services
from server.jobs.errors import KeyReused, SequencesUnclear
from server.jobs.models import Job, JobEvent
from server.jobs.requests import Wish, request_segmentation
from server.topics.selectors import events_since
from tests.server.shelf import a_series, a_study, a_user, four_series

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader():
    return a_user()


@pytest.fixture
def study(reader):
    return a_study(reader)


@pytest.fixture
def four(study):
    return four_series(study)


def wish_for(series, **changes) -> Wish:
    fields = {"series_ref": series[1].pk, "sequence_refs": tuple(one.pk for one in series), **changes}
    return Wish(**fields)


def test_a_request_makes_a_queued_job_with_its_first_event_and_tells_the_study(reader, study, four):
    job = request_segmentation(user=reader, wish=wish_for(four))

    assert (job["state"], job["series_id"], job["seq"]) == ("queued", four[1].pk, 1)
    first = JobEvent.objects.get(job_id=job["id"])
    assert (first.seq, first.kind, first.payload["state"]) == (1, "queued", "queued")
    assert [(event.kind, event.payload) for event in events_since(f"study:{study.pk}", 0)] == [
        ("job.queued", {"job": job["id"]})
    ]


def test_the_order_of_recognised_sequences_does_not_matter(reader, four):
    job = request_segmentation(user=reader, wish=wish_for(list(reversed(four)), series_ref=four[1].pk))

    assert job["sequence_series_ids"] == [one.pk for one in four]


def test_series_may_be_named_by_their_uid(reader, four):
    uids = tuple(one.uid for one in four)

    job = request_segmentation(user=reader, wish=Wish(series_ref=four[0].uid, sequence_refs=uids))

    assert job["sequence_series_ids"] == [one.pk for one in four]


def test_the_order_counts_when_a_sequence_was_not_recognised(reader, study):
    unknown = [a_series(study, sequence=None) for _ in range(4)]
    named = [unknown[2], unknown[0], unknown[3], unknown[1]]

    job = request_segmentation(user=reader, wish=wish_for(named))

    assert job["sequence_series_ids"] == [one.pk for one in named]


def test_a_recognised_sequence_in_anothers_place_is_refused(reader, study):
    named = [a_series(study, sequence=name) for name in ("FLAIR", None, None, None)]

    with pytest.raises(SequencesUnclear, match="place of T1 is FLAIR"):
        request_segmentation(user=reader, wish=wish_for(named))


def test_a_sequence_that_is_there_twice_is_refused(reader, study):
    named = [a_series(study, sequence=name) for name in ("T1", "T1", "T2", "FLAIR")]

    with pytest.raises(SequencesUnclear, match="More than one of the series is T1; T1CE"):
        request_segmentation(user=reader, wish=wish_for(named))


@pytest.mark.parametrize("pick", [(0, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3, 0)])
def test_different_series_are_needed(reader, four, pick):
    wish = Wish(series_ref=four[0].pk, sequence_refs=tuple(four[place].pk for place in pick))

    with pytest.raises(SequencesUnclear):
        request_segmentation(user=reader, wish=wish)


def test_fewer_than_four_have_to_be_recognised(reader, study):
    named = [a_series(study, sequence=name) for name in ("T1", "T2", None)]

    with pytest.raises(SequencesUnclear, match="not known which sequence it is"):
        request_segmentation(user=reader, wish=wish_for(named))


def test_a_doubt_goes_with_the_job_and_does_not_stop_it(reader, four):
    sentence = "The series given as T2 looks like FLAIR: fluid is dark."
    four[2].sequence_confidence, four[2].sequence_reason = 0.1, sentence
    four[2].save()

    doubted = request_segmentation(user=reader, wish=wish_for(four))
    correct(series=four[2], sequence=Sequence.T2, by=reader)
    services.cancel(doubted["id"])
    confirmed = request_segmentation(user=reader, wish=wish_for(four))

    assert (doubted["state"], doubted["warnings"]) == ("queued", [sentence])
    assert confirmed["warnings"] == []


def test_series_of_two_studies_are_refused(reader, four):
    stranger = a_series(a_study(reader, uid="9.9"), sequence="FLAIR")

    with pytest.raises(SequencesUnclear, match="different studies"):
        request_segmentation(user=reader, wish=wish_for([*four[:3], stranger]))


def test_a_series_of_somebody_else_is_not_there(four):
    with pytest.raises(SeriesNotFound):
        request_segmentation(user=a_user("stranger"), wish=wish_for(four))


def test_the_same_request_while_one_is_open_is_the_same_job_whoever_asks(reader, four):
    first = request_segmentation(user=reader, wish=wish_for(four))
    again = request_segmentation(user=reader, wish=wish_for(list(reversed(four)), series_ref=four[1].pk))
    colleague = request_segmentation(user=a_user("colleague", is_staff=True), wish=wish_for(four))

    assert {again["id"], colleague["id"]} == {first["id"]}
    assert JobEvent.objects.count() == 1


@pytest.mark.parametrize("changes", [{"use_local": True}, {"model": "other"}])
def test_another_route_or_model_is_another_job(reader, four, changes):
    first = request_segmentation(user=reader, wish=wish_for(four))

    assert request_segmentation(user=reader, wish=wish_for(four, **changes))["id"] != first["id"]


def test_the_same_request_after_the_end_is_a_new_job_unless_the_key_is_the_same(reader, four):
    first = request_segmentation(user=reader, wish=wish_for(four), idempotency_key="k1")
    services.cancel(first["id"])

    same = request_segmentation(user=reader, wish=wish_for(four), idempotency_key="k1")
    other = request_segmentation(user=reader, wish=wish_for(four), idempotency_key="k2")

    assert same["id"] == first["id"]
    assert other["id"] != first["id"]


def test_a_key_with_another_request_is_refused(reader, four):
    request_segmentation(user=reader, wish=wish_for(four), idempotency_key="k1")

    with pytest.raises(KeyReused):
        request_segmentation(user=reader, wish=wish_for(four, model="other"), idempotency_key="k1")


@pytest.mark.parametrize(
    ("use_local", "configured", "route"),
    [(None, False, Route.SERVER), (None, True, Route.LAB), (True, False, Route.LAB), (False, True, Route.SERVER)],
)
def test_the_route_is_as_configured_unless_the_request_says_otherwise(
    reader, four, settings, use_local, configured, route
):
    settings.USE_LOCAL_INFERENCE = configured

    assert request_segmentation(user=reader, wish=wish_for(four, use_local=use_local))["route"] == route


def test_a_model_may_be_named_with_its_version(reader, four):
    job = request_segmentation(user=reader, wish=wish_for(four, model="compact@1.2"))

    assert (job["model"], job["model_version"]) == ("compact", "1.2")


def test_the_first_snapshot_says_why_the_job_will_wait(reader, four, monkeypatch):
    class Busy(outlook.Nobody):
        def prospect(self, job, series):
            return outlook.Prospect(reason=WaitingReason.ALL_BUSY)

    monkeypatch.setattr(outlook, "_outlook", Busy())

    job = request_segmentation(user=reader, wish=wish_for(four, priority=Priority.URGENT))

    assert job["waiting_reason"] == "all_busy"


def test_a_click_asks_the_database_a_bounded_number_of_times(reader, four):
    with CaptureQueriesContext(connection) as queries:
        request_segmentation(user=reader, wish=wish_for(four))

    clock = 2 if connection.vendor == "postgresql" else 0  # there the database is asked for the time
    assert len(queries) <= 16 + clock, [query["sql"][:120] for query in queries]
    assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key", ["", "one-click"])
def test_fifty_equal_requests_at_once_are_one_job(key):
    """Row 23: a double click, and a program that tries again, with and without an Idempotency-Key."""
    user = a_user("clicker")
    wish = wish_for(four_series(a_study(user, uid="9.9")))

    def ask(_: int) -> str:
        try:
            return request_segmentation(user=user, wish=wish, idempotency_key=key)["id"]
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=8) as threads:
        answers = set(threads.map(ask, range(50)))

    assert answers == {Job.objects.get().pk}
    assert JobEvent.objects.filter(kind="queued").count() == 1
