"""How large and where: against plain geometry, and against every pair of voxel faces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from inference.contract import Grid, Label, Region
from inference.export.measures import as_json, in_directions, measure

IDENTITY = np.eye(4)


def measured(labels: np.ndarray, affine: np.ndarray = IDENTITY) -> dict:
    return measure(labels, Grid(shape=labels.shape, affine=affine))


def block(shape: tuple[int, ...] = (30, 30, 12), label: Label = Label.ENHANCING_TUMOUR) -> np.ndarray:
    """3 by 4 by 2 voxels."""
    labels = np.zeros(shape, np.uint8)
    labels[5:8, 10:14, 4:6] = label
    return labels


def test_a_block_is_as_long_as_its_voxels():
    found = measured(block(), np.diag([2.0, 1.0, 3.0, 1.0]))[Region.ET]

    assert found.volume_ml == pytest.approx(24 * 6 / 1000)
    assert found.centre_mm == pytest.approx((12.0, 11.5, 13.5))
    assert found.slice_index == 4
    # Between the faces of opposite corners' voxels: 3 + 0 by 2 + 1 voxels, or 3 by 2 along the longer way.
    assert found.axial.length_mm == pytest.approx(np.hypot(3 * 2, 3))
    assert found.longest.length_mm == pytest.approx(np.sqrt((2 * 2) ** 2 + 3**2 + (2 * 3) ** 2))


def test_a_ball_has_its_diameter_in_every_direction():
    at = np.indices((60, 60, 30)) * np.array([1.0, 1.0, 2.0]).reshape(3, 1, 1, 1)
    distance = np.linalg.norm(at - np.array([30.0, 30.0, 30.0]).reshape(3, 1, 1, 1), axis=0)
    labels = np.where(distance < 20, Label.OEDEMA, Label.BACKGROUND).astype(np.uint8)

    found = measured(labels, np.diag([1.0, 1.0, 2.0, 1.0]))[Region.WT]

    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.02)
    assert [line.length_mm for line in (found.axial, found.across, found.longest)] == pytest.approx([40] * 3, abs=2)


def test_the_lines_of_one_slice_are_perpendicular_and_in_it():
    labels = np.zeros((40, 40, 6), np.uint8)
    rows, columns = np.indices((40, 40))
    labels[:, :, 3] = np.where(((rows - columns) / 8) ** 2 + ((rows + columns - 40) / 24) ** 2 < 1, 3, 0)

    found = measured(labels)[Region.ET]

    along, across = (np.subtract(line.end, line.start) for line in (found.axial, found.across))
    assert abs(along @ across) < 1e-6
    assert along[2] == across[2] == 0
    assert found.axial.start[2] == 3
    assert found.axial.length_mm > 2.5 * found.across.length_mm


def test_two_lesions_are_not_joined_by_a_diameter():
    labels = block()
    labels[24:26, 24:26, 4] = Label.ENHANCING_TUMOUR

    found = measured(labels)[Region.ET]

    assert found.longest.length_mm < 6
    assert found.axial.length_mm < 6
    assert found.volume_ml == pytest.approx(28 / 1000)


@pytest.mark.parametrize("seed", range(4))
def test_no_pair_of_faces_is_farther_apart(seed):
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turned * np.sign(np.linalg.det(turned)) * rng.uniform(0.6, 4, 3)
    field = ndimage.gaussian_filter(rng.normal(size=(18, 20, 10)), 2)
    labels = np.where(field > np.quantile(field, 0.92), 3, 0).astype(np.uint8)

    found = measured(labels, affine)[Region.ET]

    in_plane = np.zeros((3, 3, 3))
    in_plane[:, :, 1] = 1
    assert found.longest.length_mm == pytest.approx(farthest(labels, affine, np.ones((3, 3, 3)), axes=3))
    assert found.axial.length_mm == pytest.approx(farthest(labels, affine, in_plane, axes=2))


def farthest(labels: np.ndarray, affine: np.ndarray, structure: np.ndarray, *, axes: int) -> float:
    """By trying every pair of faces of every piece."""
    pieces, count = ndimage.label(labels, structure)
    steps = [way * 0.5 * np.eye(3)[axis] for axis in range(axes) for way in (-1, 1)]
    lengths = [0.0]
    for piece in range(1, count + 1):
        centres = np.argwhere(pieces == piece)
        faces = np.concatenate([centres + step for step in steps]) @ affine[:3, :3].T
        lengths.append(np.sqrt(((faces[:, None] - faces) ** 2).sum(axis=-1).max()))
    return max(lengths)


def test_an_empty_region_has_a_volume_of_zero_and_nothing_else():
    told = as_json(measured(np.zeros((4, 4, 4), np.uint8)))

    assert set(told) == {"WT", "TC", "ET"}
    assert set(told["WT"].values()) == {None}


def test_the_parts_that_are_there_do_not_hide_one_that_is_not():
    found = measured(block(label=Label.OEDEMA))

    assert found[Region.WT].axial is not None
    assert (found[Region.ET].volume_ml, found[Region.ET].axial) == (0.0, None)


def test_a_point_is_told_as_radiologists_say_it():
    assert in_directions((34.24, -12.0, -0.5)) == "R 34.2 mm, P 12.0 mm, F 0.5 mm"
