"""Scans as arrays: reading NIfTI, reordering axes to RAS+ and back, and the packed form that travels to a worker.

Flow: 6 run
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import math
import os
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
import zstandard
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from inference.contract import Grid, PackedVolume, Volume
from inference.errors import InputInvalid

Encoding = Literal["zstd", "gzip"]

MAX_VOLUME_BYTES = 1 << 30
"""No scan may be larger than this once decompressed: 512 x 512 x 512 float32 is half of it."""

WIRE_DTYPES = ("int16", "float32", "uint8")
_CHUNK_BYTES = 1 << 20
# Frames made with a larger window would let 30 bytes ask for gigabytes of decoder memory.
_MAX_ZSTD_WINDOW_BYTES = 1 << 27
_MIN_VOXEL_MM, _MAX_VOXEL_MM, _MAX_ORIGIN_MM = 1e-4, 1e3, 1e6
_NIFTI_ERRORS = (
    ArithmeticError,  # offsets of infinity, products beyond an index
    EOFError,
    HeaderDataError,
    ImageFileError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    WrapStructError,
    zlib.error,
)
"""What nibabel raises on bytes that are not what they claim to be."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def read_nifti(path: Path) -> Volume:
    """Read one NIfTI-1 or -2 file, gzipped or not whatever its name, as (I, J, K) voxels in the order they are stored.

    The affine is the sform if its code is positive, else the qform (NIfTI-1, methods 3 and 2), as in nibabel. A file
    with neither has no known left and right and is refused. Stored scaling is applied; without scaling the stored
    integer type is kept. A fourth axis is accepted if it has length one.

    Raises InputInvalid with the file's name: not_found, not_nifti, truncated, not_3d, not_real, not_finite,
    no_orientation, affine_singular, too_large.
    """
    try:
        return _read_nifti(path)
    except InputInvalid as error:
        raise error.about(path.name) from error.__cause__


def to_ras(volume: Volume) -> Volume:
    """The same voxels with axes permuted and flipped to the closest RAS+ order; the affine follows. No resampling.

    The voxels come in C order: what follows reads them many times, eight times faster than through a flipped view.
    """
    orientation = _orientation(volume.affine)
    if np.array_equal(orientation, _RAS):
        return Volume(voxels=np.ascontiguousarray(volume.voxels), affine=volume.affine)
    affine = volume.affine @ inv_ornt_aff(orientation, volume.voxels.shape)
    return Volume(voxels=np.ascontiguousarray(apply_orientation(volume.voxels, orientation)), affine=affine)


def ras_grid(grid: Grid) -> Grid:
    """The grid that `to_ras` puts a volume of `grid` on."""
    orientation = _orientation(grid.affine)
    x, y, z = np.asarray(grid.shape)[np.argsort(orientation[:, 0])]
    return Grid(shape=(int(x), int(y), int(z)), affine=grid.affine @ inv_ornt_aff(orientation, grid.shape))


def from_ras(voxels: npt.NDArray[np.generic], like: Grid) -> npt.NDArray[np.generic]:
    """Undo `to_ras`: (X, Y, Z) voxels on `ras_grid(like)` in, (I, J, K) voxels in the stored order of `like` out."""
    expected = ras_grid(like).shape
    if voxels.shape != expected:
        raise ValueError(f"voxels have shape {voxels.shape}, the grid in RAS+ order has {expected}")
    back = ornt_transform(_RAS, _orientation(like.affine))
    return np.ascontiguousarray(apply_orientation(voxels, back))


def pack(volume: Volume, path: Path, *, encoding: Encoding = "zstd") -> PackedVolume:
    """Write the voxels for the wire: RAS+ order, C order, little-endian, int16 where that loses nothing, else float32.

    The file appears under its name only when it is complete and on the disk.
    Raises InputInvalid: not_finite, not_real, affine_singular, too_large.
    """
    ras = to_ras(volume)
    return _write_packed(_wire_voxels(ras.voxels), ras.affine, path, encoding=encoding)


