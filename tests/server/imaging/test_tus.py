"""Resumable uploads: tus 1.0 to the letter, and batches that are read in when their last file is complete."""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from inference.export.nifti import nifti_bytes
from server.imaging import services, storage, tus
from server.imaging.errors import ChecksumMismatch, UploadBusy
from server.imaging.models import Series, Upload, UploadBatch
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db

TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}
SCAN = gzip.compress(nifti_bytes(deliveries.scan()), mtime=0)


def metadata(**pairs: str) -> dict[str, str]:
    return {"Upload-Metadata": ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())}


def begin(client, *, length: int = len(SCAN), **pairs: str) -> str:
    headers = {**TUS, "Upload-Length": str(length), **metadata(**(pairs or {"filename": "t1.nii.gz"}))}
    answer = client.post("/api/mri/uploads/tus/", headers=headers)
    assert answer.status_code == 201, answer.content
    return answer["Location"]


def send(client, url: str, content: bytes, *, offset: int, **headers: str):
    head = {**CHUNK, "Upload-Offset": str(offset), **headers}
    kind = head.pop("Content-Type")
    return client.patch(url, content, content_type=kind, headers=head)


def standing(client, url: str) -> int:
    return int(client.head(url, headers=TUS)["Upload-Offset"])


def test_anybody_may_ask_what_the_server_can_do(db):
    answer = Client().options("/api/mri/uploads/tus/")

    assert answer.status_code == 204
    assert answer["Tus-Version"] == "1.0.0"
    assert set(answer["Tus-Extension"].split(",")) == {"creation", "termination", "checksum", "expiration"}
    assert "sha256" in answer["Tus-Checksum-Algorithm"].split(",")
    assert int(answer["Tus-Max-Size"]) > 0


def test_a_file_sent_in_pieces_becomes_a_series(client):
    url = begin(client)

    first = send(client, url, SCAN[:1000], offset=0)
    last = send(client, url, SCAN[1000:], offset=1000)

    assert (first.status_code, first["Upload-Offset"], first["Tus-Resumable"]) == (204, "1000", "1.0.0")
    assert (last.status_code, last["Upload-Offset"]) == (204, str(len(SCAN)))
    assert Series.objects.get().sequence == "T1"


def test_an_upload_without_a_batch_is_found_as_a_batch_of_its_own(client):
    url = begin(client)
    send(client, url, SCAN, offset=0)

    answer = client.get(f"/api/mri/uploads/batches/{url.rsplit('/', 1)[1]}/").json()

    assert answer["state"] == "done"
    assert answer["studies"][0]["series"][0]["sequence"] == "T1"
    assert answer["refused"] == []


def test_an_interrupted_upload_says_where_to_go_on(client):
    url = begin(client)
    send(client, url, SCAN[:700], offset=0)

    assert standing(client, url) == 700


def test_a_chunk_from_the_wrong_place_is_a_409_and_changes_nothing(client):
    url = begin(client)
    send(client, url, SCAN[:700], offset=0)

    answer = send(client, url, SCAN[500:], offset=500)

    assert (answer.status_code, answer.json()["code"]) == (409, "offset_mismatch")
    assert standing(client, url) == 700


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_a_chunk_with_the_right_checksum_counts_and_with_a_wrong_one_does_not(client, algorithm):
    url = begin(client)
    right = base64.b64encode(hashlib.new(algorithm, SCAN[:500]).digest()).decode()

    assert send(client, url, SCAN[1:501], offset=0, **{"Upload-Checksum": f"{algorithm} {right}"}).status_code == 460
    assert standing(client, url) == 0
    assert send(client, url, SCAN[:500], offset=0, **{"Upload-Checksum": f"{algorithm} {right}"}).status_code == 204


@pytest.mark.parametrize("checksum", ["md5 AAAA", "sha256 ???", "sha256"])
def test_a_checksum_that_is_none_is_a_400(client, checksum):
    assert send(client, begin(client), SCAN, offset=0, **{"Upload-Checksum": checksum}).status_code == 400


def test_more_bytes_than_announced_are_a_413(client):
    assert send(client, begin(client, length=10), SCAN, offset=0).status_code == 413


def test_a_file_beyond_the_limit_is_refused_at_once(client, settings):
    headers = {**TUS, "Upload-Length": str(settings.LIMITS.upload_bytes + 1)}

    assert client.post("/api/mri/uploads/tus/", headers=headers).status_code == 413


@pytest.mark.parametrize("count", ["", "0", "two", "9" * 30])
def test_a_batch_says_how_many_files_it_has(client, count):
    headers = {**TUS, "Upload-Length": "5", **metadata(filename="a.nii", batch=str(uuid.uuid4()), batch_count=count)}

    answer = client.post("/api/mri/uploads/tus/", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "upload_invalid")


def test_another_protocol_version_or_content_type_is_refused(client):
    url = begin(client)

    other_version = client.head(url)
    assert other_version.status_code == 412
    assert (other_version["Tus-Resumable"], other_version["Tus-Version"]) == ("1.0.0", "1.0.0")
    assert send(client, url, SCAN, offset=0, **{"Content-Type": "text/plain"}).status_code == 415


@pytest.mark.parametrize("length", ["", "-1", "abc", "1e3"])
def test_a_length_that_is_no_number_is_a_400(client, length):
    assert client.post("/api/mri/uploads/tus/", headers={**TUS, "Upload-Length": length}).status_code == 400


def test_an_upload_given_up_is_gone(client, data_dir):
    url = begin(client)

    assert client.delete(url, headers=TUS).status_code == 204
    assert client.head(url, headers=TUS).status_code == 404
    assert list((data_dir / "uploads").iterdir()) == []


