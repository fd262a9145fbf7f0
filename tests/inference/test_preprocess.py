"""From four scans to the network's input."""

from __future__ import annotations

import numpy as np
import pytest

from inference.contract import Grid, Sequence, Volume
from inference.errors import InputInvalid
from inference.preprocess import model_grid, prepare
from inference.volume import ras_grid
from tests.inference import heads
from tests.inference.bright import bright_entry
from tests.real_data import case_dir

ENTRY = bright_entry()
GRID = heads.grid()


def refusal(volumes: dict[Sequence, Volume], grid: Grid = GRID) -> InputInvalid:
    """The error that preparing these scans ends in."""
    with pytest.raises(InputInvalid) as caught:
        prepare(volumes, grid, ENTRY)
    return caught.value


def test_four_scans_become_one_tensor_in_the_models_order():
    entry = bright_entry(sequences=(Sequence.FLAIR, Sequence.T1, Sequence.T1CE, Sequence.T2))

    prepared = prepare(heads.head(GRID), GRID, entry)

    plain = prepare(heads.head(GRID), GRID, ENTRY)
    assert prepared.tensor.dtype == np.float32
    np.testing.assert_array_equal(prepared.tensor, plain.tensor[[3, 0, 1, 2]])


def test_each_channel_has_mean_0_and_deviation_1_inside_the_head_and_0_outside():
    prepared = prepare(heads.head(GRID, noise=0), GRID, ENTRY)

    for channel in prepared.tensor:
        inside = channel[channel != 0]
        assert inside.mean() == pytest.approx(0, abs=1e-3)
        assert inside.std() == pytest.approx(1, abs=1e-3)
        assert channel[0, 0, 0] == 0


def test_a_scan_with_the_models_spacing_is_cropped_but_not_resampled():
    volumes = heads.head(GRID)

    prepared = prepare(volumes, GRID, ENTRY)

    start = np.linalg.inv(GRID.affine) @ prepared.grid.affine[:, 3]
    x, y, z = np.rint(start[:3]).astype(int)
    source = (
        volumes[Sequence.T1]
        .voxels[x : x + prepared.grid.shape[0], y : y + prepared.grid.shape[1], z : z + prepared.grid.shape[2]]
        .astype(float)
    )
    inside = source != 0
    expected = np.where(inside, (source - source[inside].mean()) / source[inside].std(), 0)
    np.testing.assert_allclose(start[:3], [x, y, z], atol=1e-6)
    np.testing.assert_allclose(prepared.tensor[0], expected, atol=1e-4)


def test_the_same_head_gives_the_same_tensor_however_it_is_stored():
    """One real case is stored RAS, the others LPS; a network must not notice."""
    flipped = {}
    for sequence, volume in heads.head(GRID).items():
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, 0] * (volume.voxels.shape[0] - 1)
        affine[:3, 0] *= -1
        flipped[sequence] = Volume(voxels=volume.voxels[::-1], affine=affine)

    prepared = prepare(flipped, flipped[Sequence.T1CE].grid, ENTRY)

    plain = prepare(heads.head(GRID), GRID, ENTRY)
    assert prepared.grid.is_close_to(plain.grid)
    np.testing.assert_allclose(prepared.tensor, plain.tensor, atol=1e-5)


def test_scans_on_four_different_grids_meet_on_one():
    tilt = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    volumes = heads.head(GRID) | {
        Sequence.T2: heads.scan(Sequence.T2, heads.grid((128, 150, 24), spacing_mm=(1.0, 1.0, 5.0))),
        Sequence.FLAIR: heads.scan(Sequence.FLAIR, heads.grid((70, 80, 66), axes=tilt)),
    }

    prepared = prepare(volumes, GRID, ENTRY)

    where = heads.points_mm(prepared.grid)
    ball = np.linalg.norm(where - heads.BALL_MM, axis=-1) < 10
    brain = np.linalg.norm(where / heads.BRAIN_RADII_MM, axis=-1) < 0.85
    far = brain & (np.linalg.norm(where - heads.BALL_MM, axis=-1) > 22)
    for channel in prepared.tensor[2:]:
        assert channel[ball].min() > channel[far].max()


def test_a_background_that_is_not_zero_counts_as_background():
    volumes = heads.head(GRID)
    shifted = {sequence: Volume(volume.voxels - 1024, volume.affine) for sequence, volume in volumes.items()}

    prepared = prepare(shifted, GRID, ENTRY)

    np.testing.assert_allclose(prepared.tensor, prepare(volumes, GRID, ENTRY).tensor, atol=1e-3)


def test_noise_in_the_air_around_the_head_is_taken_out():
    prepared = prepare(heads.head(GRID, noise=8.0), GRID, ENTRY)

    outside = np.linalg.norm(heads.points_mm(prepared.grid) / (heads.BRAIN_RADII_MM + 6), axis=-1) > 1
    assert not prepared.tensor[:, outside].any()


def test_the_models_grid_follows_the_references_axes_and_drops_shear():
    sheared = heads.grid((40, 50, 30), spacing_mm=(1.0, 1.0, 5.0))
    sheared.affine[1, 2] = 0.8

    found = model_grid([sheared], sheared, spacing_mm=2.0)

    axes = found.affine[:3, :3] / 2.0
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)


