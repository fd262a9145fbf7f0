"""What comes along with a study and is no scan: set aside with the reason, never an error of the upload."""

from __future__ import annotations

import pytest

from server.imaging.models import Study
from tests.inference.dicom import images
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db

REPORT = "1.2.840.10008.5.1.4.1.1.88.22"


def upload(client, *files):
    return client.post("/api/mri/uploads/", {"files": list(files)})


def with_map_and_report(folder):
    """A series, a map of six files, and a report, of one study."""
    scan = deliveries.dicom_files(folder / "scan", AccessionNumber="A-17", PatientBirthDate="19500203")
    kinds = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
    adc = deliveries.dicom_files(folder / "adc", ImageType=kinds, SeriesInstanceUID="1.2.1.2")
    report = images.image(0, images.voxels()[0], SOPClassUID=REPORT, Modality="SR")
    images.save(report, folder / "sr.dcm")
    return [*scan, *adc, deliveries.SimpleUploadedFile("sr.dcm", (folder / "sr.dcm").read_bytes())]


def test_a_map_and_a_report_are_set_aside_and_the_scan_is_read(client, tmp_path):
    answer = upload(client, *with_map_and_report(tmp_path)).json()

    assert (len(answer["studies"][0]["series"]), answer["refused"]) == (1, [])
    assert {(entry["code"], entry["files"]) for entry in answer["set_aside"]} == {("derived_map", 6), ("report", 1)}
    assert all(entry["filename"].endswith(".dcm") and entry["detail"].endswith(".") for entry in answer["set_aside"])


def test_the_study_remembers_what_was_set_aside_once(client, tmp_path):
    files = with_map_and_report(tmp_path)
    first = upload(client, *files).json()["studies"][0]
    for file in files:
        file.seek(0)
    upload(client, *files)

    shown = client.get(f"/api/mri/studies/{first['id']}/").json()

    assert sorted(entry["code"] for entry in shown["set_aside"]) == ["derived_map", "report"]
    assert shown["accession_number"] == "A-17"
    assert str(Study.objects.get().patient_birth_date) == "1950-02-03"


def test_an_upload_of_nothing_but_reports_says_why(client, tmp_path):
    answer = upload(client, with_map_and_report(tmp_path)[-1])

    assert answer.status_code == 422
    assert [entry["code"] for entry in answer.json()["refused"]] == ["report"]
    assert not Study.objects.exists()


def test_the_files_of_a_viewer_on_a_disc_are_one_entry(client, tmp_path):
    others = [deliveries.SimpleUploadedFile(f"viewer{place}.dll", bytes(400)) for place in range(30)]

    answer = upload(client, *deliveries.dicom_files(tmp_path / "scan"), *others).json()

    assert [entry["code"] for entry in answer["refused"]] == ["not_an_image"]
    assert "29 more" in answer["refused"][0]["detail"]
