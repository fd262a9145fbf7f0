"""Bringing scans onto one grid by their positions in space: resampling, and whether two scans show the same place.

Positions come from the headers alone; a patient who moved between two sequences is not followed.

Flow: 6 run
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.contract import Grid, Volume

# Grids whose axes differ by less than this, in source voxels over the whole extent, count as parallel.
_PARALLEL_VOXELS = 0.05
_LATTICE_POINTS = 16


def resample(volume: Volume, grid: Grid) -> npt.NDArray[np.float32]:
    """The scan at the points of `grid`: (X, Y, Z) float32, zero where the scan does not reach.

    Trilinear between voxels. Where `grid` is coarser than the scan, the triangle widens to the coarser step, so
    that every voxel of the scan counts and noise is averaged rather than sampled.
    """
    to_source = np.linalg.inv(volume.affine) @ grid.affine
    axes = _parallel_axes(to_source, grid.shape)
    if axes is None:
        return _resample_rotated(volume.voxels, to_source, grid.shape)
    return _resample_parallel(volume.voxels, to_source, grid.shape, axes=axes)


def common_share(first: Grid, second: Grid) -> float:
    """How much of the smaller of two boxes lies inside the other, 0 to 1. Grids may be rotated to each other."""
    return max(_share_inside(first, second), _share_inside(second, first))


def covered_share(grid: Grid, by: Grid) -> float:
    """How much of `grid` lies inside the box of `by`, 0 to 1."""
    return _share_inside(grid, by)


def sub_grid(grid: Grid, start: npt.NDArray[np.int_], stop: npt.NDArray[np.int_]) -> Grid:
    """The part of `grid` from voxel `start` up to, not including, voxel `stop`; both may lie outside of it."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.affine[:3, :3] @ start + grid.affine[:3, 3]
    x, y, z = (int(length) for length in np.asarray(stop) - np.asarray(start))
    return Grid(shape=(x, y, z), affine=affine)


def box_corners(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """(8, 3) voxel coordinates of the outer corners of an array, half a voxel beyond the first and last centres."""
    steps = np.stack(np.meshgrid(*[(0, 1)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
    return np.asarray(steps * np.asarray(shape, dtype=np.float64) - 0.5)


def apply_affine(affine: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 3) points moved by a 4 by 4 matrix."""
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])


def _share_inside(grid: Grid, box: Grid) -> float:
    ticks = [(np.arange(_LATTICE_POINTS) + 0.5) / _LATTICE_POINTS * length - 0.5 for length in grid.shape]
    lattice = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    found = apply_affine(np.linalg.inv(box.affine) @ grid.affine, lattice)
    inside = (found >= -0.5).all(axis=1) & (found <= np.asarray(box.shape) - 0.5).all(axis=1)
    return float(inside.mean())


def _parallel_axes(to_source: npt.NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """For each source axis the target axis that runs along it, or None if the grids are turned to each other."""
    drift = np.abs(to_source[:3, :3]) * np.asarray(shape)
    first, second, third = (int(axis) for axis in drift.argmax(axis=1))
    if {first, second, third} != {0, 1, 2}:
        return None
    np.put_along_axis(drift, np.array([[first], [second], [third]]), 0.0, axis=1)
    return (first, second, third) if drift.max() < _PARALLEL_VOXELS else None


def _resample_parallel(
    voxels: npt.NDArray[np.generic],
    to_source: npt.NDArray[np.float64],
    shape: tuple[int, int, int],
    *,
    axes: tuple[int, int, int],
) -> npt.NDArray[np.float32]:
    """Three small matrix products, one an axis: exact, and ten times faster than gathering eight neighbours a point."""
    source_axis = np.argsort(axes)  # which source axis feeds target axis 0, 1, 2
    turned = voxels.transpose(source_axis)
    weights, window = [], []
    for target, source in enumerate(source_axis):
        positions = to_source[source, target] * np.arange(shape[target]) + to_source[source, 3]
        matrix, used = _triangle_weights(positions, length=voxels.shape[source], step=abs(to_source[source, target]))
        weights.append(matrix)
        window.append(used)
    block = np.ascontiguousarray(turned[tuple(window)], dtype=np.float32)
    for matrix in weights:
        # (X, Y, Z) becomes (Y, Z, new X): one product an axis, no copies, and after three the order is back.
        _, *rest = block.shape
        flat = block.reshape(len(block), -1).T
        block = (flat if _is_identity(matrix) else flat @ matrix.T).reshape(*rest, len(matrix))
    return np.ascontiguousarray(block, dtype=np.float32)


def _triangle_weights(
    positions: npt.NDArray[np.float64], *, length: int, step: float
) -> tuple[npt.NDArray[np.float32], slice]:
    """(targets, used sources) float32 rows that sum to one, or to zero outside the scan, and which sources they use."""
    width = max(1.0, step)
    # Rounding in the affine must not push a point on the outermost edge out of the scan.
    inside = (positions >= -0.5 - 1e-4) & (positions <= length - 0.5 + 1e-4)
    centres = np.clip(positions, 0, length - 1)
    rows = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(length)[None, :]) / width)
    rows[rows < 1e-4] = 0.0
    rows *= (inside / rows.sum(axis=1))[:, None]
    used = np.flatnonzero(rows.any(axis=0))
    window = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 1)
    return rows[:, window].astype(np.float32), window


def _is_identity(matrix: npt.NDArray[np.float32]) -> bool:
    return matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix), dtype=np.float32))


def _resample_rotated(
    voxels: npt.NDArray[np.generic], to_source: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    steps = np.linalg.norm(to_source[:3, :3], axis=1)
    smooth = voxels.astype(np.float32)
    if steps.max() > 1.2:
        # The standard deviation of a triangle as wide as the step, less that of the interpolation's own.
        sigma = np.sqrt(np.maximum(steps**2 - 1.0, 0.0) / 6.0)
        smooth = ndimage.gaussian_filter(smooth, sigma, mode="nearest", truncate=3.0)
    found = ndimage.affine_transform(
        smooth, to_source[:3, :3], to_source[:3, 3], output_shape=shape, order=1, mode="grid-constant", cval=0.0
    )
    return np.asarray(found, dtype=np.float32)
