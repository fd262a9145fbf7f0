"""DICOM SEG: says the same as the mask, refers to the source images, and is valid."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from inference.contract import ModelRef, Volume
from inference.dicom import load_volume, read_folder
from inference.export.seg import SegRefused, prove_seg, read_back, write_seg
from tests.inference.dicom import images
from tests.real_data import dicom_dir
from tests.tools import require_tool

MODEL = ModelRef(name="segresnet", version="1.0.0", sha256="ab" * 32)


def mask_on(volume: Volume, *labels: int) -> Volume:
    """A block of the labels in the middle, with an empty slice in between."""
    mask = np.zeros(volume.voxels.shape, dtype=np.uint8)
    middle = tuple(slice(length // 4, length - length // 4) for length in mask.shape)
    mask[middle] = np.random.default_rng(1).choice(labels, mask[middle].shape)
    mask[:, :, mask.shape[2] // 2] = 0
    return Volume(voxels=mask, affine=volume.affine)


def written(folder: Path, out: Path, *labels: int) -> tuple[Path, Volume]:
    series = read_folder(folder)[0]
    mask = mask_on(load_volume(series), *(labels or (0, 1, 2, 3)))
    write_seg(mask, [one.path for one in series.instances], out / "mask.dcm", model=MODEL, subject="job-1")
    return out / "mask.dcm", mask


def errors_in(path: Path) -> list[str]:
    program = require_tool("dciodvfy", package="dicom3tools")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("acquisition", ["2D", "3D"])
@pytest.mark.parametrize("orientation", [images.AXIAL, images.SAGITTAL], ids=["axial", "sagittal"])
def test_a_seg_says_the_same_as_the_mask(tmp_path, acquisition, orientation):
    folder = images.series(tmp_path / "in", MRAcquisitionType=acquisition, ImageOrientationPatient=[*orientation])

    path, mask = written(folder, tmp_path)

    assert np.array_equal(read_back(path, mask.grid), mask.voxels)


def test_a_label_that_does_not_occur_has_a_segment_and_no_frames(tmp_path):
    path, mask = written(images.series(tmp_path / "in"), tmp_path, 0, 2)

    found = dcmread(path)

    assert [int(segment.SegmentNumber) for segment in found.SegmentSequence] == [1, 2, 3]
    assert np.array_equal(read_back(path, mask.grid), mask.voxels)


def test_patient_study_and_place_come_from_the_source_images(tmp_path):
    path, _ = written(images.series(tmp_path / "in", PatientName="DOE^JANE"), tmp_path)

    found = dcmread(path)

    assert (str(found.PatientName), found.PatientID) == ("DOE^JANE", "4711")
    assert (found.StudyInstanceUID, found.FrameOfReferenceUID) == ("1.2.1", "1.2.9")
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.1.1"
    assert len(found.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6
    assert found.SegmentationType == "BINARY"
    assert all("RecommendedDisplayCIELabValue" in segment for segment in found.SegmentSequence)
    assert found.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"
    assert found.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "segresnet"
    assert found.SegmentSequence[0].TrackingUID


def test_the_same_result_is_the_same_object_and_another_job_is_another(tmp_path):
    folder = images.series(tmp_path / "in")
    first = dcmread(written(folder, tmp_path)[0]).SOPInstanceUID
    again = dcmread(written(folder, tmp_path)[0]).SOPInstanceUID
    series = read_folder(folder)[0]
    mask = mask_on(load_volume(series), 0, 1, 2, 3)

    write_seg(mask, [one.path for one in series.instances], tmp_path / "2.dcm", model=MODEL, subject="job-2")

    assert first == again != dcmread(tmp_path / "2.dcm").SOPInstanceUID


@pytest.mark.parametrize(
    "header",
    [
        {"PatientSex": "0000"},
        {"SliceThickness": None},
        {"FrameOfReferenceUID": None},
        {"StudyDate": None, "StudyTime": None, "StudyID": None},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "MÜLLER^JOSÉ"},
        {"SpecificCharacterSet": "ISO 2022 IR 149", "PatientName": "Hong^Gildong=홍^길동"},
        {"StudyDescription": "x" * 64},
    ],
    ids=["sex", "thickness", "frame", "study", "latin", "korean", "long"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_headers_that_bend_the_standard_do_not_keep_a_seg_from_being_written(tmp_path, header):
    path, mask = written(images.series(tmp_path / "in", **header), tmp_path)

    prove_seg(path, mask)
    if "PatientName" in header:
        assert str(dcmread(path).PatientName) == header["PatientName"]
    assert errors_in(path) == []


def test_an_empty_mask_has_no_seg(tmp_path):
    with pytest.raises(SegRefused, match="empty"):
        written(images.series(tmp_path / "in"), tmp_path, 0)


def test_a_mask_from_elsewhere_is_refused(tmp_path):
    series = read_folder(images.series(tmp_path / "in"))[0]
    mask = mask_on(load_volume(series), 1)
    moved = mask.affine.copy()
    moved[0, 3] += 1.0

    with pytest.raises(SegRefused, match="grid"):
        write_seg(
            Volume(mask.voxels, moved),
            [one.path for one in series.instances],
            tmp_path / "x.dcm",
            model=MODEL,
            subject="job-1",
        )


def test_one_flipped_voxel_is_noticed(tmp_path):
    path, mask = written(images.series(tmp_path / "in"), tmp_path)
    other = mask.voxels.copy()
    other[0, 0, 0] = 3

    with pytest.raises(SegRefused, match="not say the same"):
        prove_seg(path, Volume(other, mask.affine))


def test_dciodvfy_finds_no_error(tmp_path):
    path, _ = written(images.series(tmp_path / "in"), tmp_path)

    assert errors_in(path) == []


@pytest.mark.real_data
@pytest.mark.parametrize(
    "case",
    [
        "tcga_fg_6692/t1c",
        "brainix_philips_tumour/BRAINIX/DICOM/FLAIR",
        "dicom2nifti_vendors/ge/anatomical/001",
        "dicom2nifti_vendors/hitachi/anatomical/001",
        "dicom2nifti_vendors/generic/anatomical/002_non_isotropic",
    ],
)
def test_a_seg_on_real_headers_is_valid_and_says_the_same(tmp_path, case):
    path, mask = written(dicom_dir(case), tmp_path)

    prove_seg(path, mask)
    assert errors_in(path) == []
