"""The shelf in a bucket, against a local server that speaks S3."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from moto.server import ThreadedMotoServer

from inference.contract import ModelRef, Volume
from inference.volume import pack_mask, unpack
from server.core.reconcile import Hold
from server.dispatch import dataplane
from server.dispatch.deliveries import Delivery, Outcome, settle
from server.dispatch.models import Worker
from server.imaging import selectors, storage, tus
from server.imaging.bucket import Bucket
from server.imaging.errors import StorageFailed, StoredFileDamaged, UploadBusy
from server.imaging.models import Mask, Series, Study, Upload
from server.imaging.parts import ObjectParts, parts_of
from server.imaging.s3 import BucketShelf, shelf_of
from server.jobs.models import Job
from tests.inference.dicom import images
from tests.server.dispatch.scenes import RUN, a_worker, running
from tests.server.imaging import deliveries

CONTENT = b"voxels" * 1000


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server that speaks S3, on loopback."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://127.0.0.1:{1}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def shelf(endpoint, settings, tmp_path) -> BucketShelf:
    """An empty bucket of this test, and the server's settings pointing there."""
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:40]
    settings.STORAGE = Bucket(key="key", secret="secret", endpoint=endpoint, name=name, prefix="clinic/")
    made = shelf_of(settings.STORAGE)
    made._client.create_bucket(Bucket=name)
    return made


@pytest.fixture
def staged(tmp_path) -> Path:
    """A folder to be kept."""
    folder = tmp_path / "staged"
    (folder / "originals").mkdir(parents=True)
    (folder / "artifact").write_bytes(CONTENT)
    (folder / "originals" / "00000.dcm").write_bytes(b"DICM")
    return folder


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(shelf: BucketShelf, relative: str, content: bytes) -> None:
    """Write past the shelf, as a fault would."""
    metadata = {"sha256": digest_of(content)}
    shelf._client.put_object(Bucket=shelf._bucket.name, Key=shelf._key(relative), Body=content, Metadata=metadata)


def test_a_folder_is_kept_read_and_taken_away(shelf, staged):
    shelf.keep(staged, "series/A")

    shelf.check("series/A/artifact", size=len(CONTENT), sha256=digest_of(CONTENT))
    assert b"".join(shelf.pieces("series/A/artifact", 3, 12)) == CONTENT[3:13]
    assert [name for name, _ in shelf.folders("series")] == ["A"]
    with shelf.local("series/A/originals") as folder:
        assert [path.read_bytes() for path in folder.iterdir()] == [b"DICM"]
    assert not folder.exists()
    shelf.remove("series/A")
    assert list(shelf.folders("series")) == []
    with pytest.raises(StoredFileDamaged):
        shelf.check("series/A/artifact", size=len(CONTENT), sha256=digest_of(CONTENT))


def test_keeping_twice_is_fine_and_keeping_something_else_there_is_not(shelf, staged):
    """A lost answer makes the client of the object storage repeat the request."""
    shelf.keep(staged, "series/A")
    shelf.keep(staged, "series/A")
    (staged / "artifact").write_bytes(b"another")

    with pytest.raises(StoredFileDamaged):
        shelf.keep(staged, "series/A")

    assert b"".join(shelf.pieces("series/A/artifact", 0)) == CONTENT


