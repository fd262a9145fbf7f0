"""From four scans to the network's input: checked, on the model's grid, cropped to the head, normalised.

Training calls the same functions, so that a network sees at work what it saw while it learned.

Flow: 6 run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.align import apply_affine, box_corners, common_share, covered_share, resample, sub_grid
from inference.contract import Grid, Sequence, Volume
from inference.errors import InputInvalid
from inference.scan import MAX_BRAIN_ML, Scan, examine
from inference.volume import check_affine, ras_grid

MARGIN_MM = 8.0
"""Kept around the head when cropping."""
MIN_COMMON_SHARE = 0.25
WARN_COVERED_SHARE = 0.7


class Preparation(Protocol):
    """What a model says about its input. `ModelEntry` says it; training may say it before there is an entry."""

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """The order of the channel axis."""

    @property
    def spacing_mm(self) -> float:
        """Edge of the cubic voxels the network works on."""


def _ignore(_fraction: float) -> None:
    """For a caller who does not wait."""


@dataclass(frozen=True)
class Prepared:
    """`tensor` (C, X, Y, Z) float32 in the model's channel order, RAS+, z-scored over the head, zero outside of it.

    The head is the brain alone where the scans came skull-stripped or a brain mask was given.
    """

    tensor: npt.NDArray[np.float32]
    grid: Grid
    warnings: tuple[str, ...] = ()


def prepare(
    volumes: Mapping[Sequence, Volume],
    grid: Grid,
    entry: Preparation,
    *,
    advance: Callable[[float], None] = _ignore,
) -> Prepared:
    """Check the scans and make the network's input from them, where their headers say that they lie.

    `advance` is told the share done, 0 to 1, after each scan.
    Raises InputInvalid: sequence_missing, affine_singular, not_finite, too_thin, empty, constant, no_overlap.
    """
    check_affine(grid.affine)
    scans = []
    for sequence in entry.sequences:
        scans.append(examine(sequence, volumes))
        advance(0.4 * len(scans) / len(entry.sequences))
    return prepare_scans(scans, grid, entry, advance=lambda fraction: advance(0.4 + 0.6 * fraction))


def prepare_scans(
    scans: list[Scan],
    grid: Grid,
    entry: Preparation,
    *,
    brain: Volume | None = None,
    advance: Callable[[float], None] = _ignore,
) -> Prepared:
    """The network's input, on cubic voxels parallel to `grid`, of scans that lie where they shall be compared.

    The model's grid starts where `grid` starts, so that a scan which has the model's spacing is not resampled
    at all, and covers the head as far as `grid` does. `brain`: a mask of 0 and 1 on any grid, outside of which
    nothing is shown to the network. Raises InputInvalid: no_overlap, constant, empty.
    """
    notes = check_same_place(scans, grid)
    target = model_grid([_box_of(brain)] if brain else [scan.box for scan in scans], grid, spacing_mm=entry.spacing_mm)
    raw = np.empty((len(scans), *target.shape), dtype=np.float32)
    for channel, scan in enumerate(scans):
        raw[channel] = _on_grid(scan, target)
        advance(0.8 * (channel + 1) / len(scans))
    if brain is not None:
        raw *= resample(Volume(voxels=brain.voxels.astype(np.float32), affine=brain.affine), target) >= 0.5
    elif any(scan.background is None for scan in scans):
        raw *= _head(raw, scans)
    for image, scan in zip(raw, scans, strict=True):
        _normalise(image, scan.sequence)
    return Prepared(tensor=raw, grid=target, warnings=(*notes, *_twins(scans), *_skull(raw, target)))


def model_grid(boxes: list[Grid], grid: Grid, *, spacing_mm: float) -> Grid:
    """Cubic voxels parallel to `grid` (closest to RAS+), around all `boxes` as far as `grid` reaches."""
    reference = ras_grid(grid)
    cubic = _cubic(reference, spacing_mm)
    corners = [
        apply_affine(np.linalg.inv(cubic.affine) @ box.affine, box_corners(box.shape)) for box in (*boxes, reference)
    ]
    margin = MARGIN_MM / spacing_mm
    low = np.min([found.min(axis=0) for found in corners[:-1]], axis=0) - margin
    high = np.max([found.max(axis=0) for found in corners[:-1]], axis=0) + margin
    # 1e-3: an edge that falls on a voxel's edge up to rounding must not cost a layer of voxels.
    start = np.floor(np.maximum(low, corners[-1].min(axis=0)) + 0.5 + 1e-3).astype(int)
    stop = np.ceil(np.minimum(high, corners[-1].max(axis=0)) + 0.5 - 1e-3).astype(int)
    return sub_grid(cubic, start, np.maximum(stop, start + 1))


def _cubic(reference: Grid, spacing_mm: float) -> Grid:
    """Cubic voxels whose outer corner is the reference's, turned as it is, with any shear taken out."""
    axes = reference.affine[:3, :3]
    left, _, right = np.linalg.svd(axes / np.linalg.norm(axes, axis=0))
    affine = np.eye(4)
    affine[:3, :3] = left @ right * spacing_mm
    corner = apply_affine(reference.affine, np.full((1, 3), -0.5))[0]
    affine[:3, 3] = corner + affine[:3, :3] @ np.full(3, 0.5)
    return Grid(shape=(1, 1, 1), affine=affine)


