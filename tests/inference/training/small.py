"""A tiny head for tests: nested balls of CSF, grey and white matter, at 4 mm."""

from __future__ import annotations

import numpy as np

from inference.contract import Sequence
from inference.training.anatomy import Anatomy


def small_anatomy(*, with_scans: bool = False) -> Anatomy:
    """RAS+, 40x44x40 voxels of 4 mm, the brain a ball of 64 mm around the origin."""
    shape = (40, 44, 40)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-78.0, -86.0, -78.0]
    centres = np.stack(np.meshgrid(*[np.arange(n) * 4.0 for n in shape], indexing="ij"), -1) + affine[:3, 3]
    away = np.linalg.norm(centres, axis=-1)
    white = ((away < 48) & (away > 12)).astype(np.float32)
    grey = ((away >= 48) & (away < 58)).astype(np.float32)
    csf = (((away >= 58) & (away < 64)) | (away <= 12)).astype(np.float32)
    scans = {}
    if with_scans:
        brightness = {Sequence.T1: (0.7, 0.3), Sequence.T1CE: (0.8, 0.3), Sequence.T2: (1.3, 3.0)}
        brightness[Sequence.FLAIR] = (1.1, 0.2)
        scans = {s: (white + level[0] * grey + level[1] * csf) for s, level in brightness.items()}
    labels = np.zeros(shape, np.uint8)
    return Anatomy("small", affine, np.stack([grey, white, csf]), np.zeros(shape, np.float32), scans, labels)
