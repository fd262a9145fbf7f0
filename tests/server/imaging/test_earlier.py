"""Which earlier result a new one is compared with, and what is told of the change."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from django.contrib.auth.models import Group

from inference.contract import ModelRef
from server.imaging import services, storage
from server.imaging.earlier import earlier_mask
from server.imaging.models import Mask, Series, Study
from server.imaging.results import ProvenFiles
from tests.server.imaging import deliveries
from tests.server.imaging.test_results import MODEL, labels_for, proven

pytestmark = pytest.mark.django_db

NOW, THEN, LONG_AGO = date(2026, 1, 2), date(2025, 11, 1), date(2024, 5, 5)


def a_study(owner: Any, *, uid: str, on: date | None, **fields: Any) -> Study:
    """A study of one patient."""
    known = {"patient_id": "4711", "patient_name": "DOE^JANE", "patient_birth_date": date(1961, 2, 3)}
    return Study.objects.create(uid=uid, owner=owner, source="dicom", study_date=on, **{**known, **fields})


def a_mask(series: Series, study: Study, *, job: str, model: ModelRef = MODEL, whole: float = 20.0) -> Mask:
    """A result of that study; its series is a copy of `series`."""
    copy = Series.objects.get(pk=series.pk)
    artifact = copy.artifact
    artifact.pk = f"A{job}"
    artifact.save(force_insert=True)
    copy.pk, copy.uid, copy.study, copy.artifact = f"S{job}", f"2.25.{job}", study, artifact
    copy.save(force_insert=True)
    folder = storage.path_of(f"masks/{job}")
    folder.mkdir(parents=True)
    told = {"model": {"name": model.name, "version": model.version, "sha256": model.sha256}}
    (folder / "report.json").write_text(json.dumps(told))
    files = ProvenFiles(
        series_id=copy.pk,
        folder=f"masks/{job}",
        has_seg=False,
        sha256="0",
        size=1,
        volumes_ml={"WT": whole, "TC": 0.0, "ET": 0.0},
    )
    return services.store_mask(job_id=job, proven=files)


@pytest.fixture
def series(owner, tmp_path) -> Series:
    """A stored series, of the study that is to be compared."""
    found = services.ingest_uploaded(owner=owner, files=deliveries.dicom_files(tmp_path / "in")).series[0]
    Study.objects.filter(pk=found.study_id).update(patient_birth_date=date(1961, 2, 3), study_date=NOW)
    return Series.objects.select_related("study", "artifact").get(pk=found.pk)


def before(series: Series, viewer: Any = None) -> str | None:
    found = earlier_mask(study=series.study, viewer=viewer or series.study.owner, model=MODEL)
    return found.job_id if found else None


def test_the_newest_earlier_study_counts_and_its_newest_mask_of_the_same_model(series, owner):
    then = a_study(owner, uid="1", on=THEN)
    a_mask(series, a_study(owner, uid="2", on=LONG_AGO), job="OLD")
    a_mask(series, then, job="SAME")
    a_mask(series, then, job="OTHER", model=ModelRef("another", "1", "0"))
    a_study(owner, uid="3", on=date(2025, 12, 1))  # nothing was found in it

    assert before(series) == "SAME"


@pytest.mark.parametrize(
    ("fields", "is_same"),
    [
        ({}, True),
        ({"patient_name": "DOE^JANE^ANNE"}, True),
        ({"patient_birth_date": None}, True),
        ({"patient_birth_date": None, "patient_name": "doe^jane=도^제인"}, True),
        ({"patient_birth_date": None, "patient_name": "ROE^RICHARD"}, False),
        ({"patient_birth_date": date(1990, 1, 1)}, False),
        ({"patient_id": "4712"}, False),
        ({"on": NOW}, False),
        ({"on": None}, False),
        ({"on": date(2026, 2, 1)}, False),
    ],
)
def test_the_same_patient_is_one_with_the_same_id_and_nothing_against_it(series, owner, fields, is_same):
    a_mask(series, a_study(owner, uid="1", **{"on": THEN, **fields}), job="THEN")

    assert before(series) == ("THEN" if is_same else None)


@pytest.mark.parametrize("unknown", [{"patient_id": ""}, {"patient_id": "  "}, {"study_date": None}])
def test_a_study_of_nobody_or_of_no_day_has_no_earlier_one(series, owner, unknown):
    a_mask(series, a_study(owner, uid="1", on=THEN), job="THEN")
    Study.objects.filter(pk=series.study_id).update(**unknown)
    series.study.refresh_from_db()

    assert before(series) is None


def test_what_the_viewer_may_not_see_is_not_told(series, owner, stranger):
    theirs = a_study(stranger, uid="1", on=THEN)
    a_mask(series, theirs, job="THEIRS")
    assert before(series) is None

    group = Group.objects.create(name="ward")
    group.user_set.add(owner)
    services.share(study=theirs, group=group)

    assert before(series) == "THEIRS"


def test_the_change_is_in_the_report_the_row_and_what_is_shown(series, owner, tmp_path, data_dir):
    a_mask(series, a_study(owner, uid="1", on=THEN), job="THEN", model=ModelRef("older", "0.9", "0"), whole=1.0)

    files = proven(series, labels_for(series), tmp_path)
    mask = services.store_mask(job_id="JOB", proven=files)

    told = json.loads((data_dir / files.folder / "report.json").read_text())["change"]
    assert (told["since"], told["until"], told["earlier_job"]) == ("2025-11-01", "2026-01-02", "THEN")
    assert told["regions"]["WT"]["ml"] == pytest.approx(files.volumes_ml["WT"] - 1.0, abs=2e-3)
    assert told["regions"]["TC"]["percent"] is None
    assert "older 0.9" in told["note"]
    assert mask.change == told


def test_a_damaged_earlier_report_leaves_its_model_unknown(series, owner):
    mask = a_mask(series, a_study(owner, uid="1", on=THEN), job="THEN")
    storage.path_of(mask.report_path).write_text("{")

    found = earlier_mask(study=series.study, viewer=owner, model=MODEL)

    assert (found.job_id, found.model) == ("THEN", None)