def pack_mask(
    labels: npt.NDArray[np.uint8], path: Path, *, affine: npt.NDArray[np.float64], encoding: Encoding = "zstd"
) -> PackedVolume:
    """Write a label mask for the wire like `pack` does, as uint8. `labels` (I, J, K) on the grid of `affine`."""
    ras = to_ras(Volume(voxels=labels, affine=affine))
    return _write_packed(ras.voxels.astype("u1", casting="safe"), ras.affine, path, encoding=encoding)


def unpack(path: Path, packed: PackedVolume) -> Volume:
    """Read what `pack` or `pack_mask` wrote: (X, Y, Z) voxels in RAS+ order.

    Never allocates more than `packed` declares, and believes the bytes only if size and sha256 agree.
    Raises InputInvalid: size_mismatch, digest_mismatch, corrupt, too_large, affine_singular, not_found.
    """
    _check_declared(packed)
    try:
        with path.open("rb") as source:
            if os.fstat(source.fileno()).st_size != packed.size:
                raise InputInvalid("size_mismatch", "The file does not have the size that was announced.")
            digest = hashlib.sha256()
            pieces = _hashed(source, digest)
            raw = _gather(_decompressed(pieces, encoding=packed.encoding), size=packed.raw_bytes)
            deque(pieces, maxlen=0)  # the digest is that of the whole file, whatever follows the last frame
    except FileNotFoundError as error:
        raise InputInvalid("not_found", "The file is not there.") from error
    if digest.hexdigest() != packed.sha256:
        raise InputInvalid("digest_mismatch", "The file is not the one that was announced: its sha256 differs.")
    voxels = np.frombuffer(raw, dtype=np.dtype(packed.dtype).newbyteorder("<")).reshape(packed.shape)
    return Volume(voxels=voxels, affine=packed.grid.affine)


