"""What the voxels themselves say of the contrast of tissues, as a few numbers without a unit.

The scan is averaged to voxels of about 3 mm, the head is told from the air, and inside it, away from skin and skull,
brightness is measured beside the typical brightness of the brain. Two things tell the sequences apart whatever the
scaling: how dark the dark and how bright the bright parts are (fluid is dark on T1 and FLAIR, bright on T2), and
where the edges lie. White matter is uniform and grey matter is thin and folded, so that on T1, where white matter is
the brightest, bright parts have few edges; on FLAIR, where grey matter is, they have many; on T2 fluid is, and they
have the most.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.contract import Volume
from inference.thresholds import otsu
from inference.volume import to_ras

Field = npt.NDArray[np.float32]
Where = npt.NDArray[np.bool_]

EDGE_MM = 3.0
UPPER_MM = 120.0
"""Below this from the top of the head are neck and face."""
SKIN_MM, MARGIN_MM = 18.0, 6.0
"""How far inside the brain begins, with skin and skull and without."""
PLAIN_SHARE = 0.3
"""With this share of the voxels at one value, that value is the background that stripping has left."""
MOST_BRAIN_MM3 = 2.4e6
LEAST_EXTENT_MM, LEAST_SLICES, LEAST_VOXELS, LEAST_PART = 70.0, 8, 800, 60
_SAMPLES = 3
"""Along an edge of a block, at most so many voxels are averaged."""
_BIAS_MM, _DETAIL_MM = 18.0, 9.0


def fingerprint(volume: Volume) -> dict[str, float]:
    """The fingerprint of a scan of a head, (I, J, K) in any stored order and scale; empty where it shows too little.

    `darkest`, `brightest`: the darkest and the brightest per cent of the brain beside what lies around. `edges_1` to
    `edges_5`: strength of edges from dark to bright parts beside that of the whole. `folds`: near the surface, how
    far bright folds stand out beside how far dark ones do. These are typical values of the eight parts of the brain,
    left and right, front and back, above and below, so that a tumour in one or two of them changes little.
    `fluid_low`, `fluid_high`: extremes near the ventricles. `specks`: how far small bright things stand out there
    beside dark ones: vessels after contrast agent. `is_stripped`: 1 without skull, 0 with.
    """
    coarse = _coarse(volume)
    spacing = np.asarray(coarse.grid.spacing_mm)
    if min(coarse.voxels.shape) < LEAST_SLICES or (np.asarray(coarse.grid.shape) * spacing).min() < LEAST_EXTENT_MM:
        return {}
    scan, background_share = _without_air_level(np.asarray(coarse.voxels, dtype=np.float32))
    head, is_stripped = _head_or_brain(scan, spacing, background_share)
    depth = _depth(head, spacing)
    edge = MARGIN_MM if is_stripped else SKIN_MM
    brain, centre = depth > edge, depth > edge + 0.4 * (depth.max() - edge)
    if np.count_nonzero(brain) < LEAST_VOXELS or np.count_nonzero(centre) < LEAST_VOXELS // 4:
        return {}
    typical = float(np.median(scan[centre]))
    if typical <= 0:
        return {}
    even = _without_bias(scan / typical, brain, spacing)
    inner, outer = depth > edge + 4.0, brain & (depth < edge + 20.0)
    strength = _strength(even, spacing)
    found = _typical([_tissues(even[part], strength[part]) for part in _eighths(inner)])
    detail = _detail(even, spacing)
    found |= _typical([_folds(detail[part]) for part in _eighths(outer)])
    found |= _ventricles(scan / typical, brain, centre, spacing)
    found["is_stripped"] = float(is_stripped)
    return {name: round(float(value), 4) for name, value in found.items()}


def _coarse(volume: Volume) -> Volume:
    """(X, Y, Z) float32 means over blocks of about 3 mm, in RAS+ order; never more memory than a few slices."""
    voxels = volume.voxels
    counts = np.maximum(1, np.round(EDGE_MM / np.asarray(volume.grid.spacing_mm))).astype(int)
    shape = np.maximum(1, np.asarray(voxels.shape) // counts)
    counts = np.minimum(counts, voxels.shape)
    steps = -(-counts // _SAMPLES)
    means = np.empty(shape, np.float32)
    for place in range(shape[2]):
        start = place * counts[2]
        slab = voxels[: shape[0] * counts[0], : shape[1] * counts[1], start : start + counts[2] : steps[2]]
        flat = slab.astype(np.float32).mean(axis=2)
        blocks = flat.reshape(shape[0], counts[0], shape[1], counts[1])
        means[:, :, place] = blocks[:, :: steps[0], :, :: steps[1]].mean(axis=(1, 3))
    affine = volume.affine.copy()
    affine[:3, :3] = affine[:3, :3] * counts
    return to_ras(Volume(voxels=means, affine=affine))


def _without_air_level(scan: Field) -> tuple[Field, float]:
    """The scan with air at 0, and the share of its voxels that are exactly so."""
    sides = np.concatenate([face.ravel() for axis in (0, 1) for face in (scan.take(0, axis), scan.take(-1, axis))])
    above = np.asarray(scan - np.median(sides), np.float32)
    top = float(np.percentile(above, 99.5))
    return above, float((np.abs(above) <= 1e-4 * abs(top)).mean())


def _head_or_brain(scan: Field, spacing: npt.NDArray[np.float64], background_share: float) -> tuple[Where, bool]:
    """The head, or the brain that stripping has left; some scanners set the air at the rim to zero as well."""
    if background_share >= PLAIN_SHARE:
        brain = _head(scan, spacing, is_stripped=True)
        if np.count_nonzero(brain) * spacing.prod() <= MOST_BRAIN_MM3:
            return brain, True
    return _head(scan, spacing, is_stripped=False), False


def _head(scan: Field, spacing: npt.NDArray[np.float64], *, is_stripped: bool) -> Where:
    """The largest bright thing, slice by slice without holes, down to `UPPER_MM` from its top."""
    top = float(np.percentile(scan, 99.5))
    floor = 1e-3 * top if is_stripped else 0.5 * otsu(np.clip(scan, 0.0, top))
    pieces, count = ndimage.label(ndimage.binary_opening(scan > floor))
    if not count:
        return np.zeros(scan.shape, np.bool_)
    largest = np.pad(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax(), 6)
    closed = ndimage.binary_closing(largest, structure=np.ones((3, 3, 1), np.bool_), iterations=3)[6:-6, 6:-6, 6:-6]
    for place in range(closed.shape[2]):
        closed[:, :, place] = ndimage.binary_fill_holes(closed[:, :, place])
    highest = int(np.flatnonzero(closed.any(axis=(0, 1)))[-1])
    closed[:, :, : max(0, highest + 1 - round(UPPER_MM / spacing[2]))] = False
    return np.asarray(closed, np.bool_)


def _depth(head: Where, spacing: npt.NDArray[np.float64]) -> Field:
    """Distance to the outside in mm; the lower end, where the head goes on, is no outside."""
    padded = np.pad(head, ((1, 1), (1, 1), (0, 1)))
    return np.asarray(ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, :-1], np.float32)


def _without_bias(scan: Field, brain: Where, spacing: npt.NDArray[np.float64]) -> Field:
    """The scan beside the mean of what is neither very dark nor very bright around; 1 outside the brain."""
    tissue = brain & (scan > 0.6) & (scan < 1.5)
    weight = ndimage.gaussian_filter(tissue.astype(np.float32), _BIAS_MM / spacing)
    around = ndimage.gaussian_filter(np.where(tissue, scan, 0).astype(np.float32), _BIAS_MM / spacing)
    level = around / np.maximum(weight, 1e-3)
    return np.asarray(np.where(brain, scan / np.maximum(level, 0.2), 1.0), np.float32)


def _strength(even: Field, spacing: npt.NDArray[np.float64]) -> Field:
    # Along Z slices may be thick: there the edges of a thin fold are lost.
    along = [np.gradient(even, spacing[axis], axis=axis) ** 2 for axis in (0, 1)]
    return np.asarray(np.sqrt(along[0] + along[1]), np.float32)


def _detail(scan: Field, spacing: npt.NDArray[np.float64]) -> Field:
    return np.asarray(scan - ndimage.gaussian_filter(scan, _DETAIL_MM / spacing), np.float32)


def _eighths(inside: Where) -> list[Where]:
    """The parts left and right, front and back, above and below the middle; none that is too small to tell."""
    parts = [inside]
    for axis, along in enumerate(np.nonzero(inside)):
        low = np.zeros(inside.shape, np.bool_)
        low[(slice(None),) * axis + (slice(0, int(np.median(along))),)] = True
        parts = [part & side for part in parts for side in (low, ~low)]
    return [part for part in parts if np.count_nonzero(part) >= LEAST_PART] or [inside]


def _typical(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.median([one[name] for one in found])) for name in found[0]}


def _tissues(values: Field, strength: Field) -> dict[str, float]:
    darkest, *cuts, brightest = np.percentile(values, [1, 10, 30, 50, 70, 90, 97, 97])
    found = {"darkest": float(darkest), "brightest": float(brightest)}
    typical = float(np.median(strength)) or 1.0
    for number, (low, high) in enumerate(pairwise(cuts), start=1):
        part = strength[(values >= low) & (values < high)]
        found[f"edges_{number}"] = float(np.median(part)) / typical if part.size else 1.0
    return found


def _folds(detail: Field) -> dict[str, float]:
    down, middle, up = np.percentile(detail, [10, 50, 90])
    return {"folds": float((up - middle) / max(middle - down, 1e-3))}


def _ventricles(scan: Field, brain: Where, centre: Where, spacing: npt.NDArray[np.float64]) -> dict[str, float]:
    low, high = np.percentile(scan[centre], [1, 97])
    detail = _detail(np.where(brain, scan, 1.0).astype(np.float32), spacing)[centre]
    down, middle, up = np.percentile(detail, [10, 50, 99])
    return {"fluid_low": low, "fluid_high": high, "specks": (up - middle) / max(middle - down, 1e-3)}
