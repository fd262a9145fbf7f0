"""Patients who do not exist, as small as the analysis takes them: a ball of 30 mm, so that a job costs little."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SEQUENCES = ("t1", "t1ce", "t2", "flair")
VOXELS = 24
SPACING_MM = 1.3
"""The ball has 11 mL; the analysis refuses less than 10."""
BRIGHTNESS = {"t1": -40, "t1ce": 80, "t2": 60, "flair": 90}


def make_patient(folder: Path, *, seed: int, voxels: int = VOXELS, spacing_mm: float = SPACING_MM) -> list[Path]:
    """Four NIfTI files: a ball with a bright core that lies elsewhere in every patient."""
    folder.mkdir(parents=True, exist_ok=True)
    luck = np.random.default_rng(seed)
    places = np.indices((voxels,) * 3) - voxels / 2 + 0.5
    core = places - luck.uniform(-0.12, 0.12, (3, 1, 1, 1)) * voxels
    ball = np.sqrt((places**2).sum(0)) < 0.45 * voxels
    lesion = np.sqrt((core**2).sum(0)) < 0.15 * voxels
    affine = np.diag([spacing_mm] * 3 + [1.0])
    files = []
    for name in SEQUENCES:
        image = ball * (100 + 10 * luck.standard_normal(ball.shape)) + lesion * BRIGHTNESS[name]
        files.append(folder / f"patient{seed}_{name}.nii.gz")
        nib.save(nib.Nifti1Image(image.astype(np.int16), affine), files[-1])
    return files
