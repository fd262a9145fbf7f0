"""Files that nobody should send: each is named with a code, and nothing of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse

from server.audit.models import Entry
from server.imaging.models import Artifact, Series, Study, Upload, UploadBatch
from server.topics.models import TopicEvent
from tests.bad_input.uploads import dicoms, niftis
from tests.bad_input.uploads.archives import ARCHIVES
from tests.bad_input.uploads.dicoms import DICOMS
from tests.bad_input.uploads.niftis import NIFTIS

pytestmark = pytest.mark.django_db

ROWS = (Study, Series, Artifact, Upload, UploadBatch, TopicEvent, Entry)


def stored(data_dir: Path) -> tuple[list[str], list[int]]:
    """Everything below DATA_DIR, and how many rows there are."""
    return sorted(str(path) for path in data_dir.rglob("*") if path.is_file()), [row.objects.count() for row in ROWS]


def upload(client, contents: list[bytes], suffix: str) -> HttpResponse:
    files = [SimpleUploadedFile(f"{place}{suffix}", content) for place, content in enumerate(contents)]
    return client.post("/api/mri/uploads/", {"files": files})


def check_refused(client, data_dir: Path, contents: list[bytes], suffix: str, code: str) -> None:
    before = stored(data_dir)

    answer = upload(client, contents, suffix)

    assert answer.status_code == 422, answer.content[:2000]
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "nothing_readable"
    assert {entry["code"] for entry in answer.json()["refused"]} == {code}, answer.json()["refused"][:3]
    assert stored(data_dir) == before


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_bad_archive(client, data_dir, name):
    make, code = ARCHIVES[name]
    check_refused(client, data_dir, [make()], ".zip", code)


@pytest.mark.parametrize("name", DICOMS)
def test_a_bad_dicom_series(client, data_dir, name):
    make, code = DICOMS[name]
    check_refused(client, data_dir, make(), ".dcm", code)


@pytest.mark.parametrize("name", NIFTIS)
def test_a_bad_nifti_file(client, data_dir, name):
    make, code = NIFTIS[name]
    check_refused(client, data_dir, [make()], ".nii", code)


@pytest.mark.parametrize("name", dicoms.ODD_BUT_FINE)
def test_an_odd_dicom_series_that_can_be_read(client, name):
    answer = upload(client, dicoms.ODD_BUT_FINE[name](), ".dcm")

    assert answer.status_code == 201, answer.content[:2000]
    text = "".join(str(value) for row in (*Study.objects.values(), *Series.objects.values()) for value in row.values())
    assert text.isprintable()


@pytest.mark.parametrize("name", niftis.ODD_BUT_FINE)
def test_an_odd_nifti_file_that_can_be_read(client, name):
    answer = upload(client, [niftis.ODD_BUT_FINE[name]()], ".nii")

    assert answer.status_code == 201, answer.content[:2000]
