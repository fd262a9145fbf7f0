"""A made-up head with skull, known at every point in space: no interpolation between it and what a test asks for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.contract import Grid, Sequence, Volume
from inference.likeness import turned
from tests.inference import heads

# Brightness of air, scalp, bone, water, white matter, grey matter, and a lesion, per sequence.
CONTRAST = {
    Sequence.T1: (0, 900, 60, 150, 600, 420, 300),
    Sequence.T1CE: (0, 950, 70, 160, 620, 440, 900),
    Sequence.T2: (0, 500, 50, 1000, 300, 450, 800),
    Sequence.FLAIR: (0, 600, 50, 120, 350, 500, 950),
}
SCALP_MM = np.array([72.0, 95.0, 84.0])
BONE_MM, WATER_MM, BRAIN_MM = SCALP_MM - 7, SCALP_MM - 14, SCALP_MM - 17
BRAIN_ML = float(4 / 3 * np.pi * np.prod(BRAIN_MM) / 1000)
_FOLDS_MM = 8.0

# Middle and radii in mm: a nose, and ventricles of which one is larger, so that no turn brings the head onto itself.
_NOSE = ((0.0, 98.0, -35.0), (14.0, 16.0, 22.0))
_VENTRICLES = (((-14.0, 5.0, 8.0), (8.0, 30.0, 10.0)), ((15.0, 2.0, 9.0), (11.0, 34.0, 13.0)))
_LESION = ((28.0, 32.0, 20.0), (13.0, 10.0, 12.0))


def movement(*, degrees: tuple[float, float, float], mm: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """(4, 4) by which the patient moved: turned around the head's middle, then shifted."""
    matrix = turned(np.asarray(degrees), about=np.zeros(3))
    matrix[:3, 3] += mm
    return matrix


def scan(sequence: Sequence, on: Grid, *, moved: npt.NDArray[np.float64] | None = None, noise: float = 15.0) -> Volume:
    """What a scanner sees on `on` when the patient has moved by `moved`; thick slices average what lies in them."""
    back = np.linalg.inv(np.eye(4) if moved is None else moved)
    steps = [max(1, round(edge / 2.0)) for edge in on.spacing_mm]
    total = np.zeros(on.shape)
    offsets = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in steps), indexing="ij"), -1).reshape(-1, 3)
    for offset in offsets:
        points = heads.points_mm(on) + on.affine[:3, :3] @ offset
        total += _brightness(sequence, points @ back[:3, :3].T + back[:3, 3])
    seen = total / len(offsets)
    real, imaginary = np.random.default_rng(len(sequence)).normal(scale=noise, size=(2, *on.shape))
    return Volume(voxels=np.hypot(seen + real, imaginary).astype(np.int16), affine=on.affine)


def _brightness(sequence: Sequence, at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    air, scalp, bone, water, white, grey, lesion = CONTRAST[sequence]
    x, y, z = np.moveaxis(at, -1, 0)
    folds = np.sin(x / _FOLDS_MM + 0.3) * np.sin(y / _FOLDS_MM) * np.sin(z / _FOLDS_MM + 1.0) > 0.15
    inside = [
        _inside(at, (0, 0, 0), SCALP_MM) | _inside(at, *_NOSE),
        _inside(at, (0, 0, 0), BONE_MM),
        _inside(at, (0, 0, 0), WATER_MM),
        _inside(at, (0, 0, 0), BRAIN_MM),
        _inside(at, (0, 0, 0), BRAIN_MM) & folds,
        _inside(at, *_VENTRICLES[0]) | _inside(at, *_VENTRICLES[1]),
        _inside(at, *_LESION),
    ]
    seen = np.full(at.shape[:-1], float(air))
    for where, value in zip(inside, (scalp, bone, water, white, grey, water, lesion), strict=True):
        seen[where] = value
    return seen


def _inside(at: npt.NDArray[np.float64], middle: object, radii: object) -> npt.NDArray[np.bool_]:
    return np.asarray((((at - np.asarray(middle)) / np.asarray(radii)) ** 2).sum(axis=-1) < 1)
