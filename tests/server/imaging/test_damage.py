"""Files that changed on the disk behind the server's back: never handed out as if they were good."""

from __future__ import annotations

import itertools
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from inference.contract import ModelRef
from inference.volume import pack_mask
from server.core.errors import Problem
from server.imaging import results, selectors, services, storage, tus
from server.imaging.errors import StoredFileDamaged
from server.imaging.files import Stored, content_response, stored_response
from server.imaging.models import Mask, Series
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db

MODEL = ModelRef(name="segresnet", version="1.0.0", sha256="cd" * 32)


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """The last byte is gone."""
    path.write_bytes(path.read_bytes()[:-1])


HARMS = [flip, cut, Path.unlink]


@pytest.fixture
def series(owner, tmp_path) -> Series:
    """A stored DICOM series."""
    return services.ingest_uploaded(owner=owner, files=deliveries.dicom_files(tmp_path / "in")).series[0]


@pytest.fixture
def mask(series, tmp_path) -> Mask:
    """A stored mask of it."""
    grid = selectors.grid_of(series)
    packed = pack_mask((deliveries.scan(shape=grid.shape).voxels % 4).astype("u1"), tmp_path / "m", affine=grid.affine)
    upload = tus.create(length=packed.size, max_bytes=1 << 20, job_id="JOB", fence=1, sha256=packed.sha256)
    upload = tus.append(upload, offset=0, chunk=(tmp_path / "m").read_bytes())
    asked = {"upload": upload, "packed": packed, "job_id": "JOB", "reference": series, "inputs": [series] * 4}
    return services.store_mask(job_id="JOB", proven=results.prove(**asked, model=MODEL, metrics={}))


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_volume_is_refused_even_if_it_was_good_a_moment_ago(client, series, data_dir, harm):
    url = f"/api/mri/series/{series.pk}/volume.nii.gz"
    assert client.get(url).status_code == 200

    harm(data_dir / series.folder / "volume.nii.gz")

    assert client.get(url).json()["code"] == "stored_file_damaged"
    assert client.get(url, headers={"Range": "bytes=0-9"}).status_code == 500


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_input_is_not_given_to_a_worker(rf, series, data_dir, harm):
    artifact = series.artifact
    harm(data_dir / artifact.path)

    with pytest.raises(StoredFileDamaged):
        stored_response(rf.get("/"), Stored(path=artifact.path, size=artifact.size, sha256=artifact.sha256))


@pytest.mark.parametrize(("name", "harm"), [*(("nii", harm) for harm in HARMS), ("seg", flip), ("report", flip)])
def test_a_damaged_result_is_not_shown(mask, data_dir, name, harm):
    path, sha256 = getattr(mask, f"{name}_path"), mask.sha256 if name == "nii" else getattr(mask, f"{name}_sha256")
    assert storage.read(path, sha256=sha256)

    harm(data_dir / path)

    with pytest.raises(StoredFileDamaged):
        storage.read(path, sha256=sha256)


def verified() -> str:
    out = StringIO()
    call_command("verify_storage", stdout=out)
    return out.getvalue()


def test_all_files_are_sound(mask):
    assert verified() == "11 files are sound\n"


def test_each_damaged_file_is_named(mask, data_dir):
    series = mask.series
    folder = mask.report_path.rpartition("/")[0]
    places = (
        *(f"{series.folder}/volume.nii.gz", series.artifact.path, mask.nii_path, mask.report_path, mask.seg_path),
        *(f"{folder}/{name}" for name in ("report.dcm", "key-1.dcm", "summary.dcm", "summary.pdf")),
    )
    for place, harm in zip(places, itertools.cycle((flip, cut, Path.unlink)), strict=False):
        harm(data_dir / place)
    out = StringIO()

    with pytest.raises(CommandError, match="9 of 11 files are damaged"):
        call_command("verify_storage", stdout=out)

    assert [line.split()[1] for line in out.getvalue().splitlines()] == list(places)


def test_a_shelf_that_does_not_answer_is_no_damage(mask, monkeypatch):
    class Silent:
        def pieces(self, *_: object) -> None:
            raise Problem("The storage does not answer.")

    monkeypatch.setattr(storage, "shelf", Silent)

    with pytest.raises(CommandError, match="does not answer"):
        verified()


CONTENT = b"0123456789"
FILE = Stored(path="x", size=10, sha256="ab" * 32, content_type="application/dicom", filename="job.dcm")


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({}, 200, CONTENT),
        ({"Range": "bytes=2-4"}, 206, b"234"),
        ({"Range": "bytes=-3"}, 206, b"789"),
        ({"Range": "bytes=2-4", "If-Range": FILE.headers()["ETag"]}, 206, b"234"),
        ({"Range": "bytes=2-4", "If-Range": '"another"'}, 200, CONTENT),
        ({"Range": "bytes=0-1,4-5"}, 200, CONTENT),
        ({"If-None-Match": FILE.headers()["ETag"]}, 304, b""),
        ({"If-None-Match": "*"}, 304, b""),
    ],
)
def test_a_result_answers_ranges_and_tags(rf, headers, status, body):
    answer = content_response(rf.get("/", headers=headers), CONTENT, FILE)

    assert (answer.status_code, answer.content) == (status, body)
    assert answer["ETag"] == f'"{FILE.sha256}"'


def test_the_head_of_a_result_says_how_long_it_is(rf):
    answer = content_response(rf.head("/"), CONTENT, FILE)

    assert (answer.content, answer["Content-Length"], answer["Accept-Ranges"]) == (b"", "10", "bytes")


def test_behind_a_proxy_that_reads_the_disk_the_bytes_are_its_work(client, series, settings):
    settings.ACCEL_LOCATION = "/stored/"

    answer = client.get(f"/api/mri/series/{series.pk}/volume.nii.gz")

    assert answer["X-Accel-Redirect"] == f"/stored/{series.folder}/volume.nii.gz"
    assert (answer.content, answer["ETag"]) == (b"", f'"{series.volume_sha256}"')
    assert answer["Content-Type"] == "application/gzip"


def test_a_damaged_volume_is_not_left_to_the_proxy_either(client, series, settings, data_dir):
    settings.ACCEL_LOCATION = "/stored/"
    flip(data_dir / series.folder / "volume.nii.gz")

    answer = client.get(f"/api/mri/series/{series.pk}/volume.nii.gz")

    assert (answer.status_code, answer.has_header("X-Accel-Redirect")) == (500, False)
