"""Importing from disk, and the patient that never was."""

from __future__ import annotations

import io
import json

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from inference.volume import read_nifti
from server.imaging import demo
from server.imaging.models import Series, Study
from tests.inference.dicom import images
from tests.real_data import case_dir, dicom_dir
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> dict:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return json.loads(out.getvalue())


@pytest.fixture
def admin(db) -> User:
    """The first superuser."""
    return User.objects.create_superuser("admin", password="a long secret")


def test_a_folder_is_imported_for_the_first_superuser(admin, owner, tmp_path):
    images.series(tmp_path / "study" / "s1")
    images.series(tmp_path / "study" / "s2", SeriesInstanceUID="1.2.1.2", EchoTime=100.0, RepetitionTime=4500.0)

    answer = run("import_series", str(tmp_path / "study"))

    assert [len(study["series"]) for study in answer["studies"]] == [2]
    assert all(series["id"] for series in answer["studies"][0]["series"])
    assert Study.objects.get().owner == admin


def test_files_and_folders_of_nifti_are_studies_of_their_own(admin, tmp_path):
    loose = [deliveries.nifti_file(tmp_path, name, seed=1) for name in ("t1.nii.gz", "t2.nii.gz")]
    for patient in ("p1", "p2"):
        deliveries.nifti_file(tmp_path / "cases" / patient, "flair.nii.gz", seed=int(patient[1]))

    answer = run("import_series", *map(str, loose), str(tmp_path / "cases"), "--owner", "admin")

    assert sorted((study["description"], len(study["series"])) for study in answer["studies"]) == [
        ("p1", 1),
        ("p2", 1),
        ("t1.nii.gz, t2.nii.gz", 2),
    ]


def test_an_import_of_nothing_readable_ends_with_the_sentence(admin, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")

    with pytest.raises(CommandError, match=r"notes\.txt: It is neither"):
        run("import_series", str(tmp_path / "notes.txt"))


def test_an_import_without_anybody_to_own_it_says_so(db, tmp_path):
    with pytest.raises(CommandError, match="no such user"):
        run("import_series", str(tmp_path))


def test_an_import_of_a_path_that_is_not_there_says_so(admin, tmp_path):
    with pytest.raises(CommandError, match="there is no"):
        run("import_series", str(tmp_path / "nowhere"))


def test_the_demo_patient_is_made_once_and_says_that_it_is_none(admin, data_dir, monkeypatch):
    pytest.importorskip("nilearn", reason="the demo patient needs nilearn: pip install nilearn")
    monkeypatch.setattr(demo, "SHAPE", (60, 72, 28))
    monkeypatch.setattr(demo, "SPACING_MM", (3.2, 3.2, 5.0))

    first = run("make_demo_patient")
    again = run("make_demo_patient", "--owner", "admin")

    assert first == again
    assert set(first["series"]) == {"T1", "T1CE", "T2", "FLAIR"}
    assert "SIMULATED" in Study.objects.get().patient_name
    truth = read_nifti(data_dir / "demo" / "truth.nii.gz")
    for series in Series.objects.all():
        volume = read_nifti(data_dir / series.folder / "volume.nii.gz")
        assert volume.grid.is_close_to(truth.grid)
        assert volume.voxels[truth.voxels > 0].min() > 0
    assert set(truth.voxels.ravel()) == {0, 1, 2, 3}


@pytest.mark.real_data
@pytest.mark.usefixtures("real_parser")
def test_a_real_dicom_study_is_imported_with_its_four_sequences(admin):
    answer = run("import_series", str(dicom_dir("tcga_fg_6692")))

    assert len(answer["studies"]) == 1
    assert {series["sequence"] for series in answer["studies"][0]["series"]} == {"T1", "T1CE", "T2", "FLAIR"}


@pytest.mark.real_data
def test_a_real_nifti_case_is_imported_with_its_four_sequences(admin):
    answer = run("import_series", str(case_dir("brats_met_00110")))

    assert {series["sequence"] for series in answer["studies"][0]["series"]} == {"T1", "T1CE", "T2", "FLAIR"}
