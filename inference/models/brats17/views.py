"""How a head is laid before the networks: turned to a view, filled with noise where there is no brain, padded.

Everything here is [z, y, x] of an LPS volume, as the networks were trained: the arrays of the rest of this project,
[x, y, z] RAS+, with their axes turned round and the first two reversed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from inference.models.brats17.network import HALO

AXES = {"axial": (0, 1, 2), "sagittal": (2, 0, 1), "coronal": (1, 0, 2)}
"""Which axes of [z, y, x] become the slices, the rows and the columns of a view."""
LEAST_PLANE = {"axial": (180, 160), "sagittal": (160, 180), "coronal": (160, 160)}
"""Rows and columns of the first stage at least, as in training."""
LEAST_PLANE_OF_A_BOX = (96, 96)
MARGIN = 5
ANSWERED = 11
"""Slices a slab of 19 gives an answer for."""

_PLANE_STEP = 4

Box = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Laid:
    """`slices` (D, 4, H, W) float32, four slices of halo at either end, and where the box lies in the answer."""

    slices: Floats
    inner: Box


def as_trained(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """(C, X, Y, Z) RAS+ as (C, Z, Y, X) LPS: a view, so what is written into it is written through."""
    return array.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]


def box_around(mask: npt.NDArray[np.bool_], *, margin: int = MARGIN) -> Box:
    """The box of what is set, `margin` voxels wider where the array reaches; the whole array if nothing is."""
    spans = []
    for axis, length in enumerate(mask.shape):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (0, length)
        spans.append(slice(max(0, first - margin), min(length, last + margin)))
    return spans[0], spans[1], spans[2]


def with_noise(scans: Floats, rng: np.random.Generator) -> Floats:
    """A copy (4, Z, Y, X), each channel z-scored over what is not zero, N(0, 1) noise everywhere else.

    Scans that were z-scored before come out as from their raw intensities: the score does not change under scaling.
    """
    filled = rng.standard_normal(scans.shape, dtype=np.float32)
    for channel, image in zip(filled, scans, strict=True):
        inside = image != 0
        values = image[inside].astype(np.float64)
        if values.size:
            channel[inside] = (values - values.mean()) / max(float(values.std()), 1e-6)
    return filled


def lay(scans: Floats, view: str, *, least: tuple[int, int], rng: np.random.Generator, whole_slabs: bool) -> Laid:
    """Turn (4, Z, Y, X) to a view and pad it with noise, in the middle of the plane.

    `whole_slabs`: as many slices as slabs of 19 cover end to end, which their statistics count.
    """
    turned = scans.transpose(0, *(1 + axis for axis in AXES[view]))
    depth, *plane = turned.shape[1:]
    height, width = (
        max(edge, -(-length // _PLANE_STEP) * _PLANE_STEP) for length, edge in zip(plane, least, strict=True)
    )
    filled_depth = -(-depth // ANSWERED) * ANSWERED if whole_slabs else depth
    top, left = (height - plane[0]) // 2, (width - plane[1]) // 2
    inner = (slice(0, depth), slice(top, top + plane[0]), slice(left, left + plane[1]))
    slices = rng.standard_normal((filled_depth + 2 * HALO, len(scans), height, width), dtype=np.float32)
    slices[HALO : HALO + depth, :, inner[1], inner[2]] = turned.swapaxes(0, 1)
    return Laid(slices=slices, inner=inner)