def _box_of(mask: Volume) -> Grid:
    spans = [np.flatnonzero(mask.voxels.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return sub_grid(mask.grid, np.array([span[0] for span in spans]), np.array([span[-1] + 1 for span in spans]))


def check_same_place(scans: list[Scan], grid: Grid) -> list[str]:
    """Raises InputInvalid no_overlap if a scan shows another place than the mask's grid or than the first scan."""
    warnings = []
    for scan in scans:
        name = str(scan.sequence)
        if common_share(scan.volume.grid, grid) < MIN_COMMON_SHARE:
            raise InputInvalid("no_overlap", "It shows another place than the series the mask is for.", subject=name)
        if common_share(scan.box, scans[0].box) < MIN_COMMON_SHARE:
            raise InputInvalid("no_overlap", f"It shows another place than {scans[0].sequence}.", subject=name)
        share = covered_share(grid, scan.volume.grid)
        if share < WARN_COVERED_SHARE:
            warnings.append(f"{name} covers only {share:.0%} of the series the mask is for.")
    return warnings


def _twins(scans: list[Scan]) -> list[str]:
    pairs = [(one, other) for index, one in enumerate(scans) for other in scans[index + 1 :]]
    return [
        f"{one.sequence} and {other.sequence} are the same images."
        for one, other in pairs
        if one.volume.voxels is other.volume.voxels or np.array_equal(one.volume.voxels, other.volume.voxels)
    ]


def _skull(raw: npt.NDArray[np.float32], grid: Grid) -> list[str]:
    seen_ml = float(np.count_nonzero(raw.any(axis=0))) * grid.voxel_ml
    if seen_ml <= MAX_BRAIN_ML:
        return []
    return [f"The scans show {seen_ml:.0f} mL, more than a brain: with skull and skin the result is less reliable."]


def _on_grid(scan: Scan, target: Grid) -> npt.NDArray[np.float32]:
    if not scan.background:
        return resample(scan.volume, target)
    # Outside the scan is zero, so its background has to be zero as well.
    shifted = scan.volume.voxels.astype(np.float32) - np.float32(scan.background)
    return resample(Volume(voxels=shifted, affine=scan.volume.affine), target)


def _head(raw: npt.NDArray[np.float32], scans: list[Scan]) -> npt.NDArray[np.bool_]:
    """(X, Y, Z) where the head is, for scans as they come from the scanner, with noise in the air around it.

    What exceeds the threshold of any sequence, its holes filled (ventricles, sinuses), the largest piece.
    """
    floors = [scan.threshold if scan.background is None else 0.0 for scan in scans]
    seen = np.any([channel > floor for channel, floor in zip(raw, floors, strict=True)], axis=0)
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(seen, iterations=2) | seen)
    pieces, count = ndimage.label(closed)
    if count <= 1:
        return np.asarray(closed, dtype=np.bool_)
    return np.asarray(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax(), dtype=np.bool_)


def _normalise(channel: npt.NDArray[np.float32], sequence: Sequence) -> None:
    """Mean 0 and standard deviation 1 over the voxels that are not zero, in place; zero stays zero."""
    inside = channel != 0
    values = channel[inside].astype(np.float64)
    deviation = values.std() if values.size else 0.0
    if deviation <= 1e-6 * abs(values.mean() if values.size else 0.0):
        raise InputInvalid("constant", "It has the same value everywhere inside the head.", subject=str(sequence))
    channel[inside] = ((values - values.mean()) / deviation).astype(np.float32)
