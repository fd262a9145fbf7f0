"""Right or left of the head's own middle, wherever the scanner's zero was."""

from __future__ import annotations

import numpy as np
import pytest

from inference.contract import Region, Sequence, Volume
from inference.export.sides import Side, midplane, sides
from tests.inference import heads


def turned(degrees: float) -> np.ndarray:
    """A head that looks to one side."""
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


@pytest.mark.parametrize("degrees", [0.0, 12.0, -12.0])
@pytest.mark.parametrize("shift_mm", [0.0, 60.0])
def test_a_ball_on_the_right_is_on_the_right_however_the_head_lies(degrees, shift_mm):
    grid = heads.grid(axes=turned(degrees))
    scan = heads.scan(Sequence.T1, grid, noise=4.0)
    labels = heads.ball(grid, 8.0).astype(np.uint8) * 2
    moved = scan.affine.copy()
    moved[0, 3] -= shift_mm

    assert sides(labels, Volume(scan.voxels, moved)) == {Region.WT: Side.RIGHT}
    assert sides(labels[::-1], Volume(scan.voxels[::-1], moved)) == {Region.WT: Side.LEFT}


def test_a_region_across_the_middle_has_no_side():
    grid = heads.grid()
    labels = np.zeros(grid.shape, np.uint8)
    labels[24:36, 30:40, 25:30] = 2

    assert sides(labels, heads.scan(Sequence.T1, grid)) == {}


def test_noise_and_nothing_have_no_middle():
    grid = heads.grid()
    noise = np.random.default_rng(1).integers(0, 100, grid.shape).astype(np.int16)

    assert midplane(Volume(np.zeros(grid.shape, np.int16), grid.affine)) is None
    assert midplane(Volume(noise[:20], grid.affine)) is None
