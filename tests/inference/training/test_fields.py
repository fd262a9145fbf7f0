"""Random fields are what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from inference.contract import Grid
from inference.training.fields import smooth_noise, tubes, world_points

GRID = Grid((24, 20, 16), np.diag([2.0, 2.0, 3.0, 1.0]))


def test_smooth_noise_has_mean_0_and_deviation_1():
    noise = smooth_noise(np.random.default_rng(0), GRID, scale_mm=10.0)

    assert noise.shape == GRID.shape
    assert noise.dtype == np.float32
    assert float(noise.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(noise.std()) == pytest.approx(1.0, abs=1e-3)


def test_a_larger_scale_is_smoother():
    def roughness(scale_mm: float) -> float:
        return float(np.abs(np.diff(smooth_noise(np.random.default_rng(0), GRID, scale_mm=scale_mm), axis=0)).mean())

    assert roughness(24.0) < 0.6 * roughness(6.0)


def test_tubes_fill_a_small_part_of_space():
    found = tubes(np.random.default_rng(0), GRID, scale_mm=12.0, radius=0.2)

    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert 0.0 < float((found > 0.5).mean()) < 0.2


def test_world_points_are_the_affine_of_the_voxels():
    affine = np.array([[0.0, -2, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])

    points = world_points(Grid((2, 3, 4), affine))

    assert np.allclose(points[:, 1, 2, 3], (affine @ [1, 2, 3, 1])[:3])
