"""Slices laid out as tiles of one picture: Siemens' mosaic and United Imaging's grid.

The header's position is that of a picture as large as all tiles together, centred where one slice is centred; the
direction and distance of the slices stand in Siemens' own (CSA) header. United Imaging gives each tile its position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.dicom.csa import csa_numbers
from inference.dicom.facts import number, texts
from inference.dicom.vendors import SIEMENS_IMAGE_HEADER, SIEMENS_TILES, UIH_FRAMES, UIH_TILES, private_numbers
from inference.errors import InputInvalid

TAGS = (SIEMENS_IMAGE_HEADER, SIEMENS_TILES, UIH_TILES, UIH_FRAMES)
_CSA = frozenset({"NumberOfImagesInMosaic", "SliceNormalVector"})
Csa = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Tile:
    """One slice in a picture of several: where it begins there (row, column), and where it lies (mm, LPS+)."""

    corner: tuple[int, int]
    position: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """The geometry of the whole. `shape`: rows and columns of the picture."""

    shape: tuple[int, int]
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    spacing_mm: tuple[float, float]


def is_mosaic(header: Any) -> bool:
    """Whether the image is a picture of slices."""
    kinds = texts(header, "ImageType")
    return "MOSAIC" in kinds or ("VFRAME" in kinds and bool(private_numbers(header, UIH_TILES)))


def tiles_of(header: Any, picture: Picture) -> tuple[tuple[int, int], tuple[Tile, ...]]:
    """Rows and columns of a tile, and the tiles in the order of the slices.

    `header` holds the elements of TAGS beside those of every image.

    Raises:
        InputInvalid: mosaic_unsupported, when it does not say how its slices lie.
    """
    csa = _csa_of(header)
    count = _count(header, csa)
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across) if UIH_TILES in header else across  # Siemens leaves the last rows empty
    rows, columns = picture.shape
    if rows % down or columns % across:
        raise _unclear(f"{count} slices do not fit {rows} x {columns} pixels")
    shape = (rows // down, columns // across)
    corners = [(place // across * shape[0], place % across * shape[1]) for place in range(count)]
    given = _given_positions(header, count)
    places = given if given is not None else _computed(header, csa, picture, shape=shape, count=count)
    return shape, tuple(Tile(corner, place) for corner, place in zip(corners, places, strict=True))


def _count(header: Any, csa: Csa) -> int:
    for found in (
        private_numbers(header, SIEMENS_TILES),
        private_numbers(header, UIH_TILES),
        csa.get("NumberOfImagesInMosaic", ()),
    ):
        if found and 1 <= found[0] <= 4096:
            return int(found[0])
    raise _unclear("it does not say how many")


def _computed(
    header: Any, csa: Csa, picture: Picture, *, shape: tuple[int, int], count: int
) -> list[npt.NDArray[np.float64]]:
    along_row, along_column = np.asarray(picture.orientation[:3]), np.asarray(picture.orientation[3:])
    between_rows, between_columns = picture.spacing_mm
    excess = (np.asarray(picture.shape) - np.asarray(shape)) / 2
    start = np.asarray(picture.position) + along_row * between_columns * excess[1]
    start = start + along_column * between_rows * excess[0]
    step = _normal(csa, along_row, along_column) * _between_slices(header)
    return [start + step * place for place in range(count)]


def _normal(csa: Csa, along_row: Any, along_column: Any) -> npt.NDArray[np.float64]:
    usual = np.cross(along_row, along_column)
    given = np.asarray(csa.get("SliceNormalVector", ()), dtype=np.float64)
    if given.shape != (3,) or not np.isfinite(given).all():
        return usual
    # Only the direction is taken from it: the last digits of the two differ.
    return -usual if float(given @ usual) < 0 else usual


def _between_slices(header: Any) -> float:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        found = number(header, keyword)
        if found is not None and math.isfinite(found) and found > 0:
            return found
    raise _unclear("it does not say how far apart")


def _given_positions(header: Any, count: int) -> list[npt.NDArray[np.float64]] | None:
    element = header.get(UIH_FRAMES)
    items = element.value if element is not None and element.VR == "SQ" else ()
    if not items:
        return None
    places = [np.asarray(item.get("ImagePositionPatient") or (), dtype=np.float64) for item in items]
    if len(places) != count or any(place.shape != (3,) or not np.isfinite(place).all() for place in places):
        raise _unclear("not every slice has a position")
    return places


def _csa_of(header: Any) -> Csa:
    element = header.get(SIEMENS_IMAGE_HEADER)
    content = None if element is None else element.value
    return csa_numbers(content, _CSA) if isinstance(content, bytes) else {}


def _unclear(why: str) -> InputInvalid:
    return InputInvalid("mosaic_unsupported", f"It is a mosaic of slices whose places are not known: {why}.")
