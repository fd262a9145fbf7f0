"""NIfTI files out: the same voxels and grid give the same bytes.

Flow: 8 mask
"""

from __future__ import annotations

import gzip
import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt

from inference.contract import Volume

_SCANNER_SPACE = 1  # NIFTI_XFORM_SCANNER_ANAT
_LABELS_INTENT = 1002  # NIFTI_INTENT_LABEL
_VOXELS_AT = 352


def write_nifti(volume: Volume, path: Path, *, labels: bool = False) -> None:
    """Write (I, J, K) voxels as NIfTI-1 in the order given, gzipped if the name ends in .gz.

    `labels` marks the file as a label mask. The file appears under its name only when complete and on the disk.
    """
    part = path.with_name(path.name + ".part")
    with part.open("wb") as target:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=target, mtime=0) as packed:
                _write(volume, packed, labels=labels)
        else:
            _write(volume, target, labels=labels)
        target.flush()
        os.fsync(target.fileno())
    part.replace(path)


def nifti_bytes(volume: Volume, *, labels: bool = False) -> bytes:
    """The uncompressed NIfTI-1 file: header, then voxels in Fortran order without scaling."""
    buffer = BytesIO()
    _write(volume, buffer, labels=labels)
    return buffer.getvalue()


def _write(volume: Volume, target: BinaryIO | gzip.GzipFile, *, labels: bool) -> None:
    voxels = volume.voxels.astype(np.uint8) if volume.voxels.dtype.kind == "b" else volume.voxels
    image = nib.Nifti1Image(voxels, volume.affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    image.set_sform(volume.affine, code=_SCANNER_SPACE)
    # A qform is a rotation: it cannot say what a sheared affine says, and two truths in one file are worse than one.
    image.set_qform(volume.affine, code=0 if _is_sheared(volume.affine) else _SCANNER_SPACE)
    if labels:
        image.header.set_intent(_LABELS_INTENT, name="labels")
    image.header["vox_offset"] = _VOXELS_AT
    image.header.write_to(target)  # with the four bytes that say: no extensions
    # One transposition of the whole; nibabel writes slice by slice, which took five times as long.
    fortran = np.asfortranarray(voxels.astype(voxels.dtype.newbyteorder("<"), copy=False))
    target.write(fortran.T.data.cast("B"))


def _is_sheared(affine: npt.NDArray[np.float64]) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
