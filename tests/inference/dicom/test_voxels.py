"""The stored layout, against arithmetic and against dcm2niix."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inference.dicom import load_volume, read_folder
from tests.inference.dicom import images
from tests.real_data import dicom_dir


def world_of(volume, index) -> np.ndarray:
    return (volume.affine @ np.array([*index, 1.0]))[:3]


def test_every_voxel_lies_where_its_header_says(tmp_path):
    box = images.voxels()
    volume = load_volume(read_folder(images.series(tmp_path))[0])

    for place, row, column in ((0, 0, 0), (5, 7, 9), (3, 2, 4)):
        step = np.array([column * images.SPACING[1], row * images.SPACING[0], place * images.BETWEEN_SLICES])
        index = (column, 7 - row, place)
        assert volume.voxels[index] == box[place, row, column]
        assert np.allclose(world_of(volume, index), (images.ORIGIN + step) * [-1, -1, 1])


def test_a_plain_axial_series_is_stored_as_las(tmp_path):
    volume = load_volume(read_folder(images.series(tmp_path))[0])

    assert nib.aff2axcodes(volume.affine) == ("L", "A", "S")
    assert volume.voxels.dtype == np.int16


def test_a_series_acquired_in_3d_is_stored_as_ras(tmp_path):
    folder = images.series(tmp_path, MRAcquisitionType="3D", ImageOrientationPatient=[*images.SAGITTAL])

    assert nib.aff2axcodes(load_volume(read_folder(folder)[0]).affine) == ("R", "A", "S")


def test_a_rescale_slope_applies(tmp_path):
    volume = load_volume(read_folder(images.series(tmp_path, RescaleSlope=2.5, RescaleIntercept=-3.0))[0])

    assert volume.voxels.dtype == np.float32
    assert volume.voxels.max() == images.voxels().max() * 2.5 - 3


def test_a_series_without_frame_of_reference_is_read(tmp_path):
    """Anonymisers drop it, and highdicom then refuses to believe in a patient coordinate system."""
    assert load_volume(read_folder(images.series(tmp_path, FrameOfReferenceUID=None))[0]).voxels.shape == (10, 8, 6)


def by_dcm2niix(folder: Path, out: Path) -> list[nib.Nifti1Image]:
    try:
        import dcm2niix
    except ImportError:
        if os.environ.get("REQUIRE_TOOLS"):
            pytest.fail("dcm2niix is not installed: pip install dcm2niix")
        pytest.skip("dcm2niix is not installed: pip install dcm2niix")
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "%s_%d_%t", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return [nib.load(path) for path in sorted(out.glob("*.nii"))]


def assert_same_as_dcm2niix(folder: Path, out: Path) -> None:
    theirs = by_dcm2niix(folder, out)[0]
    ours = load_volume(read_folder(folder)[0])

    assert ours.voxels.shape == theirs.shape
    assert np.array_equal(ours.voxels, np.asanyarray(theirs.dataobj))
    assert np.abs(ours.affine - theirs.affine).max() < 2e-4


@pytest.mark.parametrize("orientation", [images.AXIAL, images.SAGITTAL], ids=["axial", "sagittal"])
@pytest.mark.parametrize("acquisition", ["2D", "3D"])
def test_made_up_series_are_laid_out_as_dcm2niix_does(tmp_path, orientation, acquisition):
    folder = images.series(
        tmp_path / "in", ImageOrientationPatient=[*orientation], MRAcquisitionType=acquisition, Manufacturer="SIEMENS"
    )
    (tmp_path / "out").mkdir()

    assert_same_as_dcm2niix(folder, tmp_path / "out")


@pytest.mark.real_data
@pytest.mark.parametrize(
    "case",
    [
        *(f"tcga_fg_6692/{name}" for name in ("t1", "t1c", "t2", "flair")),
        *(f"brainix_philips_tumour/BRAINIX/DICOM/{name}" for name in ("T1", "T2", "FLAIR", "ROI")),
        *(f"dicom2nifti_vendors/{vendor}/anatomical/001" for vendor in ("ge", "siemens", "philips", "hitachi")),
        *(f"dicom2nifti_vendors/generic/compressed_{kind}/001" for kind in ("j2k", "jpeg", "jpegls", "rle")),
    ],
)
def test_real_series_are_laid_out_as_dcm2niix_does(tmp_path, case):
    assert_same_as_dcm2niix(dicom_dir(case), tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("tcga_fg_6692", {"T1", "T1CE", "T2", "FLAIR"}),
        ("brainix_philips_tumour/BRAINIX/DICOM", {"T1", "T2", "FLAIR", None}),
    ],
)
def test_real_studies_are_recognised(case, expected):
    from inference.dicom import recognise

    assert {recognise(series.facts.scan)[0] for series in read_folder(dicom_dir(case))} == expected


@pytest.mark.real_data
@pytest.mark.parametrize("case", ["slicecount", "sliceorientation"])
def test_truly_broken_series_are_refused(case):
    from inference.dicom import sort_files

    found = sort_files(images.named(dicom_dir(f"dicom2nifti_vendors/failing/{case}/001")))

    assert not found.series
    assert found.refused
