"""A study without one of the four sequences: which models may take it, and what they are given."""

import pytest
from django.utils import timezone

from inference.contract import ModelRef, Sequence
from server.core.events import Started
from server.core.reconcile import Hold
from server.core.scheduler import Model
from server.dispatch import selectors, translate
from server.dispatch.deliveries import settle
from server.dispatch.models import WorkerSession
from server.jobs import services
from server.jobs.errors import SequenceMissing
from server.jobs.models import Job
from server.jobs.requests import Wish, request_segmentation
from server.jobs.rows import demand_of
from server.jobs.selectors import snapshot
from tests.server.dispatch import test_deliveries
from tests.server.dispatch.scenes import MODEL, a_job, a_worker, one_round, reread
from tests.server.shelf import a_series, a_study, a_user
from worker_client.protocol import messages as wire

pytestmark = pytest.mark.django_db

THREE = ("T1", "T2", "FLAIR")
VARIANT = Model("without-t1ce", "1.0", "b" * 64, sequences=frozenset(THREE))
RUN = {"name": "without-t1ce", "version": "1.0", "sha256": "b" * 64}
proofs = test_deliveries.proofs


@pytest.fixture
def series():
    study = a_study(a_user())
    return [a_series(study, sequence=name) for name in THREE]


def asked(series, **wish) -> Job:
    """The job for these series."""
    refs = tuple(one.pk for one in reversed(series))
    wish = Wish(series_ref=series[0].pk, sequence_refs=refs, use_local=True, **wish)
    found = request_segmentation(user=series[0].study.owner, wish=wish)
    return Job.objects.get(pk=found["id"])


def test_without_a_variant_the_request_names_what_is_missing(series):
    a_worker()

    with pytest.raises(SequenceMissing, match="T1CE is missing, and neither a worker") as refused:
        asked(series)

    assert (refused.value.status, refused.value.extra) == (422, {"missing": ["T1CE"]})
    assert not Job.objects.exists()


def test_the_worker_with_the_variant_gets_the_job_and_its_three_inputs(series):
    a_worker("lab-1")
    able = a_worker("lab-2", models=(MODEL, VARIANT))

    job = asked(series)

    row = reread(job)
    assert (row.worker_id, row.run_model) == (able.pk, RUN)
    (offer,) = selectors.offers_for(able.pk)
    assert [(str(one.role), one.artifact_id) for one in offer.inputs] == [
        (one.sequence, one.artifact_id) for one in series
    ]
    assert demand_of(row.demand).sequences == frozenset(THREE)


def test_the_snapshot_says_what_was_used_and_what_is_missing(series):
    a_worker(models=(VARIANT,))

    told = snapshot(asked(series))

    assert (told["sequences"], told["missing_sequences"]) == (list(THREE), ["T1CE"])
    assert told["warnings"] == ["Analysed without T1CE, by a model made for that."]


def test_four_sequences_do_not_go_to_a_variant_for_three():
    job, worker = a_job(), a_worker(models=(VARIANT, MODEL))

    one_round()

    assert (reread(job).worker_id, reread(job).run_model["name"]) == (worker.pk, "compact")


def test_a_job_whose_variant_is_away_waits_for_it(series):
    able = a_worker(models=(MODEL, VARIANT))
    WorkerSession.objects.filter(pk=able.pk).update(closed_at=timezone.now())
    a_worker("lab-2")

    job = asked(series)

    assert (reread(job).state, reread(job).waiting_reason) == ("queued", "model_missing")


def test_a_variant_of_another_name_or_route_does_not_count(series):
    a_worker(models=(VARIANT,), route="server")

    with pytest.raises(SequenceMissing):
        asked(series)
    with pytest.raises(SequenceMissing, match="the model other"):
        asked(series, model="other")


def test_the_report_is_told_which_sequence_each_scan_was(series, proofs):
    worker = a_worker(models=(VARIANT,))
    hold = Hold(asked(series).pk, 1)
    services.record(hold.job_id, Started(at=timezone.now(), fence=hold.fence, worker_id=worker.pk))
    upload = test_deliveries.uploaded(hold)

    settle(test_deliveries.a_delivery(hold, worker, upload, model=ModelRef(**RUN)))

    assert proofs[0]["sequences"] == tuple(map(Sequence, THREE))
    assert proofs[0]["metrics"]["warnings"] == ["Analysed without T1CE, by a model made for that."]


def test_a_worker_of_before_there_were_variants_offers_models_for_all_four():
    name = wire.ModelName(name="compact", version="1", sha256="a" * 64)

    assert translate.to_model(name).sequences == frozenset()


def test_all_four_named_are_the_same_as_none_named():
    name = wire.ModelName(name="compact", version="1", sha256="a" * 64, sequences=tuple(map(str, Sequence)))

    assert translate.to_model(name) == Model("compact", "1", "a" * 64)
