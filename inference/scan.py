"""One sequence as it came: is it a scan of a head at all, what in it is air, and where is the rest.

Flow: 6 run
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from inference.align import sub_grid
from inference.contract import Grid, Sequence, Volume
from inference.errors import InputInvalid
from inference.thresholds import otsu
from inference.volume import check_affine

MIN_SLICES = 4
MIN_EXTENT_MM = 20.0
MIN_FOREGROUND_ML = 10.0
"""A head holds more than a litre; less than this is an empty scan or something else."""
MAX_BRAIN_ML = 2400.0
"""Brains have 1,000 to 1,900 mL, in atlas space up to 2,100; a head with its skull has more than 3,000."""

# If this share of the outermost voxels has one value, that value is the background of a skull-stripped scan.
_PLAIN_BACKGROUND_SHARE = 0.5


@dataclass(frozen=True)
class Scan:
    """One sequence with what counts as air in it, and the grid of the box around the rest.

    `background`: the one value that fills the air, None if there is noise in it. `threshold`: what exceeds it is head
    (with a plain background: what differs from that). `seen_ml`: how much that is.
    """

    sequence: Sequence
    volume: Volume
    background: float | None
    threshold: float
    box: Grid
    seen_ml: float

    @property
    def is_stripped(self) -> bool:
        """Whether only a brain is left of the head: a plain background around no more than a brain's volume."""
        return self.background is not None and self.seen_ml <= MAX_BRAIN_ML

    @cached_property
    def seen(self) -> npt.NDArray[np.bool_]:
        """(X, Y, Z) where there is no air."""
        return _seen(self.volume.voxels, self.background, self.threshold)

    def moved(self, matrix: npt.NDArray[np.float64]) -> Scan:
        """The same voxels in another place: `matrix` (4, 4), RAS+ mm, takes points of the new place to the old."""
        back = np.linalg.inv(matrix)
        return replace(
            self,
            volume=Volume(voxels=self.volume.voxels, affine=back @ self.volume.affine),
            box=Grid(shape=self.box.shape, affine=back @ self.box.affine),
        )


def examine(sequence: Sequence, volumes: Mapping[Sequence, Volume]) -> Scan:
    """The scan of this sequence.

    Raises InputInvalid naming it: sequence_missing, affine_singular, not_finite, too_thin, empty, constant.
    """
    if sequence not in volumes:
        raise InputInvalid("sequence_missing", "This sequence is needed and was not given.", subject=str(sequence))
    try:
        return _scan_of(sequence, volumes[sequence])
    except InputInvalid as error:
        raise error.about(str(sequence)) from error.__cause__


def _scan_of(sequence: Sequence, volume: Volume) -> Scan:
    check_affine(volume.affine)
    extents = np.asarray(volume.grid.shape) * volume.grid.spacing_mm
    if min(volume.grid.shape) < MIN_SLICES or extents.min() < MIN_EXTENT_MM:
        raise InputInvalid("too_thin", f"{volume.grid.shape} voxels are too few for a scan of a head.")
    lowest, highest = float(np.min(volume.voxels)), float(np.max(volume.voxels))
    if not np.isfinite(lowest) or not np.isfinite(highest):
        raise InputInvalid("not_finite", "Some of its voxels are not finite numbers (NaN or infinity).")
    if lowest == highest:
        raise InputInvalid("empty" if lowest == 0 else "constant", f"Every voxel is {lowest:g}; it shows nothing.")
    background = plain_background(volume.voxels)
    threshold = background
    if threshold is None:
        threshold = otsu(volume.voxels[::2, ::2, ::2], within=(lowest, highest))
    seen = _seen(volume.voxels, background, threshold)
    seen_ml = float(np.count_nonzero(seen)) * volume.grid.voxel_ml
    if seen_ml < MIN_FOREGROUND_ML:
        raise InputInvalid("empty", f"Less than {MIN_FOREGROUND_ML:g} mL of it is not background.")
    return Scan(sequence, volume, background, threshold, _box(seen, volume.grid), seen_ml)


def _seen(voxels: npt.NDArray[np.generic], background: float | None, threshold: float) -> npt.NDArray[np.bool_]:
    return np.asarray(np.greater(voxels, threshold) if background is None else np.not_equal(voxels, background))


def plain_background(voxels: npt.NDArray[np.generic]) -> float | None:
    """The one value that fills most of the outermost layer, as skull stripping leaves it; None if there is noise."""
    shell = np.concatenate(
        [face.ravel() for axis in range(3) for face in (voxels.take(0, axis), voxels.take(-1, axis))]
    )
    values, counts = np.unique(shell, return_counts=True)
    commonest = counts.argmax()
    return float(values[commonest]) if counts[commonest] >= _PLAIN_BACKGROUND_SHARE * shell.size else None


def _box(seen: npt.NDArray[np.bool_], grid: Grid) -> Grid:
    spans = [np.flatnonzero(seen.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    start = np.array([span[0] for span in spans])
    return sub_grid(grid, start, np.array([span[-1] + 1 for span in spans]))
