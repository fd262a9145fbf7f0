"""Small made-up heads: an ellipsoid of brain with a bright ball in it, on any grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.contract import Grid, Sequence, Volume

BALL_MM = np.array([20.0, 10.0, 5.0])
BALL_RADIUS_MM = 15.0
CORE_RADIUS_MM = 9.0
BRAIN_RADII_MM = np.array([55.0, 65.0, 50.0])


def grid(
    shape: tuple[int, int, int] = (60, 70, 56),
    *,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    axes: npt.NDArray[np.float64] | None = None,
) -> Grid:
    """A grid whose middle is the middle of the head. `axes` (3, 3): unit columns, RAS+ by default."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if axes is None else axes) * np.asarray(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Grid(shape=shape, affine=affine)


def points_mm(on: Grid) -> npt.NDArray[np.float64]:
    """(X, Y, Z, 3) world position of every voxel's centre."""
    index = np.stack(np.meshgrid(*(np.arange(length) for length in on.shape), indexing="ij"), axis=-1)
    return np.asarray(index @ on.affine[:3, :3].T + on.affine[:3, 3])


def ball(on: Grid, radius_mm: float = BALL_RADIUS_MM) -> npt.NDArray[np.bool_]:
    """Where the tumour is."""
    return np.asarray(np.linalg.norm(points_mm(on) - BALL_MM, axis=-1) < radius_mm)


def scan(sequence: Sequence, on: Grid, *, noise: float = 0.0) -> Volume:
    """One sequence of the head: background 0, brain about 300, int16."""
    at = points_mm(on)
    brain = np.linalg.norm(at / BRAIN_RADII_MM, axis=-1) < 1
    voxels = 300.0 + 30.0 * np.sin(at[..., 0] / 9.0) * np.sin(at[..., 1] / 7.0)
    if sequence in (Sequence.FLAIR, Sequence.T2):
        voxels[ball(on)] = 900.0
    if sequence is Sequence.T1CE:
        voxels[ball(on, CORE_RADIUS_MM)] = 900.0
    voxels = np.where(brain, voxels, 0.0)
    if noise:
        voxels += np.abs(np.random.default_rng(3).normal(scale=noise, size=on.shape))
    return Volume(voxels=voxels.astype(np.int16), affine=on.affine)


def head(on: Grid, *, noise: float = 0.0) -> dict[Sequence, Volume]:
    """All four sequences on one grid."""
    return {sequence: scan(sequence, on, noise=noise) for sequence in Sequence}


def dice(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Overlap, 0 to 1."""
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))
