"""One space for all scans of a patient: registered to the reference, the brain found, on the model's grid.

Nothing is interpolated twice: registering moves a scan's affine, and the one resampling follows it.

Flow: 6 run
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from inference.align import apply_affine, common_share
from inference.brain import Brain, find_brain
from inference.contract import Alignment, BrainFound, Grid, Scans, Sequence, Volume
from inference.errors import InputInvalid
from inference.likeness import Matrix, degrees_of
from inference.preprocess import MIN_COMMON_SHARE, Prepared, prepare_scans
from inference.register import Reference, register
from inference.scan import Scan, examine
from inference.volume import check_affine, ras_grid
from inference.watch import Watch

if TYPE_CHECKING:
    from inference.models.manifest import ModelEntry

FAR_DEGREES = 5.0
FAR_MM = 10.0
"""More than this is seldom the patient's own movement within one session."""
BAD_SIMILARITY = 0.22
"""Registered real pairs have 0.29 to 0.54, heads of two patients at most 0.18 (see `Probe.similarity`)."""

# Shares of the stage, as measured on a case with skull and four grids.
_EXAMINED, _REGISTERED, _STRIPPED = 0.05, 0.4, 0.85

# Who is looked for on the mask's grid first, and who stands in if nobody lies on it.
_REFERENCES = (Sequence.T1CE, Sequence.T1, Sequence.FLAIR, Sequence.T2)


@dataclass(frozen=True)
class Ready:
    """The network's input, how each scan came to lie on the reference, and what is told of it all."""

    prepared: Prepared
    alignment: tuple[Alignment, ...]
    brain: BrainFound
    warnings: tuple[str, ...]


def bring_together(scans: Scans, entry: ModelEntry, *, watch: Watch, threads: int | None = None) -> Ready:
    """Check, register, strip and resample the scans a model wants. `threads` (None: as many as torch uses).

    Raises InputInvalid (as `prepare` does), Cancelled.
    """
    check_affine(scans.grid.affine)
    found = []
    for sequence in entry.sequences:
        found.append(examine(sequence, scans.volumes))
        watch.advance(_EXAMINED * len(found) / len(entry.sequences))
    placed, alignment = _registered(found, scans.grid, threads=threads or _threads(), watch=watch)
    doubts = [sentence for fit in alignment for sentence in _doubts(fit)]
    brain = _brain(placed, entry, check=watch.check)
    watch.advance(_STRIPPED)
    prepared = prepare_scans(
        placed,
        scans.grid,
        entry,
        brain=brain.mask if brain else None,
        advance=lambda fraction: watch.advance(_STRIPPED + (1 - _STRIPPED) * fraction),
    )
    warnings = (*doubts, *(brain.warnings if brain else ()), *prepared.warnings)
    return Ready(prepared, tuple(alignment), _brain_found(brain, placed, prepared), warnings)


def reference_of(scans: list[Scan], grid: Grid) -> Scan:
    """The scan that the mask's grid belongs to; the most telling one if it belongs to none of them."""
    ranked = sorted(scans, key=lambda scan: _REFERENCES.index(scan.sequence))
    on_grid = [scan for scan in ranked if ras_grid(scan.volume.grid).is_close_to(ras_grid(grid))]
    return (on_grid or ranked)[0]


def _registered(scans: list[Scan], grid: Grid, *, threads: int, watch: Watch) -> tuple[list[Scan], list[Alignment]]:
    """The scans where they fit the reference, and how they came there, both in the order of `scans`."""
    reference = Reference(reference_of(scans, grid))
    placed, alignment = [], []
    for index, scan in enumerate(scans):
        matrix, method = _place(scan, reference, threads=threads, check=watch.check)
        placed.append(scan.moved(matrix) if method == "rigid" else scan)
        alignment.append(_alignment(scan, reference, matrix=matrix, method=method))
        watch.advance(_EXAMINED + (_REGISTERED - _EXAMINED) * (index + 1) / len(scans))
    return placed, alignment


