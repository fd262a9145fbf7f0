"""What lies around a brain that nobody has stripped: water, bone with marrow, muscle, fat.

Only the order, thickness and rough brightness of the layers are simulated, which is what a network must learn to
pass over.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.contract import Grid, Sequence
from inference.training.fields import Field, smooth_noise, world_points

# Lowest and highest brightness beside white matter 1: (fat of the scalp and marrow), (muscle and glands).
SOFT_TISSUE: Mapping[Sequence, tuple[tuple[float, float], tuple[float, float]]] = {
    Sequence.T1: ((1.0, 2.4), (0.45, 0.9)),
    Sequence.T1CE: ((1.0, 2.4), (0.6, 1.9)),
    Sequence.T2: ((0.7, 2.4), (0.3, 1.2)),
    Sequence.FLAIR: ((0.6, 2.2), (0.4, 1.4)),
}


def add_skull(
    rng: np.random.Generator,
    images: dict[Sequence, Field],
    *,
    brain: Field,
    csf: Mapping[Sequence, float],
    grid: Grid,
) -> Field:
    """Paint the layers around `brain` into `images`; returns the head, (X, Y, Z) float32 0 or 1."""
    away = np.asarray(ndimage.distance_transform_edt(brain == 0, sampling=grid.spacing_mm), np.float32)
    away = away + float(rng.uniform(0.5, 2.0)) * smooth_noise(rng, grid, scale_mm=25.0)
    water_mm = float(rng.uniform(0.5, 4.0))
    bone_mm = water_mm + float(rng.uniform(4.0, 9.0))
    scalp_mm = bone_mm + float(rng.uniform(4.0, 10.0))
    face = _face(rng, brain=brain, grid=grid)
    head = (away < scalp_mm + 12.0 * face) | (brain > 0)
    eyes = _eyes(rng, brain=brain, grid=grid) & (away > water_mm)
    mucosa = smooth_noise(rng, grid, scale_mm=12.0) > 1.0
    marrow = np.exp(-(((away - (water_mm + bone_mm) / 2) / 1.5) ** 2)) * float(rng.uniform(0.0, 0.8))
    lumps = smooth_noise(rng, grid, scale_mm=10.0)
    for sequence, (fat_range, muscle_range) in SOFT_TISSUE.items():
        fat, muscle = float(rng.uniform(*fat_range)), float(rng.uniform(*muscle_range))
        bone = float(rng.uniform(0.03, 0.25))
        layers = np.where(away < water_mm, csf[sequence], np.where(away < bone_mm, bone + marrow * (fat - bone), fat))
        below = np.where(lumps > 0.6, fat, np.where(lumps < -0.9, 0.05, muscle)) * (1.0 + 0.1 * lumps)
        shell = np.where(face & (away > water_mm), below, layers)
        shell = np.where(mucosa & face & (away > water_mm), max(muscle, fat) * float(rng.uniform(0.8, 1.3)), shell)
        shell = np.where(eyes, csf[sequence], shell) * (1.0 + 0.08 * lumps)
        images[sequence] = np.where(brain > 0, images[sequence], shell * head).astype(np.float32)
    return head.astype(np.float32)


def _face(rng: np.random.Generator, *, brain: Field, grid: Grid) -> npt.NDArray[np.bool_]:
    """Where neck and face replace the regular layers: below a tilted plane through the lower third of the brain."""
    points = world_points(grid)
    inside = brain > 0
    low, high = np.percentile(points[2][inside], [1, 99])
    front = points[1] - points[1][inside].mean()
    level = low + (high - low) * float(rng.uniform(0.1, 0.3)) + front * float(rng.uniform(0.1, 0.35))
    wavy = points[2] + 4.0 * smooth_noise(rng, grid, scale_mm=30.0)
    return np.asarray(wavy < level, np.bool_)


def _eyes(rng: np.random.Generator, *, brain: Field, grid: Grid) -> npt.NDArray[np.bool_]:
    """Two balls of water in front of and below the brain, half hidden by it."""
    points = world_points(grid)
    inside = points[:, brain > 0]
    middle = np.median(inside[0])
    front = np.percentile(inside[1], 99) - float(rng.uniform(0.0, 20.0))
    level = np.percentile(inside[2], 20) + float(rng.uniform(-12.0, 12.0))
    apart = np.abs(np.abs(points[0] - middle) - float(rng.uniform(28.0, 36.0)))
    return np.asarray(apart**2 + (points[1] - front) ** 2 + (points[2] - level) ** 2 < float(rng.uniform(9, 13)) ** 2)
