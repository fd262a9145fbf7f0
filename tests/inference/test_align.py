"""Resampling from one grid to another, by positions in space."""

from __future__ import annotations

import numpy as np
import pytest

from inference.align import common_share, covered_share, resample, sub_grid
from inference.contract import Grid, Volume
from tests.inference import heads

TILT = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
LPS = np.diag([-1.0, -1.0, 1.0])
SAGITTAL = np.eye(3)[:, [1, 2, 0]]


def plane(on: Grid) -> Volume:
    """A scan whose value is a linear function of where it is: interpolation must give it back anywhere."""
    at = heads.points_mm(on)
    return Volume(voxels=(500 + at @ np.array([1.0, -2.0, 0.5])).astype(np.float32), affine=on.affine)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (heads.grid((40, 50, 30)), heads.grid((30, 30, 20), spacing_mm=(1.0, 1.3, 1.7))),
        (heads.grid((80, 90, 60), spacing_mm=(1.0, 1.0, 1.0)), heads.grid((16, 20, 12), spacing_mm=(3.0, 3.0, 3.0))),
        (heads.grid((40, 50, 30), axes=LPS), heads.grid((30, 30, 20))),
        (heads.grid((40, 50, 30), axes=SAGITTAL), heads.grid((20, 16, 24))),
        (heads.grid((40, 50, 30), axes=TILT), heads.grid((20, 20, 20))),
        (heads.grid((50, 50, 12), spacing_mm=(1.0, 1.0, 6.0)), heads.grid((16, 20, 24))),
    ],
    ids=["finer", "coarser", "flipped", "turned", "tilted", "thick slices"],
)
def test_every_point_keeps_its_value(source, target):
    found = resample(plane(source), target)

    expected = plane(target).voxels
    inside = resample(Volume(np.ones(source.shape, np.float32), source.affine), target) > 0.999
    inner = inside.copy()
    for axis in range(3):
        inner &= np.roll(inside, 2, axis) & np.roll(inside, -2, axis)
    assert inner.mean() > 0.15
    np.testing.assert_allclose(found[inner], expected[inner], atol=1.0)
    assert np.abs((found - expected)[inner].mean()) < 0.02


def test_the_same_grid_changes_nothing():
    volume = heads.scan("FLAIR", heads.grid(), noise=20.0)

    found = resample(volume, volume.grid)

    np.testing.assert_array_equal(found, volume.voxels.astype(np.float32))


def test_halving_the_resolution_averages_eight_voxels():
    """Picking every second voxel instead keeps the noise of one; training and work would then see different noise."""
    fine = heads.scan("T1", heads.grid((16, 20, 12)), noise=50.0)
    affine = fine.affine.copy()
    affine[:3, :3] *= 2
    affine[:3, 3] = fine.affine[:3, :3] @ np.full(3, 0.5) + fine.affine[:3, 3]

    found = resample(fine, Grid(shape=(8, 10, 6), affine=affine))

    blocks = fine.voxels.reshape(8, 2, 10, 2, 6, 2).mean(axis=(1, 3, 5))
    noise = np.std(found - blocks)
    assert noise < 0.5 * np.std(fine.voxels[::2, ::2, ::2] - blocks)


def test_outside_of_the_scan_is_zero():
    volume = Volume(voxels=np.full((10, 10, 10), 7, np.int16), affine=np.eye(4))
    far = np.eye(4)
    far[:3, 3] = 100.0

    found = resample(volume, Grid(shape=(5, 5, 5), affine=far))

    assert found.shape == (5, 5, 5)
    assert not found.any()


def test_a_scan_reaches_to_the_outer_face_of_its_last_voxel():
    volume = Volume(voxels=np.full((10, 10, 10), 7, np.int16), affine=np.eye(4))
    shifted = np.eye(4)
    shifted[:3, 3] = -0.5

    found = resample(volume, Grid(shape=(11, 11, 11), affine=shifted))

    assert (found == 7).all()


def test_shares_of_boxes():
    whole = heads.grid((40, 40, 40))
    half = sub_grid(whole, np.array([0, 0, 0]), np.array([20, 40, 40]))
    outside = sub_grid(whole, np.array([50, 0, 0]), np.array([90, 40, 40]))

    assert covered_share(whole, half) == pytest.approx(0.5)
    assert covered_share(half, whole) == pytest.approx(1.0)
    assert common_share(whole, half) == pytest.approx(1.0)
    assert common_share(whole, outside) == 0.0
