"""A result is stored once, or refused; and only what is settled may be forgotten by the worker."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from inference.contract import ModelRef, PackedVolume
from server.core.job import State
from server.core.reconcile import Hold
from server.dispatch import deliveries, housekeeping
from server.dispatch.deliveries import Deliveries, Delivery, Outcome, settle
from server.imaging import storage, tus
from server.imaging.errors import ResultInvalid
from server.imaging.models import Mask, Upload
from server.imaging.results import ProvenFiles
from server.jobs import selectors, services
from tests.server.dispatch.scenes import RUN, a_job, a_worker, overdue, reread, running

pytestmark = pytest.mark.django_db

CONTENT = b"packed labels"
PACKED = PackedVolume(
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    encoding="zstd",
    dtype="uint8",
    shape=(6, 5, 4),
    affine=(1.5, 0.0, 0.0, 0.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0),
)


@pytest.fixture
def job():
    return a_job()


@pytest.fixture
def worker():
    return a_worker()


@pytest.fixture
def proofs(monkeypatch):
    """The parser child is IMAGING's; here it is a list of what it was asked, and always content."""
    asked = []

    def prove(**order) -> ProvenFiles:
        asked.append(order)
        folder = f"masks/{order['job_id']}-{len(asked)}"
        storage.path_of(folder).mkdir(parents=True)
        return ProvenFiles(
            series_id=order["reference"].pk,
            folder=folder,
            has_seg=False,
            sha256="e" * 64,
            size=9,
            volumes_ml={"WT": 3.0, "TC": 2.0, "ET": 1.0},
        )

    monkeypatch.setattr(deliveries.results, "prove", prove)
    return asked


def uploaded(hold: Hold) -> Upload:
    upload = tus.create(
        length=PACKED.size,
        max_bytes=1000,
        job_id=hold.job_id,
        fence=hold.fence,
        role="mask",
        sha256=PACKED.sha256,
    )
    return tus.append(upload, offset=0, chunk=CONTENT)


def a_delivery(hold: Hold, worker, upload: Upload | None = None, **changes) -> Delivery:
    fields = {
        "worker_id": worker.pk,
        "hold": hold,
        "result_id": "result-1",
        "artifact_id": upload.pk if upload else "nothing",
        "packed": PACKED,
        "model": ModelRef(**RUN),
        "metrics": {"stage_seconds": {"inference": 2.0}},
        **changes,
    }
    return Delivery(**fields)


def test_a_proven_mask_ends_the_job(job, worker, proofs):
    hold = running(job, worker)
    upload = uploaded(hold)

    assert settle(a_delivery(hold, worker, upload)) is Outcome.SETTLED

    snapshot = selectors.snapshot(reread(job))
    assert (snapshot["state"], snapshot["progress"]) == ("succeeded", 1.0)
    assert snapshot["result"]["volumes_ml"] == {"WT": 3.0, "TC": 2.0, "ET": 1.0}
    assert Mask.objects.get().job_id == job.pk
    assert selectors.events_since(job.pk, 0)[-1].payload == snapshot
    assert Upload.objects.count() == 0
    assert [str(one.sequence) for one in proofs[0]["inputs"]] == ["T1", "T1CE", "T2", "FLAIR"]


def test_until_then_the_job_is_running_in_its_last_stage(job, worker, proofs, monkeypatch):
    seen = []
    prove = deliveries.results.prove

    def look_first(**order):
        seen.append((reread(job).state, reread(job).stage))
        return prove(**order)

    monkeypatch.setattr(deliveries.results, "prove", look_first)
    hold = running(job, worker)

    settle(a_delivery(hold, worker, uploaded(hold)))

    assert seen == [("running", "upload")]


def test_a_result_that_comes_twice_is_settled_once(job, worker, proofs):
    hold = running(job, worker)
    delivery = a_delivery(hold, worker, uploaded(hold))
    settle(delivery)

    assert settle(delivery) is Outcome.SETTLED
    assert (len(proofs), Mask.objects.count()) == (1, 1)


def test_a_result_of_an_attempt_that_was_lost_is_stale(job, worker, proofs):
    hold = running(job, worker)
    overdue(job)
    housekeeping.expire()
    running(job, a_worker("lab-2"))

    assert settle(a_delivery(hold, worker, uploaded(hold))) is Outcome.STALE
    assert (reread(job).state, proofs) == (State.RUNNING, [])