def test_an_upload_that_was_not_finished_in_time_is_a_410_once(client):
    url = begin(client)
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert client.head(url, headers=TUS).status_code == 410
    assert client.head(url, headers=TUS).status_code == 404


def test_another_users_upload_does_not_exist(client, stranger):
    url = begin(client)
    other = Client()
    other.force_login(stranger)

    assert other.head(url, headers=TUS).status_code == 404
    assert send(other, url, SCAN, offset=0).status_code == 404


def test_a_batch_waits_for_its_last_file_and_is_one_study(client):
    batch = str(uuid.uuid4())
    names = ("t1.nii.gz", "flair.nii.gz")
    urls = [begin(client, filename=name, batch=batch, batch_count="2") for name in names]

    send(client, urls[0], SCAN, offset=0)
    waiting = client.get(f"/api/mri/uploads/batches/{batch}/").json()
    send(client, urls[1], SCAN, offset=0)
    done = client.get(f"/api/mri/uploads/batches/{batch}/").json()

    assert waiting["state"] == "receiving"
    assert done["state"] == "done"
    assert [one["sequence"] for one in done["studies"][0]["series"]] == ["T1", "FLAIR"]


def test_a_batch_of_rubbish_fails_and_says_why(client):
    url = begin(client, length=500, filename="x.dcm")
    send(client, url, bytes(500), offset=0)

    answer = client.get(f"/api/mri/uploads/batches/{url.rsplit('/', 1)[1]}/").json()

    assert (answer["state"], answer["studies"]) == ("failed", [])
    assert answer["refused"][0]["filename"] == "x.dcm"


def test_a_file_too_many_finds_the_batch_closed(client):
    batch = str(uuid.uuid4())
    begin(client, filename="a.nii", batch=batch, batch_count="1")
    headers = {**TUS, "Upload-Length": "5", **metadata(filename="b.nii", batch=batch, batch_count="1")}

    assert client.post("/api/mri/uploads/tus/", headers=headers).status_code == 409


def test_anothers_batch_does_not_exist(client, stranger):
    url = begin(client)
    other = Client()
    other.force_login(stranger)

    assert other.get(f"/api/mri/uploads/batches/{url.rsplit('/', 1)[1]}/").status_code == 404


def test_a_batch_whose_reader_died_is_read_again(client):
    url = begin(client)
    UploadBatch.objects.update(state="ingesting", claimed_at=timezone.now() - timedelta(hours=1))
    upload = Upload.objects.get()
    storage.path_of(upload.path).write_bytes(SCAN)
    Upload.objects.update(offset=len(SCAN), is_complete=True)

    answer = client.get(f"/api/mri/uploads/batches/{url.rsplit('/', 1)[1]}/").json()

    assert answer["state"] == "done"


def test_a_batch_whose_server_died_right_after_the_last_byte_is_read(client):
    """The bytes count once the offset has moved; who should have begun to read them is gone."""
    url = begin(client)
    storage.path_of(Upload.objects.get().path).write_bytes(SCAN)
    Upload.objects.update(offset=len(SCAN), is_complete=True)

    answer = client.get(f"/api/mri/uploads/batches/{url.rsplit('/', 1)[1]}/").json()

    assert answer["state"] == "done"


def test_the_bytes_of_a_batch_are_dropped_once_it_is_stored(client, data_dir):
    url = begin(client)
    send(client, url, SCAN, offset=0)

    assert list((data_dir / "uploads").iterdir()) == []
    assert standing(client, url) == len(SCAN)


def test_a_worker_upload_with_another_digest_starts_from_nothing(db):
    upload = tus.create(length=4, max_bytes=10, job_id="01J", fence=3, role="mask", sha256="00" * 32)

    with pytest.raises(ChecksumMismatch):
        tus.append(upload, offset=0, chunk=b"abcd")

    found = tus.head(upload.pk, job_id="01J", fence=3)
    assert (found.offset, found.is_complete) == (0, False)


def test_a_worker_upload_with_its_digest_is_complete(db):
    digest = hashlib.sha256(b"abcd").hexdigest()
    upload = tus.create(length=4, max_bytes=10, job_id="01J", fence=3, role="mask", sha256=digest)

    assert tus.append(upload, offset=0, chunk=b"abcd").is_complete


def test_a_guard_that_refuses_keeps_the_offset(db):
    """The fence is checked in the transaction that moves the offset: a late worker's bytes never count."""
    upload = tus.create(length=4, max_bytes=10, job_id="01J", fence=3, role="mask")

    def refuse(_upload: Upload) -> None:
        raise UploadBusy

    with pytest.raises(UploadBusy):
        tus.append(upload, offset=0, chunk=b"abcd", guard=refuse)
    assert tus.head(upload.pk).offset == 0


def test_tidying_drops_what_nobody_finished(client, data_dir):
    begin(client)
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    services.tidy()

    assert Upload.objects.count() == 0
    assert list((data_dir / "uploads").iterdir()) == []


def test_tidying_drops_folders_that_no_row_knows_and_keeps_the_others(client, data_dir, monkeypatch):
    """A process killed between the rename and the commit leaves a folder behind."""
    send(client, begin(client), SCAN, offset=0)
    (data_dir / "series" / "01ORPHAN").mkdir()
    (data_dir / "masks" / "01JOB-01ORPHAN").mkdir(parents=True)
    monkeypatch.setattr(storage, "ORPHAN_SECONDS", -60.0)

    services.tidy()

    assert [folder.name for folder in (data_dir / "series").iterdir()] == [Series.objects.get().pk]
    assert list((data_dir / "masks").iterdir()) == []
