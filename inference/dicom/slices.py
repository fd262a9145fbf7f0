"""The planes of a grid as DICOM tells them: one orientation, a position for each, and which source frame lies there.

Positions and directions here are LPS+ mm (PS3.3 C.7.6.2), as in headers; a Grid is RAS+.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.contract import Grid
from inference.errors import InferenceError

_PARALLEL = 0.9995
_NEAR_MM = 1e-2
"""Positions in headers are decimal strings of few digits."""
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


class PlanesDiffer(InferenceError):
    """The source images do not lie where the mask's grid does."""

    code = "planes_differ"
    family = "internal"


@dataclass(frozen=True)
class Planes:
    """Parallel planes of one size, from the first along rows x columns."""

    orientation: tuple[float, ...]
    """Six direction cosines: along a row, along a column."""
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    shape: tuple[int, int]
    """Rows, columns."""
    positions: npt.NDArray[np.float64]
    """(planes, 3) centre of the first pixel of each."""
    axes: tuple[int, int, int]
    """Which axis of the grid runs along the planes, the rows and the columns of each."""
    flips: tuple[bool, bool, bool]
    """Which of them run backwards."""

    @property
    def between_mm(self) -> float:
        """The distance of neighbouring planes; of a single plane 1."""
        return float(np.linalg.norm(self.positions[1] - self.positions[0])) if len(self.positions) > 1 else 1.0

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4) from (plane, row, column) to LPS+ mm."""
        found = np.eye(4)
        row, column = np.asarray(self.orientation[:3]), np.asarray(self.orientation[3:])
        found[:3, 0] = (self.positions[-1] - self.positions[0]) / max(1, len(self.positions) - 1)
        found[:3, 1], found[:3, 2] = column * self.spacing_mm[0], row * self.spacing_mm[1]
        found[:3, 3] = self.positions[0]
        if len(self.positions) == 1:
            found[:3, 0] = np.cross(row, column)
        return found

    def sliced(self, voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """(planes, rows, columns) of voxels (I, J, K) on the grid that the planes were made of."""
        return np.ascontiguousarray(voxels.transpose(self.axes)[self._turns])

    def stacked(self, planes: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Undo `sliced`: (I, J, K) in the grid's own order."""
        return np.ascontiguousarray(planes[self._turns].transpose(np.argsort(self.axes)))

    @property
    def _turns(self) -> tuple[slice, slice, slice]:
        first, second, third = (slice(None, None, -1 if back else 1) for back in self.flips)
        return first, second, third

    def find(self, places: Several[tuple[float, ...]]) -> list[int]:
        """For each plane which of `places` is its position.

        Raises:
            PlanesDiffer: for one of them there is none.
        """
        found = np.asarray(places, dtype=np.float64)
        order = []
        for position in self.positions:
            off = np.abs(found - position).max(axis=1)
            if off.min() > _NEAR_MM:
                raise PlanesDiffer("The mask does not lie on the grid of the source images.")
            order.append(int(off.argmin()))
        return order


@dataclass(frozen=True)
class Frame:
    """Where one frame of a multi-frame image lies."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]


def planes_on(grid: Grid, orientation: Several[float]) -> Planes:
    """The planes of `grid` whose rows and columns run as `orientation` (six cosines) says.

    Raises:
        PlanesDiffer: no axes of the grid are parallel to it.
    """
    edges = _RAS_TO_LPS[:, None] * grid.affine[:3, :3]
    lengths = np.linalg.norm(edges, axis=0)
    row, column = np.asarray(orientation[:3], dtype=np.float64), np.asarray(orientation[3:], dtype=np.float64)
    wanted = np.stack([np.cross(row, column), column, row])
    likeness = wanted @ (edges / lengths)
    axes = [int(axis) for axis in np.abs(likeness).argmax(axis=1)]
    signs = likeness[[0, 1, 2], axes]
    if sorted(axes) != [0, 1, 2] or np.abs(signs[1:]).min() < _PARALLEL:
        raise PlanesDiffer("The mask does not lie on the grid of the source images.")
    start = np.where([signs[axes.index(axis)] < 0 for axis in range(3)], np.asarray(grid.shape) - 1, 0)
    first = _RAS_TO_LPS * (grid.affine[:3, :3] @ start + grid.affine[:3, 3])
    step = edges[:, axes[0]] * np.sign(signs[0])
    return Planes(
        orientation=tuple(float(cosine) for cosine in orientation),
        spacing_mm=(float(lengths[axes[1]]), float(lengths[axes[2]])),
        shape=(grid.shape[axes[1]], grid.shape[axes[2]]),
        positions=first + np.arange(grid.shape[axes[0]])[:, None] * step,
        axes=(axes[0], axes[1], axes[2]),
        flips=(bool(signs[0] < 0), bool(signs[1] < 0), bool(signs[2] < 0)),
    )


def is_multi_frame(header: Any) -> bool:
    """Whether the frames of an image have their places in functional groups (PS3.3 C.7.6.16)."""
    return bool(header.get("PerFrameFunctionalGroupsSequence"))


def frames_of(header: Any) -> list[Frame]:
    """Where each frame lies, by its own functional groups or by those all of them share."""
    shared = header.get("SharedFunctionalGroupsSequence") or [{}]
    return [
        Frame(
            position=_group(own, shared[0], "PlanePositionSequence", "ImagePositionPatient"),
            orientation=_group(own, shared[0], "PlaneOrientationSequence", "ImageOrientationPatient"),
        )
        for own in header.PerFrameFunctionalGroupsSequence
    ]


def _group(own: Any, shared: Any, sequence: str, keyword: str) -> tuple[float, ...]:
    for groups in (own, shared):
        items = groups.get(sequence)
        if items and items[0].get(keyword) is not None:
            return tuple(float(number) for number in items[0].get(keyword))
    raise PlanesDiffer(f"A frame of the source has no {keyword}.")