def check_affine(affine: npt.NDArray[np.float64]) -> None:
    """Refuse a matrix that does not map voxels to space one to one. Raises InputInvalid affine_singular."""
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise InputInvalid("affine_singular", "The position of its voxels in space is not given by a valid matrix.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.max() > _MAX_VOXEL_MM or np.abs(matrix[:3, 3]).max() > _MAX_ORIGIN_MM:
        raise InputInvalid("affine_singular", "Its voxels are larger or farther away than any scanner reaches.")
    # The determinant of the unit axes is 1 for a box and 0 for a plane; scanners shear by a few degrees at most.
    if lengths.min() < _MIN_VOXEL_MM or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 0.1:
        raise InputInvalid("affine_singular", "Its voxel axes do not span a volume, so it has no place in space.")


def _read_nifti(path: Path) -> Volume:
    try:
        with ExitStack() as until_read:
            return _volume_of(_open_nifti(path, until_read), path)
    except MemoryError as error:
        raise InputInvalid("too_large", "It needs more memory than may be used for one scan.") from error


def _volume_of(image: nib.Nifti1Image, path: Path) -> Volume:
    shape = image.shape[:3] if len(image.shape) == 4 and image.shape[3] == 1 else image.shape
    if len(shape) == 4:
        raise InputInvalid(
            "not_3d", f"It holds {shape[3]} volumes, as over time; one three-dimensional scan is needed."
        )
    if len(shape) != 3:
        raise InputInvalid("not_3d", f"Its shape is {image.shape}; one three-dimensional scan is needed.")
    stored = image.get_data_dtype()
    if stored.kind not in "iuf":
        raise InputInvalid("not_real", f"Its voxels are {stored}, not plain numbers.")
    if min(shape) < 1 or math.prod(map(int, shape)) * stored.itemsize > MAX_VOLUME_BYTES:
        raise InputInvalid("too_large", f"Its size {shape} is beyond what can be analysed.")
    voxels = _stored_voxels(image, path).reshape(shape)
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        count = int(voxels.size - np.isfinite(voxels).sum())
        raise InputInvalid("not_finite", f"{count} of its voxels are not finite numbers (NaN or infinity).")
    affine = np.asarray(image.affine, dtype=np.float64)
    check_affine(affine)
    return Volume(voxels=voxels, affine=affine)


def _open_nifti(path: Path, until_read: ExitStack) -> nib.Nifti1Image:
    if not path.is_file():
        raise InputInvalid("not_found", "There is no such file.")
    try:
        image = nib.load(path) if _is_well_named(path) else _load_misnamed(path, until_read)
    except _NIFTI_ERRORS as error:
        raise InputInvalid("not_nifti", "It is not a NIfTI file, or its header is damaged.") from error
    if not isinstance(image, nib.Nifti1Image):  # Nifti2Image is a subclass
        raise InputInvalid("not_nifti", "It is an image, but not a NIfTI file.")
    if int(image.header["sform_code"]) <= 0 and int(image.header["qform_code"]) <= 0:
        raise InputInvalid("no_orientation", "It has neither sform nor qform: left and right are not known.")
    return image


def _is_well_named(path: Path) -> bool:
    """Whether the name says rightly if it is gzipped, which nibabel goes by."""
    return _is_gzipped(path) == path.name.endswith(".gz")


def _load_misnamed(path: Path, until_read: ExitStack) -> nib.Nifti1Image:
    opened = gzip.open(path) if _is_gzipped(path) else path.open("rb")  # noqa: SIM115 - the stack closes it
    source = until_read.enter_context(opened)
    size = source.read(4)
    source.seek(0)
    is_second = 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    kind = nib.Nifti2Image if is_second else nib.Nifti1Image
    return kind.from_file_map({"image": nib.FileHolder(fileobj=source)})


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as source:
        return source.read(2) == b"\x1f\x8b"


def _stored_voxels(image: nib.Nifti1Image, path: Path) -> npt.NDArray[np.generic]:
    try:
        raw = np.asanyarray(image.dataobj.get_unscaled())
        _check_sum(path)
    except _NIFTI_ERRORS as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:  # the file could not be mapped
            raise MemoryError from error
        raise InputInvalid("truncated", "It ends before all its voxels have come, or it is damaged.") from error
    slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    native: npt.NDArray[np.generic] = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    if (slope, intercept) == (1.0, 0.0):
        return native
    scaled = native.astype(np.float64) * slope + intercept
    with np.errstate(over="ignore"):  # what overflows is infinite then, and refused as such
        return scaled.astype(np.float32)


def _check_sum(path: Path) -> None:
    """Read a gzip file to its end, where its checksum stands: nibabel stops at the last voxel, whatever its bits."""
    if not _is_gzipped(path):
        return
    with gzip.open(path) as source:
        for _ in range(2 * MAX_VOLUME_BYTES // _CHUNK_BYTES):
            if not source.read(_CHUNK_BYTES):
                return
    raise InputInvalid("too_large", "It expands to more than any scan has.")


def _orientation(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    check_affine(affine)
    return np.asarray(io_orientation(affine))


def _wire_voxels(voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if voxels.dtype.kind == "b":
        return voxels.astype("<i2")
    if voxels.dtype.kind not in "iuf":
        raise InputInvalid("not_real", f"Its voxels are {voxels.dtype}, not plain numbers.")
    numbers: npt.NDArray[np.floating] | npt.NDArray[np.integer] = voxels  # type: ignore[assignment]
    lowest, highest = float(numbers.min()), float(numbers.max())
    if not (lowest >= -_FLOAT32_MAX and highest <= _FLOAT32_MAX):  # false for NaN too
        raise InputInvalid("not_finite", "Some of its voxels are not finite numbers (NaN or infinity).")
    if lowest >= -32768 and highest <= 32767:
        whole = numbers.astype("<i2")
        if numbers.dtype.kind in "iu" or np.array_equal(whole, numbers):
            return whole
    return numbers.astype("<f4")


def _write_packed(
    voxels: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], path: Path, *, encoding: Encoding
) -> PackedVolume:
    if voxels.nbytes > MAX_VOLUME_BYTES:
        raise InputInvalid("too_large", f"Its size {voxels.shape} is beyond what can be analysed.")
    contiguous = np.ascontiguousarray(voxels)
    digest, size = hashlib.sha256(), 0
    part = path.with_name(path.name + ".part")
    with part.open("wb") as target:
        for piece in _compressed(contiguous.data.cast("B"), encoding=encoding):
            digest.update(piece)
            size += target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    part.replace(path)
    x, y, z = contiguous.shape
    return PackedVolume(
        size=size,
        sha256=digest.hexdigest(),
        encoding=encoding,
        dtype=contiguous.dtype.name,
        shape=(x, y, z),
        affine=tuple(float(number) for number in affine.ravel()),
    )


def _compressed(raw: memoryview, *, encoding: Encoding) -> Iterator[bytes]:
    # Both level 1 to 3: a scan shrinks by half within 0.1 s; higher levels gain a few per cent for seconds.
    if encoding == "zstd":
        coder = zstandard.ZstdCompressor(level=3).compressobj(size=len(raw))
    else:
        coder = zlib.compressobj(level=1, wbits=31)  # type: ignore[assignment]
    for start in range(0, len(raw), _CHUNK_BYTES):
        yield coder.compress(raw[start : start + _CHUNK_BYTES])
    yield coder.flush()


def _check_declared(packed: PackedVolume) -> None:
    if packed.dtype not in WIRE_DTYPES or packed.encoding not in ("zstd", "gzip"):
        raise InputInvalid("corrupt", f"Voxels of type {packed.dtype}, compressed by {packed.encoding}, are not known.")
    if len(packed.shape) != 3 or min(packed.shape) < 1 or packed.raw_bytes > MAX_VOLUME_BYTES:
        raise InputInvalid("too_large", f"The announced size {packed.shape} is not that of a scan.")
    if len(packed.affine) != 16:
        raise InputInvalid("affine_singular", "The announced position in space is not a 4 by 4 matrix.")
    check_affine(packed.grid.affine)


def _hashed(source: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    while piece := source.read(_CHUNK_BYTES):
        digest.update(piece)
        yield piece


def _decompressed(pieces: Iterator[bytes], *, encoding: str) -> Iterator[bytes]:
    """Pieces of at most a few megabytes each, whatever the input expands to."""
    try:
        yield from _unzstd(pieces) if encoding == "zstd" else _ungzip(pieces)
    except (zstandard.ZstdError, zlib.error) as error:
        raise InputInvalid("corrupt", "The compressed voxels are damaged.") from error


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW_BYTES)
    with decoder.stream_reader(_Pieces(pieces), read_size=_CHUNK_BYTES) as stream:  # type: ignore[arg-type]
        while piece := stream.read(_CHUNK_BYTES):
            yield piece


def _ungzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    for piece in pieces:
        rest = piece
        while rest and not decoder.eof:
            yield decoder.decompress(rest, _CHUNK_BYTES)
            rest = decoder.unconsumed_tail


def _gather(pieces: Iterator[bytes], *, size: int) -> bytearray:
    raw, filled = bytearray(size), 0
    for piece in pieces:
        if filled + len(piece) > size:
            raise InputInvalid("size_mismatch", "It holds more voxels than were announced.")
        raw[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled != size:
        raise InputInvalid("size_mismatch", "It holds fewer voxels than were announced.")
    return raw


class _Pieces:
    """An iterator of bytes as the file object that zstandard reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int = -1) -> bytes:
        """The next piece; empty at the end."""
        return next(self._pieces, b"")
