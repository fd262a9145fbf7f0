"""A mask to the model's space and exactly back, on grids as scanners make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.align import resample
from inference.contract import Grid, Volume
from inference.likeness import turned
from inference.postprocess import finish
from inference.preprocess import model_grid
from inference.volume import from_ras, ras_grid, read_nifti, to_ras
from tests.inference import heads
from tests.inference.bright import bright_entry
from tests.real_data import case_dir

ENTRY = bright_entry()
WORDS = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1), "LPI": (-1, -1, -1)}
REAL = ("tcga_fg_6692/raw", "tcga_fg_6692/sri24", "brats_met_00110", "open_ms_07")


def there_and_back(mask: np.ndarray, grid: Grid, *, spacing_mm: float) -> np.ndarray:
    """The mask (X, Y, Z) of `grid` on the model's grid, and from there by the pipeline's own way home."""
    stored = to_ras(Volume(mask.astype(np.uint8), grid.affine))
    target = model_grid([stored.grid], stored.grid, spacing_mm=spacing_mm)
    likely = resample(Volume(stored.voxels.astype(np.float32), stored.affine), target)
    found = finish(np.stack([likely] * 3), target, grid=ras_grid(grid), entry=ENTRY)
    return from_ras(found, grid) > 0


def ball(grid: Grid, *, radius_mm: float = 22.0) -> np.ndarray:
    """A ball in the middle of the grid."""
    middle = grid.affine @ [*((np.asarray(grid.shape) - 1) / 2), 1]
    return np.linalg.norm(heads.points_mm(grid) - middle[:3], axis=-1) < radius_mm


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    word=st.sampled_from(sorted(WORDS)),
    degrees=st.tuples(*[st.floats(-25, 25)] * 3),
    in_plane=st.floats(0.7, 1.3),
    slice_mm=st.floats(0.9, 6.0),
    across=st.integers(0, 2),
)
def test_a_mask_comes_back_from_the_models_space_as_it_went(word, degrees, in_plane, slice_mm, across):
    spacing = np.full(3, in_plane)
    spacing[across] = slice_mm
    shape = tuple(int(length) for length in np.ceil(70.0 / spacing))
    axes = turned(np.asarray(degrees), about=np.zeros(3))[:3, :3] * np.asarray(WORDS[word])
    grid = heads.grid(shape, spacing_mm=tuple(spacing), axes=axes)
    mask = ball(grid)

    back = there_and_back(mask, grid, spacing_mm=1.0)

    assert heads.dice(back, mask) >= 0.97


@pytest.mark.real_data
@pytest.mark.parametrize("case", REAL)
def test_a_mask_on_a_real_grid_comes_back_as_it_went(case):
    folder: Path = case_dir(case)
    grid = read_nifti(folder / "t1ce.nii.gz").grid
    mask = ball(grid)

    back = there_and_back(mask, grid, spacing_mm=1.0)

    assert back.shape == grid.shape
    assert heads.dice(back, mask) >= 0.97


@pytest.mark.real_data
def test_a_real_tumour_comes_back_as_it_went():
    truth = read_nifti(case_dir("tcga_fg_6692/sri24") / "seg.nii.gz")

    back = there_and_back(truth.voxels > 0, truth.grid, spacing_mm=1.0)

    assert heads.dice(back, truth.voxels > 0) >= 0.97
