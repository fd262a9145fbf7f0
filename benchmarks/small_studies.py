"""Studies of a few voxels, for benchmarks that compute nothing."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np

from tests.system.stack import upload

NAMES = ("t1", "t1ce", "t2", "flair")
EDGE = 12


def small_study(client: httpx.Client, number: int) -> dict[str, Any]:
    """Upload four sequences of 12 voxels an edge; `number` makes one study differ from another."""
    random = np.random.default_rng(number)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name in NAMES:
            voxels = random.integers(1, 1000, (EDGE, EDGE, EDGE), dtype=np.int16)
            file = Path(folder) / f"case{number}_{name}.nii.gz"
            file.write_bytes(gzip.compress(nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes(), 1))
            files.append(file)
        return upload(client, files)
