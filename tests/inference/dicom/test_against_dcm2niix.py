"""Every real series beside dcm2niix: the same voxels at the same places, or a reason that docs/reading.md names.

Our stored layout is dcm2niix's: what is compared is compared as it is, with no flip and no change of axes.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inference.contract import Volume
from inference.dicom import Sorted, load_volume, sort_files
from tests.real_data import SHARED, dicom_dir

pytestmark = pytest.mark.real_data

ROOT = SHARED / "data" / "dicom"
DOCS = Path(__file__).resolve().parents[3] / "docs" / "reading.md"
NEAR_MM = 0.02
"""dcm2niix computes in float32."""


@dataclass(frozen=True)
class Instead:
    """What is answered where dcm2niix writes a file, and why it should not have."""

    codes: frozenset[str]
    why: str


INSTEAD = {
    "dicom2nifti_vendors/failing/slicecount/001": Instead(
        frozenset({"too_few_slices"}), "two slices are no volume; dcm2niix writes them"
    ),
    "dicom2nifti_vendors/failing/sliceorientation/001": Instead(
        frozenset({"too_few_slices"}), "two orientations of two slices; dcm2niix writes two files and only warns"
    ),
    "dicom2nifti_vendors/ge/anatomical/001_single_slice": Instead(
        frozenset({"too_few_slices"}), "one slice is no volume; dcm2niix writes it"
    ),
    "siemens_xa30_enhanced_t1/11_DWI_dir80_PA": Instead(frozenset({"derived_map"}), "an ADC map"),
    "siemens_xa30_enhanced_t1/14_DWI_dir80_PA": Instead(frozenset({"colour"}), "a map of directions in colours"),
}


def folders() -> list[str]:
    """Every folder with files in it, as a path below the root."""
    found = {path.parent for path in ROOT.rglob("*") if path.is_file() and path.suffix.lower() not in {".md", ".txt"}}
    return sorted(folder.relative_to(ROOT).as_posix() for folder in found if folder != ROOT)


def by_dcm2niix(folder: Path, out: Path) -> list[Volume]:
    """Its volumes, one of four dimensions taken apart; scaling as its header says."""
    try:
        import dcm2niix
    except ImportError:
        if os.environ.get("REQUIRE_TOOLS"):
            pytest.fail("dcm2niix is not installed: pip install dcm2niix")
        pytest.skip("dcm2niix is not installed: pip install dcm2niix")
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "%s_%e_%t", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    volumes = []
    for path in sorted(out.glob("*.nii")):
        image = nib.load(path)
        voxels = np.asanyarray(image.dataobj)
        if voxels.dtype.kind == "V":  # colours
            continue
        for place in range(voxels.shape[3] if voxels.ndim == 4 else 1):
            volumes.append(Volume(voxels=voxels[..., place] if voxels.ndim == 4 else voxels, affine=image.affine))
    return volumes


def read(folder: Path) -> Sorted:
    return sort_files({path: path.name for path in sorted(folder.rglob("*")) if path.is_file()})


def farthest_corner(one: Volume, other: Volume) -> float:
    """How far apart, in mm, the two put the corner on which they differ most."""
    corners = np.array([[*corner, 1] for corner in product(*((0, edge - 1) for edge in one.voxels.shape))]).T
    return float(np.linalg.norm((one.affine - other.affine) @ corners, axis=0).max())


def is_same(ours: Volume, theirs: Volume) -> bool:
    if ours.voxels.shape != theirs.voxels.shape or farthest_corner(ours, theirs) > NEAR_MM:
        return False
    if ours.voxels.dtype.kind == "f":  # a slope and an intercept that dcm2niix keeps as float32
        return np.allclose(ours.voxels, theirs.voxels, rtol=1e-5, atol=1e-5 * float(np.abs(theirs.voxels).max()))
    return np.array_equal(ours.voxels, theirs.voxels)


@pytest.mark.parametrize("case", folders() or ["no real data"])
def test_a_real_series_is_read_as_dcm2niix_reads_it(tmp_path, case):
    theirs = by_dcm2niix(dicom_dir(case), tmp_path)
    found = read(dicom_dir(case))

    codes = {entry.code for entry in (*found.refused, *found.aside)}
    if case in INSTEAD:
        assert (len(found.series), codes) == (0, INSTEAD[case].codes)
        return
    assert not codes
    ours = [load_volume(series) for series in found.series]
    unmatched = list(theirs)
    for volume in ours:
        place = next((place for place, one in enumerate(unmatched) if is_same(volume, one)), None)
        assert place is not None, [(volume.voxels.shape, one.voxels.shape) for one in unmatched]
        unmatched.pop(place)
    assert not unmatched