@pytest.mark.parametrize("now_there", [CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_an_object_that_is_not_what_was_put_there_is_refused(shelf, staged, now_there):
    shelf.keep(staged, "series/A")
    put(shelf, "series/A/artifact", now_there)

    with pytest.raises(StoredFileDamaged):
        shelf.check("series/A/artifact", size=len(CONTENT), sha256=digest_of(CONTENT))
    with pytest.raises(StoredFileDamaged):
        storage.read("series/A/artifact", sha256=digest_of(CONTENT))


def test_a_link_opens_one_object_for_ten_minutes(shelf, staged):
    shelf.keep(staged, "series/A")

    link = shelf.link("series/A/artifact")

    assert "X-Amz-Expires=600" in link
    assert "secret" not in link
    with urlopen(link) as answer:
        assert answer.read() == CONTENT


@pytest.mark.django_db
def test_chunks_may_come_to_different_servers_and_the_whole_is_gathered(shelf, owner, tmp_path, data_dir):
    upload = tus.create(length=10, max_bytes=10, owner=owner, sha256=digest_of(b"0123456789"))
    for offset, chunk in ((0, b"0123"), (4, b"4567"), (8, b"89")):
        upload = tus.append(Upload.objects.get(), offset=offset, chunk=chunk)

    assert upload.is_complete
    assert parts_of(upload).whole(tmp_path).read_bytes() == b"0123456789"
    assert not (data_dir / "uploads").exists()
    tus.terminate(upload)
    assert list(shelf.folders("uploads")) == []


@pytest.mark.django_db
def test_of_two_chunks_at_one_offset_only_the_one_counts_that_was_acknowledged(shelf, owner, tmp_path, monkeypatch):
    upload = tus.create(length=8, max_bytes=10, owner=owner)
    write = ObjectParts.write

    def other_server_is_faster(parts: ObjectParts, chunk: bytes, offset: int) -> list[str]:
        monkeypatch.setattr(ObjectParts, "write", write)
        names = write(parts, chunk, offset)
        tus.append(Upload.objects.get(), offset=0, chunk=b"first")
        return names

    monkeypatch.setattr(ObjectParts, "write", other_server_is_faster)
    with pytest.raises(UploadBusy):
        tus.append(Upload.objects.get(), offset=0, chunk=b"second")

    upload = tus.append(Upload.objects.get(), offset=5, chunk=b"end")
    assert parts_of(upload).whole(tmp_path).read_bytes() == b"firstend"


def test_without_the_object_storage_the_client_is_told_to_come_again(settings, client):
    gone = Bucket(key="key", secret="secret", endpoint="http://127.0.0.1:9", name="gone")
    settings.STORAGE = gone

    answer = client.post("/api/mri/uploads/", {"files": deliveries.four_niftis()})

    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert Study.objects.count() == 0
    with pytest.raises(StorageFailed):
        shelf_of(gone).probe()


@pytest.mark.django_db
def test_the_way_from_upload_to_mask_with_everything_in_the_bucket(shelf, client, owner, tmp_path, data_dir):
    """Files in, inputs to the worker by a link, the mask up and proven beside the originals, and out to the browser."""
    job, worker = a_clicked_job(client, tmp_path), a_worker()
    hold = running(job, worker)

    inputs = [
        by_link(series, hold, worker, tmp_path) for series in Series.objects.filter(pk__in=job.sequence_series_ids)
    ]
    outcome = deliver(job, hold, worker, tmp_path)

    assert {volume.voxels.shape for volume in inputs} == {(10, 8, 6)}
    assert outcome is Outcome.SETTLED
    shown = client.get(f"/api/mri/segmentation/jobs/{job.pk}/mask.nii.gz")
    assert (shown.status_code, digest_of(shown.content)) == (200, Mask.objects.get().sha256)
    assert client.get(f"/api/mri/segmentation/jobs/{job.pk}/mask.dcm").content[128:132] == b"DICM"
    assert [path for path in data_dir.rglob("*") if path.is_file()] == []


def a_clicked_job(client: Client, folder: Path) -> Job:
    """Four DICOM series brought in over HTTP, and the click."""
    descriptions = {"T1": "T1 SE AX", "T1CE": "T1 SE AX + Gd", "T2": "T2 TSE AX", "FLAIR": "FLAIR AX"}
    files = [
        SimpleUploadedFile(f"{name}-{path.name}", path.read_bytes())
        for number, (name, description) in enumerate(descriptions.items())
        for path in sorted(
            images.series(
                folder / name,
                SeriesInstanceUID=f"1.2.1.{number + 1}",
                SeriesDescription=description,
                FrameOfReferenceUID="1.2.9",
            ).iterdir()
        )
    ]
    answer = client.post("/api/mri/uploads/", {"files": files})
    assert answer.status_code == 201, answer.content
    found = {one["uid"]: one["id"] for one in answer.json()["studies"][0]["series"]}
    ids = [found[f"1.2.1.{number}"] for number in (1, 2, 3, 4)]
    clicked = client.post(
        f"/api/mri/segmentation/series/{ids[1]}/segment/?use_local=true",
        {"sequence_series_ids": ids},
        content_type="application/json",
    )
    assert clicked.status_code == 202, clicked.content
    return Job.objects.get(pk=clicked.json()["id"])


def by_link(series: Series, hold: Hold, worker: Worker, folder: Path) -> Volume:
    """An input as a worker fetches it that knows the storage: by the link that the server answers with."""
    token = dataplane.fresh_token(hold, worker_id=worker.pk)
    headers = {"Authorization": f"Bearer {token}", "Accept-Storage": storage.origin()}
    answer = Client(headers=headers).get(f"/api/worker/artifacts/{series.artifact.pk}")
    assert answer.status_code == 302
    assert answer["Location"].startswith(f"{storage.origin()}/")
    with urlopen(answer["Location"]) as source:
        (folder / series.pk).write_bytes(source.read())
    return unpack(folder / series.pk, selectors.packed_of(series.artifact))


def deliver(job: Job, hold: Hold, worker: Worker, folder: Path) -> Outcome:
    """The mask as the worker brings it, settled."""
    grid = selectors.grid_of(job.series)
    labels = (np.arange(np.prod(grid.shape)).reshape(grid.shape) % 4).astype(np.uint8)
    packed = pack_mask(labels, folder / "mask", affine=grid.affine)
    upload = tus.create(
        length=packed.size, max_bytes=1 << 20, job_id=job.pk, fence=hold.fence, role="mask", sha256=packed.sha256
    )
    tus.append(upload, offset=0, chunk=(folder / "mask").read_bytes())
    return settle(
        Delivery(
            worker_id=worker.pk,
            hold=hold,
            result_id="result-1",
            artifact_id=upload.pk,
            packed=packed,
            model=ModelRef(**RUN),
            metrics={},
        )
    )