def _place(scan: Scan, reference: Reference, *, threads: int, check: Callable[[], None]) -> tuple[Matrix, str]:
    """The (4, 4) matrix from the reference to the scan, and the method's name as `Alignment` has it."""
    if scan is reference.scan or _is_done(scan, reference):
        return np.eye(4), "none"
    matrix = register(reference, scan, threads=threads, check=check)
    if np.array_equal(matrix, np.eye(4)):
        return matrix, "headers"
    if common_share(scan.box, reference.scan.box) < MIN_COMMON_SHARE:
        # Another part of the body has its place in the headers, and no movement makes a head of it.
        _check_fit(scan, reference, matrix=matrix)
    return matrix, "rigid"


def _is_done(scan: Scan, reference: Reference) -> bool:
    """Whether somebody has registered it already: skull-stripped, on the very same grid, and no nudge improves it."""
    both_stripped = scan.is_stripped and reference.scan.is_stripped
    same_grid = scan.volume.grid.is_close_to(reference.scan.volume.grid)
    return both_stripped and same_grid and reference.probe.is_settled(scan.volume)


def _check_fit(scan: Scan, reference: Reference, *, matrix: Matrix) -> None:
    if reference.probe.similarity(scan.volume, matrix) < BAD_SIMILARITY:
        sentence = f"It shows another place than {reference.scan.sequence}, and cannot be registered to it."
        raise InputInvalid("no_overlap", sentence, subject=str(scan.sequence))


def _alignment(scan: Scan, reference: Reference, *, matrix: Matrix, method: str) -> Alignment:
    centre = reference.probe.centre
    is_reference = scan is reference.scan
    return Alignment(
        sequence=scan.sequence,
        method=method,
        rotation_degrees=degrees_of(matrix),
        shift_mm=float(np.linalg.norm(apply_affine(matrix, centre[None])[0] - centre)),
        similarity=None if is_reference else reference.probe.similarity(scan.volume, matrix),
        matrix=tuple(float(number) for number in matrix.ravel()),
    )


def _doubts(fit: Alignment) -> list[str]:
    sentences = []
    if fit.rotation_degrees > FAR_DEGREES or fit.shift_mm > FAR_MM:
        sentences.append(
            f"{fit.sequence} was turned by {fit.rotation_degrees:.0f} degrees and moved by {fit.shift_mm:.0f} mm "
            "to fit the series the mask is for."
        )
    if fit.similarity is not None and fit.similarity < BAD_SIMILARITY:
        sentences.append(f"{fit.sequence} fits the series the mask is for badly: the result is less reliable.")
    return sentences


def _brain(scans: list[Scan], entry: ModelEntry, *, check: Callable[[], None]) -> Brain | None:
    """A mask to apply, if the model wants one and the scans are not all stripped already."""
    if entry.head == "whole" or all(scan.is_stripped for scan in scans):
        return None
    given = [scan for scan in scans if scan.is_stripped]
    return _given(given[0]) if given else find_brain(scans, check=check)


def _given(scan: Scan) -> Brain:
    """The brain of a scan that came stripped, for the others that did not."""
    mask = np.asarray(ndimage.binary_fill_holes(scan.seen), dtype=np.uint8)
    volume_ml = float(np.count_nonzero(mask)) * scan.volume.grid.voxel_ml
    return Brain(Volume(voxels=mask, affine=scan.volume.affine), BrainFound(method="given", volume_ml=volume_ml))


def _brain_found(brain: Brain | None, scans: list[Scan], prepared: Prepared) -> BrainFound:
    if brain is not None:
        return brain.found
    if all(scan.is_stripped for scan in scans):
        return BrainFound(method="given", volume_ml=max(scan.seen_ml for scan in scans))
    shown_ml = float(np.count_nonzero(prepared.tensor.any(axis=0))) * prepared.grid.voxel_ml
    return BrainFound(method="none", volume_ml=shown_ml)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