def test_the_models_grid_starts_at_the_references_outer_corner():
    reference = heads.grid((41, 51, 31), spacing_mm=(1.5, 1.5, 1.5), axes=np.diag([-1.0, -1.0, 1.0]))

    found = model_grid([reference], reference, spacing_mm=3.0)

    corner = found.affine @ (-0.5, -0.5, -0.5, 1)
    np.testing.assert_allclose(corner, ras_grid(reference).affine @ (-0.5, -0.5, -0.5, 1), atol=1e-6)
    assert found.shape == (21, 26, 16)


def test_progress_runs_from_scan_to_scan():
    shares: list[float] = []

    prepare(heads.head(GRID), GRID, ENTRY, advance=shares.append)

    assert shares == sorted(shares)
    assert len(shares) >= 8


def test_a_missing_sequence_is_named():
    volumes = heads.head(GRID)
    del volumes[Sequence.T2]

    error = refusal(volumes)

    assert (error.code, error.subject) == ("sequence_missing", "T2")


@pytest.mark.parametrize(
    ("voxels", "code"),
    [
        (np.zeros((60, 70, 56), np.int16), "empty"),
        (np.full((60, 70, 56), 7, np.int16), "constant"),
        (np.full((60, 70, 56), np.nan, np.float32), "not_finite"),
        (np.full((60, 70, 56), np.inf, np.float32), "not_finite"),
    ],
    ids=["all background", "constant", "NaN", "infinity"],
)
def test_scans_that_show_nothing_are_refused(voxels, code):
    volumes = heads.head(GRID) | {Sequence.T2: Volume(voxels, GRID.affine)}

    error = refusal(volumes)

    assert (error.code, error.subject) == (code, "T2")


def test_a_few_bright_voxels_are_no_head():
    voxels = np.zeros(GRID.shape, np.int16)
    voxels[30:33, 30:33, 30:33] = 100
    volumes = heads.head(GRID) | {Sequence.T1: Volume(voxels, GRID.affine)}

    error = refusal(volumes)

    assert (error.code, error.subject) == ("empty", "T1")


def test_a_binary_mask_in_place_of_a_scan_is_refused():
    brain = (heads.scan(Sequence.T1, GRID).voxels > 0).astype(np.int16)
    volumes = heads.head(GRID) | {Sequence.T1: Volume(brain, GRID.affine)}

    error = refusal(volumes)

    assert (error.code, error.subject) == ("constant", "T1")


def test_two_slices_are_refused():
    thin = heads.grid((60, 70, 2), spacing_mm=(2.0, 2.0, 30.0))
    volumes = heads.head(GRID) | {Sequence.T1CE: heads.scan(Sequence.T1CE, thin)}

    error = refusal(volumes)

    assert (error.code, error.subject) == ("too_thin", "T1CE")


@pytest.mark.parametrize("sequence", [Sequence.T1, Sequence.FLAIR])
def test_scans_of_different_places_are_refused(sequence):
    far = heads.scan(sequence, GRID)
    affine = far.affine.copy()
    affine[2, 3] += 400.0
    volumes = heads.head(GRID) | {sequence: Volume(far.voxels, affine)}

    error = refusal(volumes)

    assert error.code == "no_overlap"


def test_a_singular_affine_is_refused():
    volumes = heads.head(GRID) | {Sequence.T2: Volume(heads.scan(Sequence.T2, GRID).voxels, np.diag([2.0, 2, 0, 1]))}

    error = refusal(volumes)

    assert (error.code, error.subject) == ("affine_singular", "T2")


def test_a_scan_that_covers_a_part_is_used_with_a_warning():
    volumes = heads.head(GRID)
    half = volumes[Sequence.FLAIR]
    volumes[Sequence.FLAIR] = Volume(half.voxels[:, :, :30], half.affine)

    prepared = prepare(volumes, GRID, ENTRY)

    assert prepared.warnings == ("FLAIR covers only 56% of the series the mask is for.",)


def test_the_same_images_given_twice_are_noticed():
    """T1 given in place of a missing T1CE looks like an answer without enhancement; the reader should know."""
    volumes = heads.head(GRID, noise=0)
    volumes[Sequence.FLAIR] = heads.scan(Sequence.FLAIR, GRID, noise=1)
    volumes[Sequence.T1CE] = volumes[Sequence.T1]

    prepared = prepare(volumes, GRID, ENTRY)

    assert prepared.warnings == ("T1 and T1CE are the same images.",)


@pytest.mark.real_data
def test_a_clinical_case_on_four_grids_is_prepared():
    from inference.volume import read_nifti

    folder = case_dir("tcga_fg_6692/raw")
    volumes = {sequence: read_nifti(folder / f"{sequence.lower()}.nii.gz") for sequence in Sequence}

    prepared = prepare(volumes, volumes[Sequence.T1CE].grid, ENTRY)

    assert len({volume.voxels.shape for volume in volumes.values()}) > 1
    assert all(100 < length * 2 < 260 for length in prepared.grid.shape)
    seen = prepared.tensor != 0
    assert any("more than a brain" in warning for warning in prepared.warnings)
    assert all(heads.dice(seen[0], other) > 0.95 for other in seen[1:])
    assert np.corrcoef(prepared.tensor[:2][:, seen.all(axis=0)])[0, 1] > 0.3  # T1 and T1CE
