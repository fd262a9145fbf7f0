"""Inputs down and masks up, and only for the attempt that counts."""

import base64
import hashlib

import pytest
from django.test import Client

from server.dispatch import dataplane, housekeeping, keys
from server.dispatch.enrolment import set_state
from server.dispatch.models import Worker, WorkerSession
from server.imaging.models import Artifact, Series
from server.jobs import services
from server.jobs.models import Job
from tests.server.dispatch.scenes import a_job, a_worker, overdue, running

pytestmark = pytest.mark.django_db

ARTIFACTS, UPLOADS = "/api/worker/artifacts/", "/api/worker/uploads/"
CONTENT = b"0123456789" * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def job():
    return a_job()


@pytest.fixture
def worker():
    return a_worker()


@pytest.fixture
def hold(job, worker):
    return running(job, worker)


@pytest.fixture
def client(hold, worker):
    return Client(headers=bearer(hold, worker))


@pytest.fixture
def artifact(job):
    return Series.objects.get(pk=job.sequence_series_ids[2]).artifact


def bearer(hold, worker, **changes) -> dict[str, str]:
    series = Job.objects.get(pk=hold.job_id).sequence_series_ids
    inputs = tuple(Artifact.objects.filter(series__in=series).values_list("pk", flat=True))
    said = {"job": hold.job_id, "fence": hold.fence, "worker": worker.pk, "artifacts": inputs, **changes}
    claim = keys.DataClaim(**said)
    return {"Authorization": f"Bearer {keys.data_token(claim)}"}


def metadata(hold, **changes) -> str:
    pairs = {"job": hold.job_id, "fence": str(hold.fence), "role": "mask", "sha256": SHA256, **changes}
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in pairs.items())


def begin(client, hold, *, length: int = len(CONTENT), **changes):
    headers = {"Upload-Length": str(length), "Upload-Metadata": metadata(hold, **changes)}
    return client.post(UPLOADS, headers=headers)


def patch(client, location: str, chunk: bytes, *, offset: int, **headers):
    kind = "application/offset+octet-stream"
    return client.patch(location, chunk, content_type=kind, headers={"Upload-Offset": str(offset), **headers})


def answer_to(client, artifact, **headers):
    """The answer without its body: that is asynchronous, and has its own test."""
    return client.get(f"{ARTIFACTS}{artifact.pk}", headers=headers)


def test_an_input_has_its_digest_for_a_tag(client, artifact):
    answer = answer_to(client, artifact)

    assert answer.status_code == 200
    assert answer["ETag"] == f'"{artifact.sha256}"'
    assert (answer["Content-Length"], answer["Accept-Ranges"]) == (str(artifact.size), "bytes")


@pytest.mark.parametrize(
    ("headers", "status", "content_range"),
    [
        ({"Range": "bytes=0-9"}, 206, "bytes 0-9/{size}"),
        ({"Range": "bytes=0-9", "If-Range": "{etag}"}, 206, "bytes 0-9/{size}"),
        ({"Range": "bytes=0-9", "If-Range": '"other"'}, 200, None),
        ({"Range": "bytes=999999-"}, 416, "bytes */{size}"),
        ({"If-None-Match": "{etag}"}, 304, None),
    ],
)
def test_a_range_of_an_input(client, artifact, headers, status, content_range):
    etag = f'"{artifact.sha256}"'

    answer = answer_to(client, artifact, **{name: value.format(etag=etag) for name, value in headers.items()})

    assert answer.status_code == status
    assert answer.get("Content-Range") == (content_range.format(size=artifact.size) if content_range else None)


def test_an_artifact_of_another_job_is_not_there(client):
    other = a_job(uid="9.9")
    foreign = Series.objects.get(pk=other.sequence_series_ids[0]).artifact

    assert answer_to(client, foreign).status_code == 404


def test_without_a_token_there_is_nothing(hold, worker, artifact):
    only_store = Client(headers=bearer(hold, worker, ops=(keys.STORE,)))

    assert answer_to(Client(), artifact).status_code == 401
    assert answer_to(only_store, artifact).status_code == 401
    assert begin(Client(), hold).status_code == 401


