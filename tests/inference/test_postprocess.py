"""From probabilities to the mask, its volumes and its boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.contract import Grid, Label, Region
from inference.postprocess import boxes_mm, finish, labels_of, volumes_ml, without_specks
from tests.inference import heads
from tests.inference.bright import bright_entry

REGIONS = bright_entry()
LABELS = bright_entry(output="labels", channels=("BG", "NCR", "ED", "ET"))


def smooth_ball(on: Grid) -> np.ndarray:
    """(3, X, Y, Z) probabilities of WT, TC, ET: 0.5 exactly on the spheres' surfaces, as a trained network's."""
    distance = np.linalg.norm(heads.points_mm(on) - heads.BALL_MM, axis=-1)
    radii = (heads.BALL_RADIUS_MM, heads.CORE_RADIUS_MM, heads.CORE_RADIUS_MM / 2)
    return np.stack([1 / (1 + np.exp((distance - radius) / 1.0)) for radius in radii]).astype(np.float32)


def test_regions_become_nested_labels():
    found = np.zeros((3, 6, 1, 1), np.float32)
    found[0, :4] = 0.9  # WT
    found[1, 1:5] = 0.9  # TC reaches one voxel out of WT
    found[2, 2:6] = 0.9  # ET reaches out of both

    labels = labels_of(found, REGIONS)

    assert labels[:, 0, 0].tolist() == [2, 1, 3, 3, 0, 0]


def test_the_order_of_channels_is_the_models():
    found = smooth_ball(heads.grid())

    labels = labels_of(found[[1, 0, 2]], bright_entry(channels=("TC", "WT", "ET")))

    np.testing.assert_array_equal(labels, labels_of(found, REGIONS))


def test_the_most_probable_label_wins_and_nothing_is_background():
    found = np.zeros((4, 5, 1, 1), np.float32)
    found[:, 0, 0, 0] = (0.4, 0.3, 0.2, 0.1)
    found[:, 1, 0, 0] = (0.3, 0.4, 0.2, 0.1)
    found[:, 2, 0, 0] = (0.1, 0.2, 0.4, 0.3)
    found[:, 3, 0, 0] = (0.1, 0.2, 0.3, 0.4)

    labels = labels_of(found, LABELS)

    assert labels[:, 0, 0].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("entry", [REGIONS, LABELS], ids=["regions", "labels"])
def test_specks_go_and_tumours_stay(entry):
    source = heads.grid((40, 40, 40), spacing_mm=(1.0, 1.0, 1.0))
    found = np.zeros((len(entry.channels), 40, 40, 40), np.float32)
    channel = entry.channels.index("WT" if entry is REGIONS else "ED")
    found[channel, 2:6, 2:6, 2:6] = 1.0  # 64 voxels, 0.06 mL
    found[channel, 20:30, 20:30, 20:30] = 1.0  # 1 mL

    clean = without_specks(found, source, entry)

    labels = labels_of(clean, entry)
    assert not labels[:10].any()
    assert (labels > 0).sum() == 1000


@st.composite
def odd_grids(draw: st.DrawFn) -> Grid:
    """Clinical grids: flipped, permuted, tilted, thick slices, off centre, any of it."""
    axes = np.eye(3)[:, draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    angle = np.deg2rad(draw(st.sampled_from((0.0, 0.0, 7.0, -25.0))))
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    spacing = np.array(draw(st.tuples(*[st.sampled_from((0.9, 1.3, 2.0, 3.1))] * 3)))
    shape = np.ceil(np.array((84, 72, 62)) @ np.abs(axes) / spacing).astype(int) + draw(st.integers(0, 3))
    grid = heads.grid(tuple(int(n) for n in shape), spacing_mm=tuple(spacing), axes=tilt @ axes)
    grid.affine[:3, 3] += draw(st.tuples(*[st.floats(-3, 3)] * 3))
    return grid


@given(grid=odd_grids())
@settings(max_examples=15, deadline=None)
def test_the_mask_lies_where_the_tumour_is_on_any_grid(grid):
    """Half a voxel of shift is 0.35 to 1.5 mm here: far outside of what is allowed."""
    source = heads.grid((62, 66, 58))

    mask = finish(smooth_ball(source), source, grid=grid, entry=REGIONS)

    assert mask.shape == grid.shape
    assert mask.dtype == np.uint8
    where = heads.points_mm(grid)
    np.testing.assert_allclose(where[mask > 0].mean(axis=0), heads.BALL_MM, atol=0.15 * max(grid.spacing_mm))
    assert heads.dice(mask > 0, heads.ball(grid)) > 0.97
    assert heads.dice(np.isin(mask, (1, 3)), heads.ball(grid, heads.CORE_RADIUS_MM)) > 0.94


def test_softmax_models_are_brought_back_the_same_way():
    source, grid = heads.grid((62, 66, 58)), heads.grid((90, 100, 40), spacing_mm=(1.2, 1.2, 3.0))
    whole, core, enhancing = smooth_ball(source)
    found = np.stack([1 - whole, core - enhancing, whole - core, enhancing])

    mask = finish(found, source, grid=grid, entry=LABELS)

    assert heads.dice(mask > 0, heads.ball(grid)) > 0.97
    assert set(np.unique(mask)) == set(Label)


def test_no_tumour_is_an_empty_mask():
    source, grid = heads.grid((30, 30, 30)), heads.grid((40, 41, 42))

    mask = finish(np.zeros((3, 30, 30, 30), np.float32), source, grid=grid, entry=REGIONS)

    assert mask.shape == (40, 41, 42)
    assert not mask.any()


def test_a_tumour_outside_of_the_grid_is_an_empty_mask():
    source, grid = heads.grid((62, 66, 58)), heads.grid((20, 20, 20))
    grid.affine[:3, 3] += 300.0

    mask = finish(smooth_ball(source), source, grid=grid, entry=REGIONS)

    assert not mask.any()


def test_volumes_are_in_millilitres():
    grid = heads.grid((10, 10, 10), spacing_mm=(1.0, 2.0, 5.0))
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[0, 0, :3] = Label.NECROTIC_CORE
    labels[1, 0, :4] = Label.OEDEMA
    labels[2, 0, :5] = Label.ENHANCING_TUMOUR

    found = volumes_ml(labels, grid)

    assert found == pytest.approx({Region.WT: 0.12, Region.TC: 0.08, Region.ET: 0.05})


def test_boxes_hold_whole_voxels_in_world_millimetres():
    grid = Grid(shape=(10, 10, 10), affine=np.array([[-2.0, 0, 0, 5], [0, 3, 0, 0], [0, 0, 4, -10], [0, 0, 0, 1]]))
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1:3, 2, 4] = Label.OEDEMA

    found = boxes_mm(labels, grid)

    assert found == {Region.WT: ((0.0, 4.5, 4.0), (4.0, 7.5, 8.0))}
