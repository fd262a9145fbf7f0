"""Made-up results: a head in DICOM files or none, a ball of tumour on the patient's right, and what is said of it."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from inference.contract import ModelRef, Volume
from inference.dicom import load_volume, read_folder
from inference.export.dossier import Case
from inference.export.origin import Origin
from inference.volume import from_ras, to_ras
from tests.inference import heads
from tests.inference.dicom import images
from tests.tools import require_tool

MODEL = ModelRef(name="segresnet", version="1.0.0", sha256="ab" * 32)
ORIGIN = Origin(model=MODEL, subject="job-1", at=datetime(2026, 1, 2, 3, 4, 5))
SLICES, ROWS, COLUMNS = 20, 44, 40
SPACING = [4.0, 3.5]


def head_box() -> np.ndarray:
    """(slices, rows, columns) int16: an ellipsoid of brain in air, 4 mm slices of 4 by 3.5 mm."""
    z, y, x = np.indices((SLICES, ROWS, COLUMNS)) - (np.array([SLICES, ROWS, COLUMNS]).reshape(3, 1, 1, 1) - 1) / 2
    inside = (z * 4 / 50) ** 2 + (y * 4 / 80) ** 2 + (x * 3.5 / 62) ** 2 < 1
    return np.where(inside, 600 + (x + y + z).astype(np.int16) % 7, 3).astype(np.int16)


def head_files(folder: Path, **header: Any) -> Path:
    """The head as classic MR files."""
    return images.series(folder, head_box(), PixelSpacing=SPACING, **header)


def tumour_in(scan: Volume) -> np.ndarray:
    """(X, Y, Z) uint8 on a RAS+ scan: a ball, necrotic inside, enhancing around that, right of the head's middle."""
    at = heads.points_mm(scan.grid)
    extent = np.array(scan.grid.shape) * scan.grid.spacing_mm
    middle = at.reshape(-1, 3).mean(axis=0) + scan.affine[:3, 0] / scan.grid.spacing_mm[0] * 0.18 * extent[0]
    distance = np.linalg.norm(at - middle, axis=-1) / min(21.0, 0.3 * extent.min())
    return np.select([distance < 0.4, distance < 0.7, distance < 1.0], [1, 3, 2], 0).astype(np.uint8)


def case_of(folder: Path, **changes: Any) -> Case:
    """The result for the one series in a folder."""
    series = read_folder(folder)[0]
    stored = load_volume(series)
    scan = to_ras(stored)
    labels = changes.pop("labels", None)
    labels = tumour_in(scan) if labels is None else labels
    fields: dict[str, Any] = {
        "mask": Volume(from_ras(labels, like=stored.grid).astype(np.uint8), stored.affine),
        "labels": labels,
        "grid_ras": scan.affine,
        "origin": ORIGIN,
        "originals": sorted(one.path for one in series.instances),
        "scan": scan,
        "reference": "T1CE",
        "used": ("T1", "T1CE", "T2", "FLAIR"),
    }
    return Case(**{**fields, **changes})


def complaints(path: Path, kind: str = "Error") -> list[str]:
    """What dciodvfy says of a file."""
    program = require_tool("dciodvfy", package="dicom3tools")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(kind)]
