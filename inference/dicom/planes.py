"""One slice as a value: which pixels of which file, where they lie in the patient, and what kind of image they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID

from inference.dicom.facts import SeriesFacts
from inference.errors import InputInvalid

Kind = tuple[tuple[str, object], ...]

_SPACING_MM, _FAR_MM, _ASKEW = (1e-4, 1e3), 1e6, 0.05


@dataclass(frozen=True)
class Stored:
    """How the pixels of one file lie in it. `shape`: rows and columns of a frame."""

    syntax: UID
    is_implicit: bool
    offset: int | None
    """Where the element of the pixels begins; None where the file is deflated."""
    frames: int
    shape: tuple[int, int]
    bits_allocated: int
    bits_stored: int
    is_signed: bool

    @property
    def frame_bytes(self) -> int:
        """Bytes of one decoded frame."""
        return self.shape[0] * self.shape[1] * self.bits_allocated // 8


@dataclass(frozen=True, eq=False)
class Instance:
    """One file with an image or several."""

    path: Path
    name: str
    """What the person called the file; `path` may be our own name for it."""
    sop_uid: str
    series_uid: str
    stored: Stored


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice. Positions in mm, LPS+ (PS3.3 C.7.6.2)."""

    instance: Instance
    facts: SeriesFacts
    frame: int
    corner: tuple[int, int]
    """Row and column in the frame where the slice begins: not (0, 0) in a mosaic."""
    shape: tuple[int, int]
    """Rows, columns."""
    orientation: tuple[float, ...]
    position: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    kind: Kind
    """What may tell two images at one position apart: image type, echo, inversion, diffusion, time."""
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def name(self) -> str:
        """The file's name, with the frame's number (from one) where there are several."""
        has_many = self.instance.stored.frames > 1
        return f"{self.instance.name} (frame {self.frame + 1})" if has_many else self.instance.name

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """The direction slices are counted in: rows x columns."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def distance(self) -> float:
        """How far along the normal the slice lies, in mm."""
        return float(self.normal @ self.position)

    @property
    def is_scaled(self) -> bool:
        """Whether its numbers are not those that are stored."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def check_place(orientation: tuple[float, ...], position: tuple[float, ...], spacing: tuple[float, ...]) -> None:
    """Refuse a place in space that no scanner gives. Raises InputInvalid no_geometry."""
    if min(spacing) < _SPACING_MM[0] or max(spacing) > _SPACING_MM[1]:
        raise InputInvalid(
            "no_geometry", "Its PixelSpacing is none that a scanner has, so its size in mm is not known."
        )
    if max(map(abs, position)) > _FAR_MM:
        raise InputInvalid("no_geometry", "Its ImagePositionPatient is farther away than any scanner reaches.")
    rows, columns = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    is_square = abs(float(rows @ columns)) < _ASKEW
    if not (is_square and abs(rows @ rows - 1) < _ASKEW and abs(columns @ columns - 1) < _ASKEW):
        raise InputInvalid("no_geometry", "Its ImageOrientationPatient is not that of a rectangle (PS3.3 C.7.6.2.1.1).")
