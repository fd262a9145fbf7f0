"""The brain in a head with skull."""

from __future__ import annotations

import numpy as np
import pytest

from inference import brain
from inference.brain import BrainNetworkMissing, by_shape, find_brain, is_plausible
from inference.contract import Sequence
from inference.errors import Cancelled
from inference.scan import Scan, examine
from inference.volume import read_nifti, to_ras
from tests.inference import heads, phantoms
from tests.real_data import case_dir

GRID = heads.grid((90, 106, 90), spacing_mm=(2.0, 2.0, 2.0))


def never() -> None:
    """For a search that nobody stops."""


def phantom(sequence: Sequence) -> Scan:
    return examine(sequence, {sequence: phantoms.scan(sequence, GRID)})


def ellipsoid(*, radii=phantoms.BRAIN_MM) -> np.ndarray:
    return np.linalg.norm(heads.points_mm(GRID) / radii, axis=-1) < 1


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_scan):
        raise BrainNetworkMissing("It is not here.")

    monkeypatch.setattr(brain, "by_network", missing)


@pytest.mark.usefixtures("without_network")
def test_without_the_network_the_brain_is_found_by_brightness_and_shape():
    found = find_brain([phantom(Sequence.T1)], check=never)

    assert found is not None
    assert found.found.method == "classical"
    assert heads.dice(found.mask.voxels > 0, ellipsoid()) > 0.9
    assert any("by brightness alone" in warning for warning in found.warnings)


def test_an_implausible_answer_is_not_used(monkeypatch):
    monkeypatch.setattr(brain, "by_network", lambda _scan: ellipsoid(radii=phantoms.BRAIN_MM / 4))
    monkeypatch.setattr(brain, "by_shape", lambda _scan: ellipsoid())

    found = find_brain([phantom(Sequence.T1)], check=never)

    assert found is not None
    assert found.found.method == "classical"


def test_nothing_plausible_is_no_brain(monkeypatch):
    for way in ("by_network", "by_shape"):
        monkeypatch.setattr(brain, way, lambda _scan: np.ones(GRID.shape, dtype=bool))

    assert find_brain([phantom(Sequence.T1)], check=never) is None


def test_t1_is_looked_at_first_and_another_contrast_is_told(monkeypatch):
    looked: list[Sequence] = []

    def look(scan):
        looked.append(scan.sequence)
        return ellipsoid()

    monkeypatch.setattr(brain, "by_network", look)

    both = find_brain([phantom(Sequence.FLAIR), phantom(Sequence.T1)], check=never)
    alone = find_brain([phantom(Sequence.FLAIR)], check=never)

    assert looked == [Sequence.T1, Sequence.FLAIR]
    assert both is not None
    assert both.warnings == ()
    assert alone is not None
    assert alone.warnings == ("The brain was looked for in FLAIR, not in T1.",)


def test_weights_that_are_not_the_pinned_ones_are_not_run(monkeypatch):
    monkeypatch.setattr(brain, "DIGESTS", {"model.pt": "0" * 64})
    brain._networks.cache_clear()

    with pytest.raises(BrainNetworkMissing, match=r"not the ones|not installed"):
        brain._networks()


def test_too_little_memory_is_no_reason_to_fall(monkeypatch):
    monkeypatch.setattr(brain, "_free_bytes", lambda: 1000)
    monkeypatch.setattr(brain, "by_shape", lambda _scan: ellipsoid())

    found = find_brain([phantom(Sequence.T1)], check=never)

    assert found is not None
    assert found.found.method == "classical"


def test_a_stopped_analysis_looks_for_no_brain():
    def stop() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        find_brain([phantom(Sequence.T1)], check=stop)


@pytest.mark.parametrize(("volume_ml", "plausible"), [(300, False), (1500, True), (2500, False)])
def test_brains_have_a_litre_or_two(volume_ml, plausible):
    assert is_plausible(volume_ml, phantom(Sequence.T1)) is plausible


@pytest.mark.real_data
@pytest.mark.campaign
def test_the_brain_of_a_real_head_is_found():
    """Other programs find 1586 mL (deepbet) and 1560 mL (HD-BET) in the same scan."""
    volumes = {Sequence.T1: to_ras(read_nifti(case_dir("tcga_fg_6692/raw") / "t1.nii.gz"))}
    scan = examine(Sequence.T1, volumes)

    found = find_brain([scan], check=never)

    assert found is not None
    assert found.found.method == "network"
    assert found.found.volume_ml == pytest.approx(1575, rel=0.03)
    by_hand = by_shape(scan)
    assert heads.dice(by_hand, found.mask.voxels > 0) > 0.85
