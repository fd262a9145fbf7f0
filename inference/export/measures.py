"""How large a tumour is and where: volume, largest diameters, centre. Plain geometry of the mask's own voxels.

A diameter runs between the outer faces of voxels, so that a row of n voxels is n voxels long (as in pyradiomics, which
takes the vertices of a mesh). It never joins two separate pieces: in a slice 8 neighbours make a piece, in space 26.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.align import apply_affine
from inference.contract import REGION_LABELS, Grid, Region
from inference.export.hulls import Points, corners, longest_pair, perpendicular_chord, row_ends, vertices

_IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
_IN_PLANE[:, :, 1] = True
_IN_SPACE = np.ones((3, 3, 3), dtype=bool)

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Line:
    """A straight line between two points in RAS+ mm."""

    start: Point
    end: Point

    @property
    def length_mm(self) -> float:
        """Its length."""
        return float(np.linalg.norm(np.subtract(self.end, self.start)))


@dataclass(frozen=True)
class Measures:
    """One region of one mask. Without a voxel it has a volume of zero and nothing else."""

    volume_ml: float
    centre_mm: Point | None = None
    """The mean of its voxel centres, RAS+."""
    axial: Line | None = None
    """The longest line in one axial slice."""
    across: Line | None = None
    """The longest line inside the hull of the same piece, in the same slice, at right angles to it."""
    slice_index: int | None = None
    """Which slice of the RAS+ grid that is, from the feet."""
    longest: Line | None = None
    """The longest line in any direction."""


def measure(labels: npt.NDArray[np.uint8], grid: Grid) -> dict[Region, Measures]:
    """The measures of every region. `labels` (X, Y, Z) uint8 of `Label`, on a RAS+ `grid`: axial is its third axis."""
    found = ndimage.find_objects((labels > 0).view(np.uint8))
    if not found:
        return dict.fromkeys(Region, Measures(volume_ml=0.0))
    start = np.array([span.start for span in found[0]], dtype=np.float64)
    cut = labels[found[0]]
    affine = grid.affine.copy()
    affine[:3, 3] = apply_affine(grid.affine, start[None])[0]
    first = int(start[2])
    return {
        region: _measured(np.isin(cut, REGION_LABELS[region]), affine, first_slice=first, voxel_ml=grid.voxel_ml)
        for region in Region
    }


def _measured(
    inside: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64], *, first_slice: int, voxel_ml: float
) -> Measures:
    count = int(np.count_nonzero(inside))
    if count == 0:
        return Measures(volume_ml=0.0)
    centre = apply_affine(affine, np.argwhere(inside).mean(axis=0)[None])[0]
    piece, place = _largest_in_a_slice(inside, affine)
    axial = longest_pair(piece, affine, axes=2)
    across = perpendicular_chord(piece, affine, axial)
    return Measures(
        volume_ml=count * voxel_ml,
        centre_mm=_point(centre),
        axial=_line(axial),
        across=_line(across),
        slice_index=first_slice + place,
        longest=_longest(inside, affine),
    )


def _largest_in_a_slice(inside: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> tuple[Points, int]:
    """The hull (N, 3) of the piece with the longest diameter of all slices, and its slice."""
    best, best_mm, place = np.empty((0, 3)), -1.0, 0
    for points, z, bound in _pieces(inside, affine, structure=_IN_PLANE):
        if bound <= best_mm:
            break
        start, end = longest_pair(points, affine, axes=2)
        length = float(np.linalg.norm(end - start))
        if length > best_mm + 1e-9:
            best, best_mm, place = points, length, z
    return best, place


def _longest(inside: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64]) -> Line:
    best, best_mm = np.zeros((2, 3)), -1.0
    for points, _, bound in _pieces(inside, affine, structure=_IN_SPACE):
        if bound <= best_mm:
            break
        pair = longest_pair(corners(points), affine, axes=3)
        length = float(np.linalg.norm(pair[1] - pair[0]))
        if length > best_mm + 1e-9:
            best, best_mm = pair, length
    return _line(best)


def _pieces(
    inside: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64], *, structure: npt.NDArray[np.bool_]
) -> Iterator[tuple[Points, int, float]]:
    """Each connected piece's hull of voxel centres (N, 3), its first slice and a bound (mm) of its diameter; the
    largest bound first, so that one may stop early: a mask of noise has thousands of pieces."""
    numbered, _ = ndimage.label(inside, structure=structure)
    boxes = ndimage.find_objects(numbered)
    edges = np.array([[span.stop - span.start for span in box] for box in boxes], dtype=np.float64)
    if structure is _IN_PLANE:
        edges[:, 2] = 0.0
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # Axes of an affine may be sheared a little: the sum of the edges bounds any diagonal.
    bounds = np.minimum(np.linalg.norm(edges * spacing, axis=1) * 1.1, (edges * spacing).sum(axis=1))
    for index in np.argsort(-bounds, kind="stable"):
        box = boxes[index]
        corner = np.array([span.start for span in box], dtype=np.float64)
        piece = numbered[box] == index + 1
        layers = [vertices(row_ends(piece[:, :, z])) for z in range(piece.shape[2])]
        points = [np.column_stack([layer, np.full(len(layer), float(z))]) for z, layer in enumerate(layers)]
        yield np.concatenate(points) + corner, int(corner[2]), float(bounds[index])


def _point(values: npt.NDArray[np.float64]) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _line(pair: npt.NDArray[np.float64]) -> Line:
    return Line(start=_point(pair[0]), end=_point(pair[1]))


def as_json(measures: Mapping[Region, Measures]) -> dict[str, dict[str, object]]:
    """The diameters and positions for report.json: mm, points in RAS+ mm; null where a region is empty."""
    return {
        str(region): {
            "largest_axial_diameter_mm": _rounded(one.axial),
            "perpendicular_diameter_mm": _rounded(one.across),
            "largest_diameter_mm": _rounded(one.longest),
            "axial_slice": one.slice_index,
            "axial_line_mm": _ends(one.axial),
            "perpendicular_line_mm": _ends(one.across),
            "largest_line_mm": _ends(one.longest),
            "centre_mm": None if one.centre_mm is None else [round(value, 1) for value in one.centre_mm],
        }
        for region, one in measures.items()
    }


def _rounded(line: Line | None) -> float | None:
    return None if line is None else round(line.length_mm, 1)


def _ends(line: Line | None) -> list[list[float]] | None:
    return None if line is None else [[round(value, 2) for value in point] for point in (line.start, line.end)]


def in_directions(point: Point) -> str:
    """A point in RAS+ mm as radiologists say it: "R 34.2 mm, A 12.0 mm, H 40.1 mm" from the scanner's origin."""
    return ", ".join(
        f"{ways[value < 0]} {abs(value):.1f} mm" for ways, value in zip(("RL", "AP", "HF"), point, strict=True)
    )
