"""A worker's mask, believed in nothing, becomes files that may be offered."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from pydicom import dcmread

from inference.contract import ModelRef, PackedVolume, Sequence
from inference.dicom import load_series
from inference.export.seg import read_back
from inference.volume import from_ras, pack_mask, read_nifti
from server.imaging import results, selectors, services, storage, tus
from server.imaging.errors import ResultInvalid
from server.imaging.models import Series, Upload
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db

MODEL = ModelRef(name="segresnet", version="1.0.0", sha256="cd" * 32)
KINDS = {
    "mask.dcm": "seg",
    "report.dcm": "sr",
    **{f"key-{number}.dcm": "key" for number in (1, 2, 3)},
    "summary.dcm": "pdf",
}
METRICS = {"stage_seconds": {"inference": 1.25, "unknown": 3.0}, "warnings": ["T1CE is thick"]}


@pytest.fixture
def dicom(owner, tmp_path) -> Series:
    """A stored DICOM series."""
    return services.ingest_uploaded(owner=owner, files=deliveries.dicom_files(tmp_path / "in")).series[0]


@pytest.fixture
def nifti(owner) -> Series:
    """A stored NIfTI series."""
    return services.ingest_uploaded(owner=owner, files=[deliveries.nifti("t1.nii")]).series[0]


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def labels_for(series: Series, highest: int = 3) -> np.ndarray:
    """A mask (X, Y, Z) on the worker's RAS+ grid of the series."""
    shape = selectors.grid_of(series).shape
    return np.random.default_rng(5).integers(0, highest + 1, shape).astype(np.uint8)


def received(series: Series, labels: np.ndarray, tmp_path) -> tuple[Upload, PackedVolume]:
    """The mask as a worker has uploaded it."""
    file = tmp_path / "mask"
    packed = pack_mask(labels, file, affine=selectors.grid_of(series).affine)
    upload = tus.create(length=packed.size, max_bytes=1 << 20, job_id="JOB", fence=1, sha256=packed.sha256)
    return tus.append(upload, offset=0, chunk=file.read_bytes()), packed


def proven(series: Series, labels: np.ndarray, tmp_path, **overrides) -> results.ProvenFiles:
    upload, packed = received(series, labels, tmp_path)
    wanted = {
        "upload": upload,
        "packed": packed,
        "job_id": "JOB",
        "reference": series,
        "inputs": [series, series, series, series],
        "model": MODEL,
        "metrics": METRICS,
    }
    return results.prove(**{**wanted, **overrides})


def test_a_mask_of_a_dicom_series_is_offered_in_three_files_that_say_the_same(dicom, tmp_path, data_dir):
    labels = labels_for(dicom)

    files = proven(dicom, labels, tmp_path)

    folder, grid = data_dir / files.folder, selectors.stored_grid_of(dicom)
    mask = read_nifti(folder / "mask.nii.gz")
    assert mask.grid.is_close_to(grid)
    assert np.array_equal(mask.voxels, from_ras(labels, like=grid))
    assert files.has_seg
    assert np.array_equal(read_back(folder / "mask.dcm", grid), mask.voxels)
    assert files.volumes_ml["WT"] == pytest.approx((labels > 0).sum() * 0.012, abs=1e-3)


def test_the_mask_lies_on_the_voxels_of_the_original_files(dicom, tmp_path, data_dir):
    files = proven(dicom, labels_for(dicom), tmp_path)

    source, _ = load_series([data_dir / dicom.folder / "originals"])

    assert source.grid.is_close_to(read_nifti(data_dir / files.folder / "mask.nii.gz").grid)


def test_the_report_names_model_inputs_and_times_and_no_patient(dicom, tmp_path, data_dir):
    files = proven(dicom, labels_for(dicom), tmp_path)

    text = (data_dir / files.folder / "report.json").read_text()
    found = json.loads(text)

    assert found["model"] == {"name": "segresnet", "version": "1.0.0", "sha256": "cd" * 32}
    assert found["inputs"]["T1CE"] == dicom.artifact.sha256
    assert found["stage_seconds"] == {"inference": 1.25}
    assert found["warnings"] == ["T1CE is thick"]
    assert found["seg"] == {"written": True, "reason": None}
    assert set(found["volumes_ml"]) == {"WT", "TC", "ET"}
    assert "DOE" not in text
    assert "4711" not in text


def test_every_file_beside_the_mask_is_listed_with_its_digest_and_its_identifiers(dicom, tmp_path, data_dir):
    files = proven(dicom, labels_for(dicom), tmp_path)

    folder = data_dir / files.folder
    listed = {one.name: one for one in files.objects}
    assert {name: one.kind for name, one in listed.items()} == KINDS
    for name, one in listed.items():
        header = dcmread(folder / name)
        assert (one.sop_class_uid, one.sop_instance_uid) == (header.SOPClassUID, header.SOPInstanceUID)
        assert one.series_instance_uid == header.SeriesInstanceUID
        assert (one.sha256, one.size) == (digest(folder / name), (folder / name).stat().st_size)
    assert files.pdf_sha256 == digest(folder / "summary.pdf")
    assert listed["mask.dcm"].sha256 == files.seg_sha256