def test_a_late_result_of_the_newest_attempt_is_taken(job, worker, proofs):
    hold = running(job, worker)
    overdue(job)
    housekeeping.expire()

    assert settle(a_delivery(hold, worker, uploaded(hold))) is Outcome.SETTLED
    assert (reread(job).state, reread(job).attempt) == (State.SUCCEEDED, 1)


def test_a_job_that_is_lost_while_its_mask_is_proven_leaves_no_files(job, worker, proofs, monkeypatch):
    prove = deliveries.results.prove

    def lose_it(**order):
        overdue(job)
        housekeeping.expire()
        running(job, a_worker("lab-2"))
        return prove(**order)

    monkeypatch.setattr(deliveries.results, "prove", lose_it)
    hold = running(job, worker)

    assert settle(a_delivery(hold, worker, uploaded(hold))) is Outcome.STALE
    assert Mask.objects.count() == 0
    assert not storage.path_of(f"masks/{job.pk}-1").exists()


def test_a_cancelled_jobs_result_is_settled_and_not_shown(job, worker, proofs, monkeypatch):
    prove = deliveries.results.prove
    monkeypatch.setattr(deliveries.results, "prove", lambda **order: (services.cancel(job.pk), prove(**order))[1])
    hold = running(job, worker)

    assert settle(a_delivery(hold, worker, uploaded(hold))) is Outcome.SETTLED
    assert (reread(job).state, Mask.objects.count()) == (State.CANCELLED, 0)


def test_a_mask_that_is_not_all_here_has_to_be_uploaded_again(job, worker, proofs):
    hold = running(job, worker)
    half = tus.create(length=99, max_bytes=1000, job_id=job.pk, fence=1, role="mask", sha256="0" * 64)

    assert settle(a_delivery(hold, worker, half)) is Outcome.UPLOAD_MISSING
    assert settle(a_delivery(hold, worker)) is Outcome.UPLOAD_MISSING
    assert reread(job).state == State.RUNNING


@pytest.mark.parametrize(
    "changes",
    [
        {"packed": replace(PACKED, sha256="1" * 64)},
        {"packed": replace(PACKED, size=3)},
        {"model": None},
        {"model": ModelRef(name="other", version="1", sha256="a" * 64)},
    ],
)
def test_a_result_that_is_not_what_was_offered_fails_the_job(job, worker, proofs, changes):
    hold = running(job, worker)

    assert settle(a_delivery(hold, worker, uploaded(hold), **changes)) is Outcome.SETTLED
    assert (reread(job).state, reread(job).error_code, proofs) == ("failed", "result_invalid", [])


def test_a_mask_that_cannot_be_proven_fails_the_job(job, worker, monkeypatch):
    def refuse(**order):
        raise ResultInvalid("The mask has a label 9.")

    monkeypatch.setattr(deliveries.results, "prove", refuse)
    hold = running(job, worker)

    assert settle(a_delivery(hold, worker, uploaded(hold))) is Outcome.SETTLED
    assert selectors.snapshot(reread(job))["error"]["code"] == "result_invalid"
    assert "label 9" in reread(job).causes[-1]["detail"]


async def test_two_at_once_are_one(monkeypatch):
    """No database here: what is looked at is who waits for whom."""
    go, calls = asyncio.Event(), []

    async def slowly(delivery: Delivery) -> Outcome:
        calls.append(delivery)
        await go.wait()
        return Outcome.SETTLED

    monkeypatch.setattr(deliveries, "_settle_holding_on", slowly)
    inbox = Deliveries()

    class Anybody:
        pk = "w"

    delivery = a_delivery(Hold("j", 1), Anybody())
    async with asyncio.TaskGroup() as tasks:
        one, other = tasks.create_task(inbox.settle(delivery)), tasks.create_task(inbox.settle(delivery))
        gone = tasks.create_task(inbox.settle(delivery))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        go.set()

    assert (one.result(), other.result(), len(calls)) == (Outcome.SETTLED, Outcome.SETTLED, 1)
    assert gone.cancelled()
