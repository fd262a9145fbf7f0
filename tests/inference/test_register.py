"""Finding the head again in another scan: phantoms whose movement is known exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from inference.contract import Sequence
from inference.errors import Cancelled
from inference.likeness import degrees_of
from inference.register import Reference, register
from inference.scan import Scan, examine
from tests.inference import heads, phantoms

ISO = heads.grid((90, 106, 90), spacing_mm=(2.0, 2.0, 2.0))
THICK = heads.grid((130, 146, 32), spacing_mm=(1.4, 1.4, 5.5))
SAGITTAL = heads.grid((32, 110, 92), spacing_mm=(5.0, 2.0, 2.0))
SLAB = heads.grid((100, 116, 20), spacing_mm=(1.8, 1.8, 4.5))


def never() -> None:
    """For a search that nobody stops."""


def seen(sequence: Sequence, on, moved: npt.NDArray[np.float64] | None = None) -> Scan:
    return examine(sequence, {sequence: phantoms.scan(sequence, on, moved=moved)})


@pytest.fixture(scope="module")
def thick_reference() -> Reference:
    return Reference(seen(Sequence.T1CE, THICK))


def misplaced(found: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> tuple[float, float]:
    """By how many degrees and, at most within the brain, mm the answer misses the truth."""
    corners = np.array([[x, y, z] for x in (-50, 50) for y in (-60, 60) for z in (-45, 45)], dtype=float)
    off = corners @ (found - truth)[:3, :3].T + (found - truth)[:3, 3]
    return degrees_of(found @ np.linalg.inv(truth)), float(np.linalg.norm(off, axis=1).mean())


@pytest.mark.parametrize(
    ("sequence", "on", "degrees", "mm"),
    [
        (Sequence.T1, ISO, (2.0, -3.0, 4.0), (3.0, -2.0, 5.0)),
        (Sequence.T2, THICK, (8.0, 2.0, -5.0), (-4.0, 9.0, 12.0)),
        (Sequence.FLAIR, SAGITTAL, (-6.0, 4.0, 3.0), (5.0, 6.0, -7.0)),
        (Sequence.FLAIR, SLAB, (3.0, -2.0, 1.0), (2.0, 4.0, -3.0)),
        (Sequence.T2, ISO, (20.0, -15.0, 25.0), (30.0, -60.0, 90.0)),
    ],
    ids=["T1 thin", "T2 thick", "FLAIR sagittal", "a slab of FLAIR", "T2 of another frame of reference"],
)
def test_a_known_movement_is_found_to_half_a_millimetre_and_half_a_degree(thick_reference, sequence, on, degrees, mm):
    truth = phantoms.movement(degrees=degrees, mm=mm)
    other = seen(sequence, on, truth)

    found = register(thick_reference, other, threads=2, check=never)

    wrong_degrees, wrong_mm = misplaced(found, truth)
    assert wrong_degrees < 0.5
    assert wrong_mm < 0.5


def test_the_same_scans_give_the_same_movement(thick_reference):
    other = seen(Sequence.T1, SLAB, phantoms.movement(degrees=(3, 0, 0), mm=(0, 4, 0)))

    first, again = (register(thick_reference, other, threads=2, check=never) for _ in range(2))

    np.testing.assert_array_equal(first, again)


def test_a_registered_scan_fits_better_than_before(thick_reference):
    other = seen(Sequence.T1, SLAB, phantoms.movement(degrees=(5, 0, -4), mm=(0, 8, 3)))

    found = register(thick_reference, other, threads=2, check=never)

    probe = thick_reference.probe
    assert probe.likeness(other.volume, found) > 1.2 * probe.likeness(other.volume, np.eye(4))
    assert probe.similarity(other.volume, found) > probe.similarity(other.volume, np.eye(4))


def test_a_stopped_search_ends_at_its_next_step(thick_reference):
    calls = iter(range(1000))

    def check() -> None:
        if next(calls) == 20:
            raise Cancelled

    with pytest.raises(Cancelled):
        register(thick_reference, seen(Sequence.T1, SLAB), threads=1, check=check)

    assert next(calls) < 25


def test_a_scan_that_lies_right_is_settled_and_a_moved_one_is_not(thick_reference):
    still = phantoms.scan(Sequence.T2, THICK)
    moved = phantoms.scan(Sequence.T2, THICK, moved=phantoms.movement(degrees=(4, 0, 0), mm=(0, 3, 0)))

    settled = [thick_reference.probe.is_settled(volume) for volume in (still, moved)]

    assert settled == [True, False]
