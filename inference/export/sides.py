"""On which side of the head a region lies, when that is certain: by the plane that halves the head, not by x = 0.

Scanner coordinates put their zero where the table was. The head's own middle is found from its outline in the scan,
row by row, as a plane, so that a turned or tilted head has its midline where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from inference.contract import REGION_LABELS, Region, Volume

_MOST_SAMPLES = 96
"""Along each axis; a plane needs no more."""
_FOREGROUND_SHARE = 0.12
"""Of the brightest tissue: above air and its ghosts, below every tissue on T1, T2 and FLAIR."""
_HEAD_MM = (80.0, 230.0)
"""A row narrower than this is no cross-section of a head or brain, a wider one holds something else."""
_LEAST_ROWS = 60
_MOST_SCATTER_MM = 4.0
_CERTAIN_SHARE = 0.95
_ROUNDS = 4


class Side(StrEnum):
    """The patient's own right and left."""

    RIGHT = "right"
    LEFT = "left"


def sides(labels: npt.NDArray[np.uint8], scan: Volume) -> Mapping[Region, Side]:
    """The side of each region of which at least 95 % lies on one side of the head's middle; others are left out.

    `labels` (X, Y, Z) uint8 of `Label` and the `scan`, on one RAS+ grid.
    """
    middle = midplane(scan)
    if middle is None:
        return {}
    found = {}
    for region in Region:
        places = np.argwhere(np.isin(labels, REGION_LABELS[region]))
        if len(places):
            to_right = float((places[:, 0] > places[:, 1:] @ middle[1:] + middle[0]).mean())
            if max(to_right, 1.0 - to_right) >= _CERTAIN_SHARE:
                found[region] = Side.RIGHT if to_right > 0.5 else Side.LEFT
    return found


def midplane(scan: Volume) -> npt.NDArray[np.float64] | None:
    """(a, b, c) of the plane x = a + b y + c z that halves the head, in voxels; None where no head is recognised."""
    rows = _rows(scan)
    if rows is None:
        return None
    y, z, middles = rows
    design = np.column_stack([np.ones(len(y)), y, z])
    kept = np.ones(len(y), dtype=bool)
    plane: npt.NDArray[np.float64] = np.zeros(3)
    off: npt.NDArray[np.float64] = np.zeros(len(y))
    for _ in range(_ROUNDS):
        plane = np.asarray(np.linalg.lstsq(design[kept], middles[kept], rcond=None)[0], dtype=np.float64)
        off = np.abs(middles - design @ plane)
        kept = off <= max(2.5 * float(np.median(off[kept])), 0.5)
        if np.count_nonzero(kept) < _LEAST_ROWS:
            return None
    scatter_mm = float(np.median(off)) * scan.grid.spacing_mm[0]
    return np.asarray(plane) if scatter_mm <= _MOST_SCATTER_MM else None


def _rows(scan: Volume) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """y, z and the middle in x of every row that crosses the head."""
    steps = [max(1, length // _MOST_SAMPLES) for length in scan.voxels.shape]
    thin = scan.voxels[:, :: steps[1], :: steps[2]].astype(np.float32)
    brightest = float(np.percentile(thin[:: steps[0]], 98.0))
    inside = thin > brightest * _FOREGROUND_SHARE
    first = inside.argmax(axis=0)
    last = inside.shape[0] - 1 - inside[::-1].argmax(axis=0)
    width_mm = (last - first + 1) * scan.grid.spacing_mm[0]
    # A row with a few bright voxels far apart is noise, not a head.
    filled = inside.sum(axis=0) > 0.4 * (last - first + 1)
    used = inside.any(axis=0) & filled & (width_mm >= _HEAD_MM[0]) & (width_mm <= _HEAD_MM[1])
    y, z = np.nonzero(used)
    if len(y) < _LEAST_ROWS:
        return None
    middles = np.asarray((first[used] + last[used]) / 2.0, dtype=np.float64)
    return np.asarray(y * float(steps[1]), dtype=np.float64), np.asarray(z * float(steps[2]), dtype=np.float64), middles
