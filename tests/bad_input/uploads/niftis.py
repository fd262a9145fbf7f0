"""NIfTI files that are not what they claim to be: `name: (bytes, the code that is answered)`."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Callable

import nibabel as nib
import numpy as np

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -30], [0, 0, 3, 5], [0, 0, 0, 1.0]])


def good(*, dtype: str = "<i2", version: int = 1) -> bytes:
    """A small scan."""
    voxels = np.arange(12 * 10 * 8).reshape(12, 10, 8).astype(dtype)
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(voxels, AFFINE)
    return image.to_bytes()


def _at(offset: int, form: str, *values: float) -> Callable[[], bytes]:
    """The good one with other numbers at a place of the header (nifti1.h)."""

    def make() -> bytes:
        content, change = good(), struct.pack(form, *values)
        return content[:offset] + change + content[offset + len(change) :]

    return make


def _second(offset: int, form: str, *values: float) -> Callable[[], bytes]:
    """The same for the header of NIfTI-2."""

    def make() -> bytes:
        content, change = good(version=2), struct.pack(form, *values)
        return content[:offset] + change + content[offset + len(change) :]

    return make


def _voxels(value: float, *, dtype: str = "<f4") -> Callable[[], bytes]:
    def make() -> bytes:
        voxels = np.zeros((12, 10, 8), dtype)
        voxels[3, 4, 5] = value
        return nib.Nifti1Image(voxels, AFFINE).to_bytes()

    return make


def _saved(voxels: np.ndarray, affine: np.ndarray | None = AFFINE) -> Callable[[], bytes]:
    return lambda: nib.Nifti1Image(voxels, affine).to_bytes()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros((4, 4, 4)))
    return out.getvalue()


def _npy_of_objects() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([print, {}], dtype=object), allow_pickle=True)
    return out.getvalue()


_NAN, _INF = float("nan"), float("inf")
_DIM, _TYPE, _OFFSET, _SLOPE, _QFORM, _SFORM = 40, 70, 108, 112, 252, 280
_SHEAR = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])

NIFTIS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "not_an_image"),
    "a header alone": (lambda: good()[:352], "truncated"),
    "half a header": (lambda: good()[:200], "not_an_image"),
    "cut off": (lambda: good()[:-100], "truncated"),
    "a gzip cut off": (lambda: gzip.compress(good())[:-20], "truncated"),
    "a gzip of nothing": (lambda: gzip.compress(b""), "not_nifti"),
    "a gzip of a gzip": (lambda: gzip.compress(gzip.compress(good())), "not_nifti"),
    "a gzip with a wrong checksum": (lambda: gzip.compress(good())[:-8] + bytes(8), "truncated"),
    "a gzip bomb of zeros": (lambda: gzip.compress(bytes(64 << 20)), "not_nifti"),
    "dimensions of a planet": (_at(_DIM, "<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1), "too_large"),
    "dimensions beyond the file": (_at(_DIM, "<8h", 3, 200, 200, 200, 1, 1, 1, 1), "truncated"),
    "dimensions below zero": (_at(_DIM, "<8h", 3, -12, 10, 8, 1, 1, 1, 1), "too_large"),
    "dimensions of zero": (_at(_DIM, "<8h", 3, 0, 10, 8, 1, 1, 1, 1), "too_large"),
    "no dimensions": (_at(_DIM, "<8h", 0, 12, 10, 8, 1, 1, 1, 1), "not_3d"),
    "nine dimensions": (_at(_DIM, "<8h", 9, 12, 10, 8, 1, 1, 1, 1), "not_nifti"),
    "five dimensions": (_saved(np.zeros((4, 4, 4, 1, 2), np.int16)), "not_3d"),
    "four dimensions": (_saved(np.zeros((4, 4, 4, 2), np.int16)), "not_3d"),
    "two dimensions": (_saved(np.zeros((4, 4), np.int16)), "not_3d"),
    "NIfTI-2 dimensions whose product is 2 to the 64": (_second(16, "<4q", 3, 1 << 32, 1 << 31, 2), "too_large"),
    "NIfTI-2 dimensions below zero": (_second(16, "<4q", 3, -12, -10, 8), "too_large"),
    "complex voxels": (_saved(np.zeros((4, 4, 4), np.complex64)), "not_real"),
    "colour": (_saved(np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "not_real"),
    "an unknown type": (_at(_TYPE, "<2h", 9999, 16), "not_nifti"),
    "voxels behind the end": (_at(_OFFSET, "<f", 1e9), "truncated"),
    "voxels before the beginning": (_at(_OFFSET, "<f", -1000.0), "not_nifti"),
    "voxels at NaN": (_at(_OFFSET, "<f", _NAN), "not_nifti"),
    "voxels at infinity": (_at(_OFFSET, "<f", _INF), "not_nifti"),
    "a slope that overflows": (_at(_SLOPE, "<2f", 3e38, 3e38), "not_finite"),
    "no sform, no qform": (_at(_QFORM, "<2h", 0, 0), "no_orientation"),
    "an affine of NaN": (_at(_SFORM, "<12f", *[_NAN] * 12), "affine_singular"),
    "an affine of infinity": (_at(_SFORM, "<12f", *[_INF] * 12), "affine_singular"),
    "an affine of zeros": (_at(_SFORM, "<12f", *[0.0] * 12), "affine_singular"),
    "an affine of light years": (
        _saved(np.zeros((4, 4, 4), np.int16), np.diag([1e19, 1e19, 1e19, 1])),
        "affine_singular",
    ),
    "an affine of atoms": (_saved(np.zeros((4, 4, 4), np.int16), np.diag([1e-9, 1e-9, 1e-9, 1])), "affine_singular"),
    "an origin in another galaxy": (_at(_SFORM + 12, "<f", 1e30), "affine_singular"),
    "a flat affine": (_saved(np.zeros((4, 4, 4), np.int16), _SHEAR), "affine_singular"),
    "a quaternion that is none": (_at(_QFORM, "<2h3f", 1, 0, 9.0, 9.0, 9.0), "not_nifti"),
    "a voxel of NaN": (_voxels(_NAN), "not_finite"),
    "a voxel of infinity": (_voxels(_INF), "not_finite"),
    "a voxel beyond float32": (_voxels(1e300, dtype="<f8"), "not_finite"),
    "noise": (lambda: np.random.default_rng(2).bytes(5000), "not_an_image"),
    "a numpy array": (_npy, "not_an_image"),
    "a numpy array of objects": (_npy_of_objects, "not_an_image"),
    "a pickle": (lambda: pickle.dumps(print), "not_an_image"),
    "a letter": (lambda: b"%PDF-1.7\n", "not_an_image"),
    "a pair's header": (lambda: good().replace(b"n+1\0", b"ni1\0"), "not_an_image"),
    "an Analyze image": (
        lambda: nib.AnalyzeImage(np.zeros((4, 4, 4), np.int16), AFFINE).header.binaryblock,
        "not_an_image",
    ),
}

ODD_BUT_FINE: dict[str, Callable[[], bytes]] = {
    "bits that do not fit the type": _at(_TYPE, "<2h", 4, 64),
    "a slope of infinity, which is none": _at(_SLOPE, "<2f", _INF, 0),
    "voxels too small to be normal": _voxels(1e-42),
    "zeros behind the voxels": lambda: good() + bytes(1 << 20),
    "a gzip with zeros behind the voxels": lambda: gzip.compress(good() + bytes(32 << 20)),
    "big-endian": lambda: nib.Nifti1Image(
        np.arange(960, dtype=">i2").reshape(12, 10, 8), AFFINE, header=nib.Nifti1Header(endianness=">")
    ).to_bytes(),
}
