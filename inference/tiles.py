"""The pieces a network sees of a head, and how their answers become one again. Arrays only, no network.

Flow: 6 run
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

Tile = tuple[slice, slice, slice]
Window = tuple[int, int, int]

GROWTH = 1.5
"""A window may grow by this factor in volume if the whole head then fits into one tile."""
_STEP = 8
"""Networks halve their input up to three times."""


def head_frame(tensor: npt.NDArray[np.float32], window: Window) -> Tile:
    """The box around what is not background in (C, X, Y, Z), at least as large as the window.

    It may reach out of the tensor. Background left in would cost tiles in which there is nothing to find.
    """
    seen = tensor.any(axis=0)
    x, y, z = (_span(np.any(seen, axis=tuple({0, 1, 2} - {axis})), edge) for axis, edge in enumerate(window))
    return x, y, z


def size_of(frame: Tile) -> tuple[int, int, int]:
    """Edges of a frame, in voxels."""
    x, y, z = (span.stop - span.start for span in frame)
    return x, y, z


def cut(tensor: npt.NDArray[np.float32], frame: Tile) -> npt.NDArray[np.float32]:
    """The part of (C, X, Y, Z) inside `frame`, with zeros where the frame reaches out of it."""
    piece = np.zeros((len(tensor), *size_of(frame)), dtype=np.float32)
    common = [
        slice(max(span.start, 0), min(span.stop, length)) for span, length in zip(frame, tensor.shape[1:], strict=True)
    ]
    there = [slice(kept.start - span.start, kept.stop - span.start) for kept, span in zip(common, frame, strict=True)]
    piece[(slice(None), *there)] = tensor[(slice(None), *common)]
    return piece


def back_from(frame: Tile, shape: tuple[int, int, int]) -> Tile:
    """What to `cut` from a piece made by `frame` to get an array of the original `shape` (X, Y, Z)."""
    x, y, z = (slice(-span.start, length - span.start) for span, length in zip(frame, shape, strict=True))
    return x, y, z


def window_for(shape: tuple[int, int, int], window: Window) -> Window:
    """The model's window, or a somewhat larger one if the whole of `shape` then fits into a single tile.

    A head a few voxels longer than the window would cost a second tile, twice the time, for nothing.
    """
    x, y, z = (max(edge, -(-length // _STEP) * _STEP) for length, edge in zip(shape, window, strict=True))
    return (x, y, z) if math.prod((x, y, z)) <= GROWTH * math.prod(window) else window


def tiles_of(shape: tuple[int, int, int], window: Window, *, overlap: float) -> list[Tile]:
    """Windows that cover `shape` (nowhere smaller than one) evenly, with at least the share `overlap` in common."""
    along_x, along_y, along_z = (_steps(length, edge, overlap) for length, edge in zip(shape, window, strict=True))
    return list(itertools.product(along_x, along_y, along_z))


class Canvas:
    """Sum of weighted tiles and of weights, so that their quotient is the blend at any time."""

    def __init__(self, *, channels: int, shape: tuple[int, int, int], window: Window) -> None:
        self._sum = np.zeros((channels, *shape), dtype=np.float32)
        self._weight = np.zeros(shape, dtype=np.float32)
        self._importance = gaussian(window)

    def add(self, tile: Tile, found: npt.NDArray[np.float32]) -> None:
        """Lay (C, *window) probabilities onto their place."""
        self._sum[(slice(None), *tile)] += found * self._importance
        self._weight[tile] += self._importance

    def blended(self) -> npt.NDArray[np.float32]:
        """(C, X, Y, Z); zero where no tile was."""
        return np.asarray(self._sum / np.maximum(self._weight, np.float32(1e-6)), dtype=np.float32)


def gaussian(window: Window) -> npt.NDArray[np.float32]:
    """Weight of a tile's voxels: 1 in the middle, falling with sigma = window / 8, never below 1e-3 (as nnU-Net)."""
    curves = [np.exp(-0.5 * ((np.arange(edge) - (edge - 1) / 2) / (edge / 8)) ** 2) for edge in window]
    weight = curves[0][:, None, None] * curves[1][None, :, None] * curves[2][None, None, :]
    return np.asarray(np.maximum(weight, 1e-3), dtype=np.float32)


def _span(seen: npt.NDArray[np.bool_], edge: int) -> slice:
    used = np.flatnonzero(seen)
    first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
    first -= max(0, edge - (last - first)) // 2
    return slice(first, max(last, first + edge))


def _steps(length: int, edge: int, overlap: float) -> list[slice]:
    step = max(1, int(edge * (1.0 - overlap)))
    count = 1 + max(0, -(-(length - edge) // step))
    starts = np.linspace(0, length - edge, count).round().astype(int)
    return [slice(int(start), int(start) + edge) for start in starts]