def test_a_mask_comes_in_chunks(client, hold):
    location = begin(client, hold)["Location"]

    first = patch(client, location, CONTENT[:60], offset=0)
    standing = client.head(location)
    last = patch(client, location, CONTENT[60:], offset=60)

    assert (first.status_code, first["Upload-Offset"]) == (204, "60")
    assert (standing.status_code, standing["Upload-Offset"], standing["Upload-Length"]) == (200, "60", "100")
    assert last["Upload-Offset"] == "100"


def test_beginning_again_goes_on_where_it_stood(client, hold):
    location = begin(client, hold)["Location"]
    patch(client, location, CONTENT[:60], offset=0)

    again = begin(client, hold)

    assert (again.status_code, again["Location"], again["Upload-Offset"]) == (201, location, "60")


def test_a_chunk_at_the_wrong_place_or_damaged_is_refused(client, hold):
    location = begin(client, hold)["Location"]
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

    assert patch(client, location, CONTENT[:10], offset=5).status_code == 409
    assert patch(client, location, CONTENT[:10], offset=0, **{"Upload-Checksum": f"sha256 {wrong}"}).status_code == 460
    assert client.head(location)["Upload-Offset"] == "0"


@pytest.mark.parametrize("changes", [{"job": "another"}, {"fence": "9"}, {"role": "weights"}, {"sha256": "short"}])
def test_an_upload_is_for_the_attempt_of_the_token(client, hold, changes):
    assert begin(client, hold, **changes).status_code == 400


def test_a_mask_has_a_limit(client, hold, settings):
    assert begin(client, hold, length=settings.LIMITS.artifact_bytes + 1).status_code == 413


def test_a_lost_attempt_moves_no_more_bytes(client, job, hold, artifact):
    location = begin(client, hold)["Location"]
    overdue(job)
    housekeeping.expire()
    running(job, a_worker("lab-2"))

    answers = [
        patch(client, location, CONTENT[:60], offset=0),
        client.head(location),
        begin(client, hold),
        answer_to(client, artifact),
    ]

    assert [answer.status_code for answer in answers] == [409] * 4
    assert answers[0].json()["code"] == "attempt_over"


def test_a_cancelled_job_moves_no_more_bytes(client, job, artifact):
    services.cancel(job.pk)

    assert answer_to(client, artifact).status_code == 409


def test_a_revoked_workers_token_opens_nothing(client, worker, hold, artifact):
    Worker.objects.filter(pk=worker.pk).update(state=Worker.State.REVOKED)

    assert answer_to(client, artifact).status_code == 401
    assert begin(client, hold).status_code == 401


def test_an_attempt_sees_only_its_own_upload(client, hold, worker):
    location = begin(client, hold)["Location"]
    WorkerSession.objects.update(credits=0)
    other = running(a_job(uid="9.9"), worker)

    assert Client(headers=bearer(other, worker)).head(location).status_code == 404


def test_a_worker_may_read_the_open_requests(client, job):
    found = client.get("/api/mri/segmentation/pending-requests/").json()

    assert [one["request_id"] for one in found["requests"]] == [job.pk]


def test_a_token_opens_the_inputs_it_names_and_no_others(hold, worker, artifact):
    client = Client(headers=bearer(hold, worker, artifacts=("another",)))

    assert client.get(f"{ARTIFACTS}{artifact.pk}").status_code == 404


def test_a_fresh_token_opens_what_the_first_one_did(hold, worker, artifact):
    token = dataplane.fresh_token(hold, worker_id=worker.pk)

    answer = Client(headers={"Authorization": f"Bearer {token}"}).get(f"{ARTIFACTS}{artifact.pk}")

    assert answer.status_code == 200


@pytest.mark.parametrize(("state", "status"), [(Worker.State.SUSPENDED, 200), (Worker.State.REVOKED, 401)])
def test_a_suspended_worker_finishes_and_a_revoked_one_gets_nothing(client, worker, artifact, state, status):
    set_state(worker, state)

    assert client.get(f"{ARTIFACTS}{artifact.pk}").status_code == status
