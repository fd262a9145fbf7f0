"""One space for all scans: who is registered, what is told of it, and the brain that is shown to the network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from inference import space
from inference.brain import Brain
from inference.contract import BrainFound, Grid, Scans, Sequence, Volume
from inference.errors import Cancelled, InputInvalid
from inference.scan import Scan
from inference.space import Ready, bring_together
from inference.watch import Watch
from tests.inference import heads, phantoms
from tests.inference.bright import bright_entry

GRID = heads.grid((90, 106, 90), spacing_mm=(2.0, 2.0, 2.0))
THICK = heads.grid((90, 106, 32), spacing_mm=(2.0, 2.0, 5.5))
ENTRY = bright_entry()
MOVED = phantoms.movement(degrees=(7.0, 0.0, 4.0), mm=(2.0, 6.0, 10.0))


def never_asked(*_: object, **__: object) -> Brain | None:
    raise AssertionError("nobody should look for a brain here")


def ellipsoid(scans: list[Scan], *, check: object) -> Brain:
    """The phantom's brain, without the seconds that the network takes."""
    del check
    inside = np.linalg.norm(heads.points_mm(scans[0].volume.grid) / phantoms.BRAIN_MM, axis=-1) < 1
    mask = Volume(inside.astype(np.uint8), scans[0].volume.affine)
    return Brain(mask, BrainFound(method="network", volume_ml=phantoms.BRAIN_ML))


@pytest.fixture
def ellipsoid_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "find_brain", ellipsoid)


@pytest.fixture
def still_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registering finds nothing better than the headers, at once."""
    monkeypatch.setattr(space, "register", lambda *_, **__: np.eye(4))


@pytest.fixture(scope="module")
def moved() -> Ready:
    """A patient who moved before T2 and FLAIR, brought together once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "find_brain", ellipsoid)
        return together(clinical(is_moved=True))


@cache
def clinical(*, is_moved: bool = False) -> Scans:
    """T1CE and T1 on one grid of thick slices, T2 and FLAIR after the patient has moved."""
    volumes = {
        sequence: phantoms.scan(
            sequence, THICK, moved=MOVED if is_moved and sequence in (Sequence.T2, Sequence.FLAIR) else None
        )
        for sequence in Sequence
    }
    return Scans(volumes=volumes, grid=THICK)


def together(scans: Scans, **changes: object) -> Ready:
    return bring_together(scans, replace(ENTRY, **changes), watch=Watch(), threads=2)


def test_stripped_scans_on_one_grid_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(space, "register", never_asked)
    monkeypatch.setattr(space, "find_brain", never_asked)

    ready = together(Scans(volumes=heads.head(GRID), grid=GRID))

    assert [fit.method for fit in ready.alignment] == ["none"] * 4
    assert all(np.array_equal(np.reshape(fit.matrix, (4, 4)), np.eye(4)) for fit in ready.alignment)
    assert ready.brain.method == "given"
    assert ready.brain.volume_ml == pytest.approx(4 / 3 * np.pi * np.prod(heads.BRAIN_RADII_MM) / 1000, rel=0.02)


def test_scans_of_a_patient_who_moved_meet_on_the_reference(moved):
    fits = {fit.sequence: fit for fit in moved.alignment}

    lesion = np.linalg.norm((heads.points_mm(moved.prepared.grid) - (28, 32, 20)) / (9, 7, 8), axis=-1) < 1
    assert moved.prepared.tensor[3][lesion].mean() > 1.5
    assert fits[Sequence.T1CE].method == "none"
    assert fits[Sequence.T1CE].similarity is None
    for sequence in (Sequence.T2, Sequence.FLAIR):
        found = np.reshape(fits[sequence].matrix, (4, 4))
        assert fits[sequence].method == "rigid"
        assert fits[sequence].rotation_degrees == pytest.approx(8.06, abs=0.7)
        assert fits[sequence].shift_mm == pytest.approx(np.linalg.norm(found[:3, 3]), abs=3)
        assert np.linalg.norm((found - MOVED)[:3, 3]) < 1.0


def test_a_long_way_is_told(moved):
    told = [warning for warning in moved.warnings if "was turned by 8 degrees and moved by" in warning]
    assert [warning.split()[0] for warning in told] == ["T2", "FLAIR"]


