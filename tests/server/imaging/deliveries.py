"""Files as users bring them: made-up DICOM series, NIfTI scans, archives."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from django.core.files.uploadedfile import SimpleUploadedFile

from inference.contract import Volume
from inference.export.nifti import nifti_bytes, write_nifti
from tests.inference.dicom import images

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -30], [0, 0, 3, 5], [0, 0, 0, 1.0]])


def scan(*, seed: int = 0, shape: tuple[int, int, int] = (12, 10, 8)) -> Volume:
    """A volume of noise, LAS."""
    return Volume(np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16), AFFINE)


def nifti(name: str, *, seed: int = 0) -> SimpleUploadedFile:
    """An uncompressed or gzipped NIfTI file."""
    import gzip

    content = nifti_bytes(scan(seed=seed))
    return SimpleUploadedFile(name, gzip.compress(content) if name.endswith(".gz") else content)


def four_niftis() -> list[SimpleUploadedFile]:
    """The four sequences of one patient."""
    return [nifti(name, seed=seed) for seed, name in enumerate(("t1.nii", "t1ce.nii.gz", "t2.nii.gz", "flair.nii"))]


def dicom_files(folder: Path, **header: object) -> list[SimpleUploadedFile]:
    """One made-up series, a file a slice."""
    images.series(folder, **header)
    return [SimpleUploadedFile(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def zipped(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def nifti_file(folder: Path, name: str, *, seed: int = 0) -> Path:
    """A NIfTI file on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    write_nifti(scan(seed=seed), folder / name)
    return folder / name
