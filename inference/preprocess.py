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
from inference.volume import check_affine, ras_grid

MARGIN_MM = 8.0
"""Kept around the head when cropping."""

MIN_SLICES = 4
MIN_EXTENT_MM = 20.0
MIN_FOREGROUND_ML = 10.0
"""A head holds more than a litre; less than this is an empty scan or something else."""
MIN_COMMON_SHARE = 0.25
WARN_COVERED_SHARE = 0.7
MAX_BRAIN_ML = 2400.0
"""Brains have 1,000 to 1,900 mL, in atlas space up to 2,100; a head with its skull has more than 3,000."""

# If this share of the outermost voxels has one value, that value is the background of a skull-stripped scan.
_PLAIN_BACKGROUND_SHARE = 0.5


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
    """`tensor` (C, X, Y, Z) float32 in the model's channel order, RAS+, z-scored over the head, zero outside of it."""

    tensor: npt.NDArray[np.float32]
    grid: Grid
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Scan:
    """One sequence with what counts as air in it, and the grid of the box around the rest."""

    sequence: Sequence
    volume: Volume
    background: float | None
    threshold: float
    box: Grid


def prepare(
    volumes: Mapping[Sequence, Volume],
    grid: Grid,
    entry: Preparation,
    *,
    advance: Callable[[float], None] = _ignore,
) -> Prepared:
    """Check the scans and make the network's input from them, on cubic voxels parallel to `grid`.

    The model's grid starts where `grid` starts, so that a scan which has the model's spacing is not resampled
    at all, and covers the head as far as `grid` does. `advance` is told the share done, 0 to 1, after each scan.
    Raises InputInvalid: sequence_missing, affine_singular, not_finite, too_thin, empty, constant, no_overlap.
    """
    check_affine(grid.affine)
    scans = []
    for sequence in entry.sequences:
        scans.append(_examine(sequence, volumes))
        advance(0.4 * len(scans) / len(entry.sequences))
    warnings = _check_same_place(scans, grid)
    target = model_grid([scan.box for scan in scans], grid, spacing_mm=entry.spacing_mm)
    raw = np.empty((len(scans), *target.shape), dtype=np.float32)
    for channel, scan in enumerate(scans):
        raw[channel] = _on_grid(scan, target)
        advance(0.4 + 0.4 * (channel + 1) / len(scans))
    if any(scan.background is None for scan in scans):
        raw *= _head(raw, scans)
    for image, scan in zip(raw, scans, strict=True):
        _normalise(image, scan.sequence)
    return Prepared(tensor=raw, grid=target, warnings=(*warnings, *_twins(scans), *_skull(raw, target)))


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


def _examine(sequence: Sequence, volumes: Mapping[Sequence, Volume]) -> _Scan:
    if sequence not in volumes:
        raise InputInvalid("sequence_missing", "This sequence is needed and was not given.", subject=str(sequence))
    try:
        return _scan_of(sequence, volumes[sequence])
    except InputInvalid as error:
        raise error.about(str(sequence)) from error.__cause__


def _scan_of(sequence: Sequence, volume: Volume) -> _Scan:
    check_affine(volume.affine)
    extents = np.asarray(volume.grid.shape) * volume.grid.spacing_mm
    if min(volume.grid.shape) < MIN_SLICES or extents.min() < MIN_EXTENT_MM:
        raise InputInvalid("too_thin", f"{volume.grid.shape} voxels are too few for a scan of a head.")
    lowest, highest = float(np.min(volume.voxels)), float(np.max(volume.voxels))
    if not np.isfinite(lowest) or not np.isfinite(highest):
        raise InputInvalid("not_finite", "Some of its voxels are not finite numbers (NaN or infinity).")
    if lowest == highest:
        raise InputInvalid("empty" if lowest == 0 else "constant", f"Every voxel is {lowest:g}; it shows nothing.")
    background = _plain_background(volume.voxels)
    threshold = _otsu(volume.voxels, lowest, highest) if background is None else background
    seen = np.greater(volume.voxels, threshold) if background is None else volume.voxels != background
    if float(seen.sum()) * volume.grid.voxel_ml < MIN_FOREGROUND_ML:
        raise InputInvalid("empty", f"Less than {MIN_FOREGROUND_ML:g} mL of it is not background.")
    return _Scan(sequence, volume, background, float(threshold), _box(seen, volume.grid))


def _plain_background(voxels: npt.NDArray[np.generic]) -> float | None:
    """The one value that fills most of the outermost layer, as skull stripping leaves it; None if there is noise."""
    shell = np.concatenate(
        [face.ravel() for axis in range(3) for face in (voxels.take(0, axis), voxels.take(-1, axis))]
    )
    values, counts = np.unique(shell, return_counts=True)
    commonest = counts.argmax()
    return float(values[commonest]) if counts[commonest] >= _PLAIN_BACKGROUND_SHARE * shell.size else None


def _otsu(voxels: npt.NDArray[np.generic], lowest: float, highest: float) -> float:
    """The threshold that best parts air from head (Otsu 1979), on 256 bins of every second voxel an axis."""
    counts, edges = np.histogram(voxels[::2, ::2, ::2], bins=256, range=(lowest, highest))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1:-1][np.nanargmax(between)])


def _box(seen: npt.NDArray[np.bool_], grid: Grid) -> Grid:
    spans = [np.flatnonzero(seen.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    start = np.array([span[0] for span in spans])
    return sub_grid(grid, start, np.array([span[-1] + 1 for span in spans]))


def _check_same_place(scans: list[_Scan], grid: Grid) -> list[str]:
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


def _twins(scans: list[_Scan]) -> list[str]:
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


def _on_grid(scan: _Scan, target: Grid) -> npt.NDArray[np.float32]:
    if not scan.background:
        return resample(scan.volume, target)
    # Outside the scan is zero, so its background has to be zero as well.
    shifted = scan.volume.voxels.astype(np.float32) - np.float32(scan.background)
    return resample(Volume(voxels=shifted, affine=scan.volume.affine), target)


def _head(raw: npt.NDArray[np.float32], scans: list[_Scan]) -> npt.NDArray[np.bool_]:
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
