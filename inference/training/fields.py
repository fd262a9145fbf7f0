"""Random smooth fields on a voxel grid: the raw material of shapes, textures, bias and warps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.contract import Grid

Field = npt.NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, grid: Grid, *, scale_mm: float) -> Field:
    """(X, Y, Z) float32 noise with mean 0 and deviation 1, smooth over about `scale_mm`.

    Random values on a coarse lattice, blended by cubic B-splines along one axis at a time: three small matrix
    products, a hundred times faster than filtering white noise.
    """
    splines = [
        _spline_weights(count, step_voxels=max(scale_mm / step, 1.0), start=float(rng.uniform()))
        for count, step in zip(grid.shape, grid.spacing_mm, strict=True)
    ]
    lattice = rng.standard_normal([weights.shape[1] for weights in splines], dtype=np.float32)
    values = np.einsum("xa,abc->xbc", splines[0], lattice, optimize=True)
    values = np.einsum("yb,xbc->xyc", splines[1], values, optimize=True)
    values = np.einsum("zc,xyc->xyz", splines[2], values, optimize=True)
    return np.asarray((values - values.mean()) / (values.std() + 1e-6), np.float32)


def _spline_weights(count: int, *, step_voxels: float, start: float) -> Field:
    """(count, knots) cubic B-spline weights of every voxel; `start` shifts the lattice by part of a step."""
    position = np.arange(count, dtype=np.float64) / step_voxels + start
    cell = np.floor(position).astype(int)
    t = position - cell
    weights = np.zeros((count, int(cell[-1]) + 4), dtype=np.float32)
    basis = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    for offset, share in enumerate(basis):
        weights[np.arange(count), cell + offset] = share / 6.0
    return weights


def tubes(rng: np.random.Generator, grid: Grid, *, scale_mm: float, radius: float) -> Field:
    """(X, Y, Z) float32, 0 to 1: random curved tubes, where the zero surfaces of two noise fields cross."""
    first = smooth_noise(rng, grid, scale_mm=scale_mm)
    second = smooth_noise(rng, grid, scale_mm=scale_mm)
    return np.asarray(np.exp(-(first**2 + second**2) / radius**2), np.float32)


def world_points(grid: Grid) -> Field:
    """(3, X, Y, Z) float32: RAS+ mm of every voxel centre."""
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in grid.shape], indexing="ij")
    voxels = np.stack(axes)
    rotation = np.asarray(grid.affine[:3, :3], dtype=np.float32)
    origin = np.asarray(grid.affine[:3, 3], dtype=np.float32)
    turned = np.einsum("ij,jxyz->ixyz", rotation, voxels, optimize=True)
    return np.asarray(turned + origin[:, None, None, None], np.float32)
