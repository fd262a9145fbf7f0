"""Where the real cases are: a folder `shared` beside the checkout, or SEGWIRE_SHARED. Tests without it skip."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SEGWIRE_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))


def _existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"real data is not here: shared/{path.relative_to(SHARED)} is missing")
    return path


def case_dir(name: str) -> Path:
    """Folder of one NIfTI case, `tcga_fg_6692/sri24` for example."""
    return _existing(SHARED / "data" / "cases" / name)


def dicom_dir(name: str) -> Path:
    """Folder of one DICOM study."""
    return _existing(SHARED / "data" / "dicom" / name)


def model_dir(name: str) -> Path:
    """Folder of real trained weights."""
    return _existing(SHARED / "models" / name)
