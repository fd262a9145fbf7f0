"""The words the analysis speaks: sequences, labels, grids, volumes, progress, results.

Everything here is a value. Importing it loads numpy and nothing heavier, so the server and the worker's parent
process can use it. World coordinates are RAS+ millimetres throughout (NIfTI-1 convention).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt


class Sequence(StrEnum):
    """The four MRI sequences of a brain tumour study (BraTS), in the order of every channel axis in this project."""

    T1 = "T1"
    T1CE = "T1CE"
    T2 = "T2"
    FLAIR = "FLAIR"


class Label(IntEnum):
    """Values of a label mask. BraTS 2023 convention: enhancing tumour is 3 (it was 4 before)."""

    BACKGROUND = 0
    NECROTIC_CORE = 1
    OEDEMA = 2
    ENHANCING_TUMOUR = 3


class Region(StrEnum):
    """The nested regions that results are judged by (BraTS)."""

    WT = "WT"
    TC = "TC"
    ET = "ET"


REGION_LABELS: Mapping[Region, tuple[Label, ...]] = {
    Region.WT: (Label.NECROTIC_CORE, Label.OEDEMA, Label.ENHANCING_TUMOUR),
    Region.TC: (Label.NECROTIC_CORE, Label.ENHANCING_TUMOUR),
    Region.ET: (Label.ENHANCING_TUMOUR,),
}


class Stage(StrEnum):
    """The five stages of a job, in order. `fetch` and `upload` happen around the analysis, in the worker."""

    FETCH = "fetch"
    PREPROCESS = "preprocess"
    INFERENCE = "inference"
    POSTPROCESS = "postprocess"
    UPLOAD = "upload"


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: `shape` (X, Y, Z) and `affine` (4, 4) float64, voxel index to RAS+ mm."""

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each array axis, in mm."""
        lengths = np.linalg.norm(np.asarray(self.affine)[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(np.asarray(self.affine)[:3, :3]))) / 1000.0

    def is_close_to(self, other: Grid, *, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids name the same points in space."""
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, atol=tolerance_mm))


@dataclass(frozen=True)
class Volume:
    """A scan or a mask: `voxels` (X, Y, Z), any real dtype, and the `affine` (4, 4) of its grid (RAS+ mm)."""

    voxels: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64]

    @property
    def grid(self) -> Grid:
        """The grid the voxels lie on."""
        x, y, z = self.voxels.shape
        return Grid(shape=(x, y, z), affine=self.affine)


@dataclass(frozen=True)
class PackedVolume:
    """What is known of a volume file on the wire: C-order little-endian voxels of a RAS+ grid, compressed.

    `size` and `sha256` (hex) are those of the compressed bytes. `affine` is the 4x4 matrix by rows, 16 numbers.
    """

    size: int
    sha256: str
    encoding: str  # "zstd" or "gzip"
    dtype: str  # "int16", "float32" or "uint8"
    shape: tuple[int, int, int]
    affine: tuple[float, ...]

    @property
    def grid(self) -> Grid:
        """The grid the voxels lie on."""
        return Grid(shape=self.shape, affine=np.asarray(self.affine, dtype=np.float64).reshape(4, 4))

    @property
    def raw_bytes(self) -> int:
        """Size of the voxels once decompressed."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class ModelRef:
    """Which model: a name, a version, and the sha256 (hex) of its weights file."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Progress:
    """How far a stage is: `fraction` 0 to 1 of that stage; `eta_seconds` to the end of the analysis, if known."""

    stage: Stage
    fraction: float
    eta_seconds: float | None = None


@dataclass(frozen=True)
class Preview:
    """The label volume so far, downsampled: `labels` (X, Y, Z) uint8 on `grid` (RAS+ mm). Never the final answer."""

    labels: npt.NDArray[np.uint8]
    grid: Grid


@dataclass(frozen=True)
class Scans:
    """Four sequences of one patient, each on its own grid, and the `grid` (RAS+) that the mask shall lie on."""

    volumes: Mapping[Sequence, Volume]
    grid: Grid


@dataclass(frozen=True)
class Alignment:
    """How one sequence was brought to the reference. `matrix` (4x4 by rows, RAS+ mm): points of the reference to points
    of the sequence. `similarity`: how well both fit afterwards, 0 to 1, None where nothing was measured."""

    sequence: Sequence
    method: str  # "none": it is the reference, or lies on its grid already; "headers"; "rigid"
    rotation_degrees: float
    shift_mm: float
    similarity: float | None
    matrix: tuple[float, ...]


@dataclass(frozen=True)
class BrainFound:
    """What the network was shown of the head: `method` is "given" (it came skull-stripped), "network", "classical" or
    "none" (the model wants the whole head)."""

    method: str
    volume_ml: float


@dataclass(frozen=True)
class Segmentation:
    """A finished analysis: `labels` (X, Y, Z) uint8 of `Label` on `grid`, and how it came about."""

    labels: npt.NDArray[np.uint8]
    grid: Grid
    model: ModelRef
    volumes_ml: Mapping[Region, float]
    stage_seconds: Mapping[Stage, float]
    warnings: tuple[str, ...] = ()
    alignment: tuple[Alignment, ...] = ()
    brain: BrainFound | None = None


@dataclass(frozen=True)
class InputFile:
    """One packed sequence on disk, ready to be read by the child process."""

    role: Sequence
    path: Path
    packed: PackedVolume


@dataclass(frozen=True)
class Order:
    """One analysis for the child process: files in, `grid` of the mask (RAS+), model (None: the default), file out."""

    id: str
    inputs: tuple[InputFile, ...]
    grid: Grid
    model: ModelRef | None
    output: Path


@dataclass(frozen=True)
class Outcome:
    """What the child process answers: the packed uint8 mask at the order's `output`, and its figures."""

    mask: PackedVolume
    model: ModelRef
    volumes_ml: Mapping[Region, float]
    stage_seconds: Mapping[Stage, float]
    warnings: tuple[str, ...] = field(default=())
    alignment: tuple[Alignment, ...] = ()
    brain: BrainFound | None = None
