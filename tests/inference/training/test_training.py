"""Training learns, checks and publishes; the built-in model keeps what it promised on the real case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.contract import Grid, Label, Sequence
from inference.models.networks import NetworkSpec, build
from inference.models.registry import Registry
from inference.preprocess import prepare
from inference.scores import region_dice
from inference.training.dataset import WINDOW, region_masks, study_of, window_of, zscore_nonzero
from inference.training.evaluate import evaluate_folder
from inference.training.publish import publish
from inference.training.simulate import Kind, simulate_patient
from inference.training.train import UNPUBLISHED, Schedule, region_loss, train
from tests.inference.training.small import small_anatomy
from tests.real_data import case_dir


def test_an_example_is_a_window_of_normalised_scans_and_nested_regions():
    rng = np.random.default_rng(0)
    patient = simulate_patient(rng, anatomy=small_anatomy(), spacing_mm=(4.0, 4.0, 4.0), kinds=[Kind.RING])

    image, regions = window_of(rng, study_of(rng, patient))

    assert image.shape == (4, *WINDOW)
    assert regions.shape == (3, *WINDOW)
    whole, core, enhancing = regions.bool()
    assert bool(whole.any())
    assert not bool((core & ~whole).any())
    assert not bool((enhancing & ~core).any())


def test_training_and_analysis_normalise_alike():
    """A network is only as good as the agreement between what it learned on and what it is given."""
    rng = np.random.default_rng(1)
    patient = simulate_patient(rng, anatomy=small_anatomy(), spacing_mm=(2.0, 2.0, 2.0), kinds=[])

    prepared = prepare(patient.volumes, patient.grid, UNPUBLISHED)

    offset = np.round((prepared.grid.affine[:3, 3] - patient.grid.affine[:3, 3]) / 2.0).astype(int)
    box = tuple(slice(start, start + n) for start, n in zip(offset, prepared.grid.shape, strict=True))
    for channel, sequence in zip(prepared.tensor, Sequence, strict=True):
        ours = zscore_nonzero(np.asarray(patient.volumes[sequence].voxels, np.float32))
        assert np.allclose(channel, ours[box], atol=1e-3)


def test_region_masks_follow_the_labels():
    masks = region_masks(np.arange(4, dtype=np.uint8).reshape(1, 1, 4))

    assert masks[:, 0, 0].tolist() == [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]


def test_dice_is_1_for_the_same_mask_and_0_for_disjoint_ones():
    one = np.zeros((2, 2, 2), np.uint8)
    one[0] = Label.OEDEMA
    other = np.zeros_like(one)
    other[1] = Label.ENHANCING_TUMOUR

    assert region_dice(one, one) == {"WT": 1.0, "TC": 1.0, "ET": 1.0}
    assert region_dice(one, other) == {"WT": 0.0, "TC": 0.0, "ET": 0.0}


def test_the_loss_is_small_for_the_right_answer_and_large_for_the_wrong_one():
    regions = torch.zeros(1, 3, 8, 8, 8)
    regions[:, :, :4] = 1
    logits = (regions * 2 - 1) * 12

    assert region_loss(logits, regions).item() < 0.01
    assert region_loss(-logits, regions).item() > 1


def test_the_learning_rate_warms_up_and_comes_down():
    schedule = Schedule(minutes=1.0)

    assert schedule.rate(0.0) < schedule.rate(schedule.warmup)
    assert schedule.rate(1.0) < 0.02 * schedule.peak_rate


def test_a_few_steps_lower_the_loss():
    torch.manual_seed(0)
    network = build(NetworkSpec("SegResNet", {"init_filters": 8, "in_channels": 4, "out_channels": 3}))
    image = torch.randn(1, 4, 16, 16, 16)
    regions = (image[:, :3] > 0.5).float()
    before = region_loss(network(image), regions).item()
    checks: list[int] = []

    average = train(
        network,
        [(image, regions)] * 30,  # type: ignore[arg-type]
        schedule=Schedule(minutes=10.0, warmup=1e-9, averaging=0.5),
        on_check=lambda step, _: checks.append(step),
        check_every=20,
    )

    assert region_loss(average(image), regions).item() < before
    assert checks == [20, 30]


def test_published_weights_are_what_the_registry_loads(tmp_path: Path):
    network = build(UNPUBLISHED.network)
    torch.save(network.state_dict(), tmp_path / "last.pt")

    entry = publish(tmp_path / "last.pt", version="9.9.9", folder=tmp_path / "out")
    loaded = Registry(tmp_path).load(entry, device="cpu")

    for key, value in network.state_dict().items():
        assert torch.allclose(loaded.network.state_dict()[key], value, atol=2e-3)


@pytest.mark.parametrize(("name", "least"), [("tcga_fg_6692/sri24", 0.8)])
def test_the_built_in_model_finds_a_real_tumour(name: str, least: float):
    registry = Registry(Path("none"))

    score, _ = evaluate_folder(registry.load(registry.find(None), device="cpu"), case_dir(name))

    assert score.dice is not None
    assert score.dice["WT"] >= least


def test_the_built_in_model_finds_no_tumour_in_multiple_sclerosis():
    registry = Registry(Path("none"))

    score, _ = evaluate_folder(registry.load(registry.find(None), device="cpu"), case_dir("open_ms_07"))

    assert score.found_ml["WT"] < 2.0


def test_the_grid_of_a_simulated_patient_is_ras():
    grid: Grid = simulate_patient(np.random.default_rng(0), anatomy=small_anatomy(), spacing_mm=(4.0, 4.0, 4.0)).grid

    assert np.allclose(grid.affine[:3, :3], np.diag([4.0, 4.0, 4.0]))
