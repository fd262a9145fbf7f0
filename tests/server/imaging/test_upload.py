"""Uploads in one request: what becomes of good files, bad files, and the same files again."""

from __future__ import annotations

import io
import zipfile

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from frontend_bridge.feeds import since
from inference.volume import read_nifti, unpack
from server.imaging import selectors
from server.imaging.models import Series, Study
from server.topics.selectors import events_since
from tests.inference.dicom import images
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db


def upload(client, *files, **query):
    return client.post("/api/mri/uploads/", {"files": list(files)}, query_params=query)


def test_a_dicom_series_becomes_one_study_with_one_recognised_series(client, owner, tmp_path):
    answer = upload(client, *deliveries.dicom_files(tmp_path / "in"))

    assert answer.status_code == 201, answer.content
    study = answer.json()["studies"][0]
    series = study["series"][0]
    assert answer.json()["refused"] == []
    assert (series["uid"], series["description"], series["sequence"]) == ("1.2.1.1", "T1 SE AX", "T1")
    assert series["sequence_confidence"] > 0.8
    assert (series["shape"], series["spacing_mm"]) == ([10, 8, 6], [1.5, 2.0, 4.0])
    row = Study.objects.get(pk=study["id"])
    assert (row.owner, row.patient_name, row.patient_id, str(row.study_date)) == (
        owner,
        "DOE^JANE",
        "4711",
        "2026-01-02",
    )


def test_what_a_worker_fetches_holds_the_same_voxels_as_what_the_viewer_shows(client, tmp_path, data_dir):
    upload(client, *deliveries.dicom_files(tmp_path / "in"))
    series = Series.objects.get()

    shown = read_nifti(data_dir / series.folder / "volume.nii.gz")
    fetched = unpack(data_dir / series.artifact.path, selectors.packed_of(series.artifact))

    assert shown.grid.is_close_to(selectors.stored_grid_of(series))
    assert fetched.grid.is_close_to(selectors.grid_of(series))
    assert sorted(shown.voxels.ravel()) == sorted(fetched.voxels.ravel())
    assert (fetched.affine.diagonal() > 0).all()


def test_originals_are_kept_with_an_empty_preamble(client, tmp_path, data_dir):
    """A preamble can make a DICOM file a program as well (CVE-2019-11687)."""
    files = deliveries.dicom_files(tmp_path / "in")
    evil = [SimpleUploadedFile(file.name, b"MZ" * 64 + file.read()[128:]) for file in files]

    upload(client, *evil)

    kept = sorted((data_dir / Series.objects.get().folder / "originals").iterdir())
    assert len(kept) == 6
    assert all(file.read_bytes()[:132] == bytes(128) + b"DICM" for file in kept)


def test_nifti_files_of_one_request_are_one_study_known_by_name(client):
    answer = upload(client, *deliveries.four_niftis())

    studies = answer.json()["studies"]
    assert len(studies) == 1
    assert {series["description"]: series["sequence"] for series in studies[0]["series"]} == {
        "t1.nii": "T1",
        "t1ce.nii.gz": "T1CE",
        "t2.nii.gz": "T2",
        "flair.nii": "FLAIR",
    }


def test_the_same_files_again_are_the_same_series(client, tmp_path):
    first = upload(client, *deliveries.dicom_files(tmp_path / "in"), *deliveries.four_niftis()).json()

    again = upload(client, *deliveries.dicom_files(tmp_path / "in"), *deliveries.four_niftis())

    assert again.status_code == 201
    assert again.json() == first
    assert Series.objects.count() == 5


def test_other_content_under_a_known_identifier_is_refused(client, tmp_path, data_dir):
    upload(client, *deliveries.dicom_files(tmp_path / "in"))
    images.series(tmp_path / "other", images.voxels() + 1)

    answer = upload(client, *(SimpleUploadedFile(p.name, p.read_bytes()) for p in (tmp_path / "other").iterdir()))

    assert answer.status_code == 409
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "series_conflict"
    assert Series.objects.count() == 1
    assert len(list((data_dir / "series").iterdir())) == 1


def test_with_replace_it_becomes_the_next_revision_and_the_old_one_stays(client, owner, tmp_path):
    old = upload(client, *deliveries.dicom_files(tmp_path / "in")).json()["studies"][0]["series"][0]
    images.series(tmp_path / "other", images.voxels() + 1)
    files = [SimpleUploadedFile(p.name, p.read_bytes()) for p in (tmp_path / "other").iterdir()]

    new = upload(client, *files, replace="true").json()["studies"][0]["series"][0]

    assert (new["revision"], new["uid"]) == (2, old["uid"])
    assert selectors.series_for(owner, old["uid"]).pk == new["id"]
    assert selectors.series_for(owner, old["id"]).is_current is False
    assert [one["id"] for one in client.get("/api/mri/studies/").json()["studies"][0]["series"]] == [new["id"]]


