"""How close a mask is to the truth: overlap, distance of the surfaces, volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.contract import REGION_LABELS, Grid, Region

Labels = npt.NDArray[np.uint8]
_PERCENTILE = 95.0
_NEIGHBOURS_6 = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class RegionScore:
    """One region of one case. `dice` and `hd95_mm` are None where there is no truth.

    `dice` is 1 where the region is in neither mask. `hd95_mm`: None also where it is in only one of them, as then
    there is no distance; 0 where it is in neither.
    """

    region: Region
    found_ml: float
    true_ml: float | None = None
    dice: float | None = None
    hd95_mm: float | None = None

    @property
    def error_ml(self) -> float | None:
        """How much too large the found volume is."""
        return None if self.true_ml is None else self.found_ml - self.true_ml

    @property
    def error_percent(self) -> float | None:
        """The same as a share of the true volume; None where that is zero."""
        return None if not self.true_ml else 100.0 * (self.found_ml - self.true_ml) / self.true_ml


def scores(found: Labels, truth: Labels | None, grid: Grid) -> list[RegionScore]:
    """Each region of a label mask (X, Y, Z) beside the truth on the same `grid`, if there is one."""
    return [_score(region, found, truth, grid) for region in Region]


def region_dice(found: Labels, truth: Labels) -> dict[str, float]:
    """Dice of WT, TC and ET between two label volumes of one shape; 1 where a region is in neither."""
    return {str(region): dice(inside(found, region), inside(truth, region)) for region in Region}


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Twice what is common over the sum of both; 1 for two empty masks."""
    both = int(np.count_nonzero(one) + np.count_nonzero(other))
    return float(2 * np.count_nonzero(one & other) / both) if both else 1.0


def hd95_mm(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> float | None:
    """The larger of both directions' 95th percentile of distances from surface to surface, in mm (as MONAI's).

    A surface voxel is one with a neighbour, of six, outside. 0 for two empty masks, None when one is empty.
    """
    if not one.any() or not other.any():
        return 0.0 if one.any() == other.any() else None
    box = ndimage.find_objects((one | other).astype(np.uint8))[0]
    first, second = _surface(one[box]), _surface(other[box])
    return max(_directed(first, second, spacing_mm), _directed(second, first, spacing_mm))


def inside(labels: Labels, region: Region) -> npt.NDArray[np.bool_]:
    """Where a region is."""
    return np.isin(labels, REGION_LABELS[region])


def _score(region: Region, found: Labels, truth: Labels | None, grid: Grid) -> RegionScore:
    here = inside(found, region)
    found_ml = float(np.count_nonzero(here)) * grid.voxel_ml
    if truth is None:
        return RegionScore(region, found_ml)
    there = inside(truth, region)
    return RegionScore(
        region,
        found_ml,
        true_ml=float(np.count_nonzero(there)) * grid.voxel_ml,
        dice=dice(here, there),
        hd95_mm=hd95_mm(here, there, grid.spacing_mm),
    )


def _surface(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return mask & ~np.asarray(ndimage.binary_erosion(mask, structure=_NEIGHBOURS_6), dtype=np.bool_)


def _directed(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> float:
    return float(np.percentile(ndimage.distance_transform_edt(~other, sampling=spacing_mm)[one], _PERCENTILE))