def test_the_report_says_how_large_where_and_how_the_scans_were_brought_together(dicom, tmp_path, data_dir):
    part = {"sequence": "T1", "method": "rigid", "rotation_degrees": 2.0, "shift_mm": 4.0, "similarity": 0.9}
    metrics = {**METRICS, "alignment": [part], "brain": {"method": "network", "volume_ml": 1500.0}}

    files = proven(dicom, labels_for(dicom), tmp_path, metrics=metrics)

    found = json.loads((data_dir / files.folder / "report.json").read_text())
    assert found["measurements"]["WT"]["largest_diameter_mm"] > 10
    assert found["alignment"] == [part]
    assert found["brain"] == {"method": "network", "volume_ml": 1500.0}
    assert found["sequences"] == {"used": ["T1", "T1CE", "T2", "FLAIR"], "missing": []}
    assert found["documents"] == {"written": sorted([*KINDS, "summary.pdf"]), "left_out": {}}
    assert set(found["sides"]) == {"WT", "TC", "ET"}
    assert found["change"] is None


def test_fewer_sequences_are_named_as_missing(dicom, tmp_path, data_dir):
    files = proven(dicom, labels_for(dicom), tmp_path, inputs=[dicom] * 2, sequences=(Sequence.T1CE, Sequence.FLAIR))

    found = json.loads((data_dir / files.folder / "report.json").read_text())
    assert found["sequences"] == {"used": ["T1CE", "FLAIR"], "missing": ["T1", "T2"]}


def test_a_damaged_reference_costs_the_pictures_and_not_the_mask(dicom, tmp_path, data_dir):
    path = data_dir / dicom.artifact.path
    path.write_bytes(path.read_bytes()[:-1])

    files = proven(dicom, labels_for(dicom), tmp_path)

    assert {one.kind for one in files.objects} == {"seg", "sr", "pdf"}


def test_a_mask_of_a_nifti_series_has_no_seg_and_the_report_says_so(nifti, tmp_path, data_dir):
    files = proven(nifti, labels_for(nifti), tmp_path)

    assert not files.has_seg
    assert "NIfTI" in json.loads((data_dir / files.folder / "report.json").read_text())["seg"]["reason"]
    assert not (data_dir / files.folder / "mask.dcm").exists()
    assert files.objects == ()
    assert (data_dir / files.folder / "summary.pdf").exists()


def test_an_empty_mask_is_a_result_without_seg(dicom, tmp_path, data_dir):
    files = proven(dicom, labels_for(dicom, highest=0), tmp_path)

    found = json.loads((data_dir / files.folder / "report.json").read_text())
    assert not files.has_seg
    assert files.volumes_ml == {"WT": 0.0, "TC": 0.0, "ET": 0.0}
    assert found["seg"]["written"] is False
    assert any("No tumour" in line for line in found["warnings"])


def test_a_label_that_stands_for_nothing_is_refused(dicom, tmp_path, data_dir):
    with pytest.raises(ResultInvalid, match="label 4"):
        proven(dicom, labels_for(dicom, highest=4), tmp_path)
    assert not (data_dir / "masks").exists()


def test_a_mask_on_another_grid_is_refused(dicom, nifti, tmp_path):
    upload, packed = received(nifti, labels_for(nifti), tmp_path)

    with pytest.raises(ResultInvalid, match="grid"):
        proven(dicom, labels_for(dicom), tmp_path, upload=upload, packed=packed)


@pytest.mark.parametrize(
    "lie",
    [{"size": 5}, {"sha256": "00" * 32}, {"dtype": "float32"}, {"encoding": "gzip"}, {"encoding": "zip"}],
    ids=["size", "digest", "dtype", "encoding", "unknown"],
)
def test_a_description_that_is_not_true_is_refused(dicom, tmp_path, lie):
    upload, packed = received(dicom, labels_for(dicom), tmp_path)

    with pytest.raises(ResultInvalid):
        proven(dicom, labels_for(dicom), tmp_path, upload=upload, packed=dataclasses.replace(packed, **lie))


def test_a_mask_that_claims_to_be_huge_is_refused_before_it_is_believed(dicom, tmp_path):
    upload, packed = received(dicom, labels_for(dicom), tmp_path)
    huge = dataclasses.replace(packed, shape=(60000, 60000, 60000))

    with pytest.raises(ResultInvalid):
        proven(dicom, labels_for(dicom), tmp_path, upload=upload, packed=huge)


def test_a_proven_mask_gets_its_row_in_the_callers_transaction(dicom, tmp_path):
    files = proven(dicom, labels_for(dicom), tmp_path)

    mask = services.store_mask(job_id="JOB", proven=files)

    assert selectors.mask_of("JOB") == mask
    assert storage.path_of(mask.nii_path).stat().st_size == mask.size
    assert storage.path_of(mask.seg_path).is_file()
    assert storage.path_of(mask.report_path).is_file()
    assert selectors.mask_of("ANOTHER") is None


def test_files_that_no_job_wants_any_more_are_taken_away(dicom, tmp_path, data_dir):
    files = proven(dicom, labels_for(dicom), tmp_path)

    results.discard(files)

    assert list((data_dir / "masks").iterdir()) == []
