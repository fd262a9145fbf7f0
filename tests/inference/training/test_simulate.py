"""A simulated patient looks as physics says, and the truth is where the tumour was painted."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from inference.contract import Label, Sequence
from inference.training.simulate import Kind, SimulatedPatient, mni_anatomy, simulate_patient
from tests.inference.training.small import small_anatomy

SPACING = (4.0, 4.0, 4.0)


def patient(seed: int = 0, **choices: object) -> SimulatedPatient:
    rng = np.random.default_rng(seed)
    return simulate_patient(rng, anatomy=small_anatomy(), spacing_mm=SPACING, **choices)  # type: ignore[arg-type]


def mean(simulated: SimulatedPatient, sequence: Sequence, label: Label) -> float:
    """Mean brightness inside a label; background means the brain outside the tumour."""
    voxels = simulated.volumes[sequence].voxels
    return float(voxels[(simulated.truth == label) & (voxels > 0)].mean())


def test_the_same_seed_gives_the_same_patient():
    one, other = patient(3), patient(3)

    assert np.array_equal(one.truth, other.truth)
    assert all(np.array_equal(one.volumes[s].voxels, other.volumes[s].voxels) for s in Sequence)


def test_all_sequences_and_the_truth_lie_on_one_grid():
    simulated = patient(1, kinds=[Kind.RING])

    assert set(simulated.volumes) == set(Sequence)
    assert all(volume.grid.is_close_to(simulated.grid) for volume in simulated.volumes.values())
    assert simulated.truth.shape == simulated.grid.shape
    assert simulated.truth.dtype == np.uint8


def test_a_shape_and_spacing_can_be_asked_for():
    simulated = patient(1, shape=(30, 36, 12))

    assert simulated.grid.shape == (30, 36, 12)
    assert simulated.grid.spacing_mm == SPACING


@pytest.mark.parametrize("seed", range(4))
def test_a_ring_tumour_enhances_and_its_oedema_is_bright_on_flair(seed: int):
    simulated = patient(seed, kinds=[Kind.RING], variety=0.3)

    assert set(np.unique(simulated.truth)) >= {Label.BACKGROUND, Label.OEDEMA, Label.ENHANCING_TUMOUR}
    assert mean(simulated, Sequence.T1CE, Label.ENHANCING_TUMOUR) > mean(simulated, Sequence.T1CE, Label.BACKGROUND)
    assert mean(simulated, Sequence.FLAIR, Label.OEDEMA) > mean(simulated, Sequence.FLAIR, Label.BACKGROUND)


def test_a_dull_tumour_has_no_enhancing_part():
    simulated = patient(2, kinds=[Kind.DULL])

    assert simulated.truth.any()
    assert not (simulated.truth == Label.ENHANCING_TUMOUR).any()


def test_a_head_without_tumour_has_an_empty_truth():
    assert not patient(5, kinds=[]).truth.any()


def test_outside_the_head_every_sequence_is_zero_and_holds_no_tumour():
    simulated = patient(6, kinds=[Kind.SOLID])
    outside = simulated.volumes[Sequence.T1].voxels == 0

    assert outside.any()
    assert not simulated.truth[outside].any()


def test_a_head_with_its_skull_reaches_further_than_the_brain():
    stripped, whole = patient(7), patient(7, is_stripped=False)

    def extent(simulated: SimulatedPatient) -> int:
        return int((simulated.volumes[Sequence.T1].voxels > 0).sum())

    assert extent(whole) > 1.2 * extent(stripped)


def test_real_intensities_are_kept_where_there_is_no_tumour():
    rng = np.random.default_rng(0)

    simulated = simulate_patient(rng, anatomy=small_anatomy(with_scans=True), spacing_mm=SPACING, kinds=[], variety=0.0)

    white = simulated.volumes[Sequence.T2].voxels[20, 14, 20]
    assert np.median(simulated.volumes[Sequence.T2].voxels[simulated.volumes[Sequence.T2].voxels > 0]) > 0.8
    assert white == pytest.approx(1.0, abs=0.35)


def test_several_tumours_grow_in_one_head():
    assert patient(8, kinds=[Kind.SOLID, Kind.SOLID, Kind.RING]).truth.any()


def test_the_template_has_the_tissues_of_a_brain():
    pytest.importorskip("nilearn", reason="the template is in nilearn: pip install -r requirements-demo.txt")

    anatomy = mni_anatomy()

    litres = anatomy.tissues.reshape(3, -1).sum(1) / 1e6
    assert litres[0] == pytest.approx(0.85, abs=0.25)  # grey matter
    assert litres[1] == pytest.approx(0.6, abs=0.25)  # white matter
    assert 0.1 < litres[2] < 0.6
    assert not anatomy.scans
    assert not anatomy.labels.any()


def test_importing_the_simulation_loads_neither_torch_nor_nilearn():
    import subprocess

    script = "import sys, inference.training.simulate; sys.exit('torch' in sys.modules or 'nilearn' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