def test_a_file_that_is_no_image_is_named_and_nothing_is_stored(client, data_dir):
    answer = upload(client, SimpleUploadedFile("letter.pdf", b"%PDF-1.7 nothing"))

    assert answer.status_code == 422
    assert answer.json()["code"] == "nothing_readable"
    assert "letter.pdf: It is neither a DICOM nor a NIfTI file." in answer.json()["detail"]
    assert Study.objects.count() == 0
    assert list((data_dir / "staging").iterdir()) == []


def test_a_bad_file_among_good_ones_is_refused_alone(client, tmp_path):
    answer = upload(client, *deliveries.dicom_files(tmp_path / "in"), SimpleUploadedFile("x.nii", b"\0" * 400))

    assert answer.status_code == 201
    assert [entry["filename"] for entry in answer.json()["refused"]] == ["x.nii"]


def test_a_series_with_a_slice_missing_is_refused_as_a_whole(client, tmp_path):
    images.series(tmp_path / "in", skip=2)

    answer = upload(client, *(SimpleUploadedFile(p.name, p.read_bytes()) for p in (tmp_path / "in").iterdir()))

    assert answer.status_code == 422
    assert answer.json()["refused"][0]["code"] == "uneven_slices"
    assert "8.00 mm" in answer.json()["detail"]


def test_a_request_without_files_says_so(client):
    assert client.post("/api/mri/uploads/").status_code == 422


def test_a_zip_of_a_study_is_read_and_its_litter_passed_over(client, tmp_path):
    images.series(tmp_path / "in")
    members = {f"study/s1/{path.name}": path.read_bytes() for path in (tmp_path / "in").iterdir()}
    members |= {"__MACOSX/study/._1.dcm": b"x", "study/DICOMDIR": b"x", "study/.DS_Store": b"x"}

    answer = upload(client, SimpleUploadedFile("study.zip", deliveries.zipped(members)))

    assert answer.status_code == 201, answer.content
    assert answer.json()["refused"] == []


def test_a_zip_bomb_is_refused(client):
    bomb = deliveries.zipped({f"{part}.dcm": bytes(8 << 20) for part in range(4)})

    answer = upload(client, SimpleUploadedFile("bomb.zip", bomb))

    assert answer.status_code == 422
    assert answer.json()["refused"] == [
        {
            "filename": "bomb.zip",
            "code": "archive_too_large",
            "detail": "The archive expands to more than is allowed.",
        }
    ]


@pytest.mark.parametrize("name", ["../../evil.dcm", "/etc/evil.dcm", "a\\..\\..\\evil.dcm"])
def test_a_zip_that_leads_out_of_itself_is_refused(client, name):
    answer = upload(client, SimpleUploadedFile("slip.zip", deliveries.zipped({name: b"x"})))

    assert answer.json()["refused"][0]["code"] == "archive_unsafe"


def test_a_zip_with_a_link_is_refused(client):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")

    answer = upload(client, SimpleUploadedFile("link.zip", out.getvalue()))

    assert answer.json()["refused"][0]["code"] == "archive_unsafe"


def test_a_gzip_bomb_that_calls_itself_nifti_is_refused(client):
    import gzip

    answer = upload(client, SimpleUploadedFile("t1.nii.gz", gzip.compress(bytes(64 << 20))))

    assert answer.status_code == 422
    assert answer.json()["refused"][0]["filename"] == "t1.nii.gz"


def test_each_new_series_is_an_event_of_its_study(client, tmp_path):
    study = upload(client, *deliveries.dicom_files(tmp_path / "in")).json()["studies"][0]

    events = events_since(f"study:{study['id']}", 0)

    assert [event.kind for event in events] == ["study.added", "series.added"]
    assert [event.payload for event in events] == [{"study": study["id"]}, {"series": study["series"][0]["id"]}]
    assert since(f"study:{study['id']}", 1, 10)[0].series == study["series"][0]["id"]


def test_nobody_uploads_without_signing_in(db):
    assert upload(Client(), deliveries.nifti("t1.nii")).status_code == 401


def test_a_browser_without_csrf_token_is_refused(owner):
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)

    assert upload(client, deliveries.nifti("t1.nii")).status_code == 403


def test_two_users_with_the_same_series_do_not_learn_of_each_other(client, stranger, tmp_path):
    mine = upload(client, *deliveries.dicom_files(tmp_path / "in")).json()["studies"][0]
    other = Client()
    other.force_login(stranger)
    images.series(tmp_path / "other", images.voxels() + 1)

    theirs = upload(other, *(SimpleUploadedFile(p.name, p.read_bytes()) for p in (tmp_path / "other").iterdir()))

    assert theirs.status_code == 201
    assert theirs.json()["studies"][0]["id"] != mine["id"]
