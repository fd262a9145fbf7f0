"""Figures of accuracy, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from inference.contract import Grid, Label, Region
from inference.scores import dice, hd95_mm, region_dice, scores

GRID = Grid(shape=(20, 20, 20), affine=np.diag([1.0, 2.0, 3.0, 1.0]))


def box(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[start:stop, 5:9, 5:9] = True
    return mask


def test_half_in_common_is_a_dice_of_a_half():
    assert dice(box(0, 8), box(4, 12)) == 0.5
    assert dice(box(0, 0), box(0, 0)) == 1.0
    assert dice(box(0, 4), box(0, 0)) == 0.0


def test_a_box_moved_by_two_voxels_is_two_millimetres_away():
    assert hd95_mm(box(4, 10), box(6, 12), GRID.spacing_mm) == pytest.approx(2.0)


def test_there_is_no_distance_to_nothing():
    assert hd95_mm(box(0, 4), box(0, 0), GRID.spacing_mm) is None
    assert hd95_mm(box(0, 0), box(0, 0), GRID.spacing_mm) == 0.0


def test_the_distance_is_that_of_every_surface_voxel_to_every_other():
    """Two balls, all pairs of surface voxels measured one by one."""
    points = np.stack(np.indices((20, 20, 20)), axis=-1)
    chance = np.random.default_rng(8)
    one, other = (np.linalg.norm(points - chance.uniform(7, 13, 3), axis=-1) < size for size in (5.0, 6.5))

    first, second = (np.argwhere(surface_of(mask)) * GRID.spacing_mm for mask in (one, other))
    pairs = np.linalg.norm(first[:, None] - second[None], axis=-1)
    expected = max(np.percentile(pairs.min(axis=1), 95), np.percentile(pairs.min(axis=0), 95))

    assert hd95_mm(one, other, GRID.spacing_mm) == pytest.approx(expected)


def surface_of(mask: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour, of six, outside; the masks of these tests do not reach the edge."""
    inner = mask.copy()
    for axis in range(3):
        inner &= np.roll(mask, 1, axis=axis) & np.roll(mask, -1, axis=axis)
    return mask & ~inner


def test_each_region_is_scored_beside_its_truth():
    found = np.where(box(0, 4), Label.ENHANCING_TUMOUR, 0).astype(np.uint8)
    truth = np.where(box(0, 8), Label.OEDEMA, 0).astype(np.uint8)

    whole, core, _ = scores(found, truth, GRID)

    assert (whole.region, core.region) == (Region.WT, Region.TC)
    assert (whole.found_ml, whole.true_ml) == (pytest.approx(0.384), pytest.approx(0.768))
    assert (whole.error_ml, whole.error_percent) == (pytest.approx(-0.384), pytest.approx(-50.0))
    assert (core.dice, core.hd95_mm, core.error_percent) == (0.0, None, None)


def test_without_a_truth_only_the_volume_is_told():
    whole, *_ = scores(np.where(box(0, 4), 2, 0).astype(np.uint8), None, GRID)

    assert (whole.found_ml, whole.dice, whole.error_ml) == (pytest.approx(0.384), None, None)


def test_regions_are_made_of_their_labels():
    one = np.array([0, 1, 2, 3], np.uint8)

    assert region_dice(one, one) == {"WT": 1.0, "TC": 1.0, "ET": 1.0}
    assert region_dice(one, np.array([0, 2, 2, 2], np.uint8)) == {"WT": 1.0, "TC": 0.0, "ET": 0.0}