@pytest.mark.usefixtures("ellipsoid_brain", "still_patient")
def test_a_bad_fit_is_told():
    scans = clinical()
    noise = np.random.default_rng(1).integers(1, 900, THICK.shape).astype(np.int16)
    noise[np.linalg.norm(heads.points_mm(THICK) / phantoms.SCALP_MM, axis=-1) > 1] = 0

    ready = together(Scans(volumes={**scans.volumes, Sequence.T2: Volume(noise, THICK.affine)}, grid=THICK))

    fit = next(fit for fit in ready.alignment if fit.sequence is Sequence.T2)
    assert fit.similarity is not None
    assert fit.similarity < space.BAD_SIMILARITY
    assert "T2 fits the series the mask is for badly: the result is less reliable." in ready.warnings


@pytest.mark.usefixtures("ellipsoid_brain", "still_patient")
def test_the_network_sees_nothing_but_brain():
    ready = together(clinical())

    outside = np.linalg.norm(heads.points_mm(ready.prepared.grid) / (phantoms.BRAIN_MM + 6), axis=-1) > 1
    inside = np.linalg.norm(heads.points_mm(ready.prepared.grid) / (phantoms.BRAIN_MM - 6), axis=-1) < 1
    assert ready.brain == BrainFound(method="network", volume_ml=phantoms.BRAIN_ML)
    assert not ready.prepared.tensor[:, outside].any()
    assert (ready.prepared.tensor[:, inside] != 0).mean() > 0.99


@pytest.mark.usefixtures("still_patient")
def test_a_model_of_whole_heads_is_shown_the_whole_head(monkeypatch):
    monkeypatch.setattr(space, "find_brain", never_asked)

    ready = together(clinical(), head="whole")

    assert ready.brain.method == "none"
    assert ready.brain.volume_ml > 1.3 * phantoms.BRAIN_ML


@pytest.mark.usefixtures("still_patient")
def test_one_stripped_scan_lends_its_brain_to_the_others(monkeypatch):
    monkeypatch.setattr(space, "find_brain", never_asked)
    scans = clinical()
    stripped = scans.volumes[Sequence.T1].voxels.copy()
    stripped[np.linalg.norm(heads.points_mm(THICK) / phantoms.BRAIN_MM, axis=-1) > 1] = 0

    ready = together(Scans(volumes={**scans.volumes, Sequence.T1: Volume(stripped, THICK.affine)}, grid=THICK))

    assert ready.brain.method == "given"
    assert ready.brain.volume_ml == pytest.approx(phantoms.BRAIN_ML, rel=0.05)


@pytest.mark.usefixtures("still_patient")
def test_a_brain_nobody_finds_is_told(monkeypatch):
    monkeypatch.setattr(space, "find_brain", lambda _scans, *, check: None)

    ready = together(clinical())

    assert ready.brain.method == "none"
    assert any("more than a brain" in warning or "no brain" in warning.lower() for warning in ready.warnings)


def test_another_part_of_the_body_is_refused(monkeypatch):
    monkeypatch.setattr(space, "register", lambda *_, **__: phantoms.movement(degrees=(0, 0, 0), mm=(0, 0, -700)))
    scans = clinical()
    leg = np.linalg.norm(heads.points_mm(THICK)[..., :2] / (40, 40), axis=-1) < 1
    affine = THICK.affine.copy()
    affine[2, 3] -= 700.0
    volumes = {**scans.volumes, Sequence.FLAIR: Volume((leg * 500).astype(np.int16), affine)}

    with pytest.raises(InputInvalid) as caught:
        together(Scans(volumes=volumes, grid=THICK))

    assert (caught.value.code, caught.value.subject) == ("no_overlap", "FLAIR")


def test_a_stopped_analysis_ends_while_registering():
    calls = iter(range(10_000))

    with pytest.raises(Cancelled):
        bring_together(clinical(is_moved=True), ENTRY, watch=Watch(is_cancelled=lambda: next(calls) > 15), threads=1)


def test_the_reference_is_the_scan_on_the_masks_grid():
    volumes = {
        sequence: phantoms.scan(sequence, GRID if sequence is Sequence.FLAIR else THICK) for sequence in Sequence
    }
    scans = [space.examine(sequence, volumes) for sequence in Sequence]
    elsewhere = Grid(shape=(4, 4, 4), affine=np.eye(4))

    found = [space.reference_of(scans, grid).sequence for grid in (GRID, THICK, elsewhere)]

    assert found == [Sequence.FLAIR, Sequence.T1CE, Sequence.T1CE]
