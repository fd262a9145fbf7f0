"""DICOM files opened with suspicion: what is deflated is inflated under a cap, and nothing is guessed that is written.

pydicom inflates without a limit (0.4 MB took 1.3 GB); here it never sees a deflated byte.
Codes: not_dicom, malformed, too_large, compression_unsupported.
"""

from __future__ import annotations

import io
import shutil
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import filereader
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID

from inference.errors import InputInvalid

IMPLICIT, EXPLICIT = UID("1.2.840.10008.1.2"), UID("1.2.840.10008.1.2.1")
DEFLATED, BIG_ENDIAN = UID("1.2.840.10008.1.2.1.99"), UID("1.2.840.10008.1.2.2")

TRANSFER_SYNTAXES = frozenset(
    {
        IMPLICIT,
        EXPLICIT,
        BIG_ENDIAN,
        DEFLATED,
        "1.2.840.10008.1.2.5",  # RLE
        "1.2.840.10008.1.2.4.50",  # JPEG baseline, 8 bit
        "1.2.840.10008.1.2.4.51",  # JPEG extended, 12 bit
        "1.2.840.10008.1.2.4.57",  # JPEG lossless
        "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
        "1.2.840.10008.1.2.4.91",  # JPEG 2000
    }
)

MAX_INFLATED_BYTES = 256 << 20
_FREE_BYTES, _MAX_RATIO = 16 << 20, 100
"""As for archives: a blank image shrinks a thousandfold, a study does not."""
_CHUNK_BYTES = 1 << 20
_PREAMBLE_BYTES = 128
_META_GROUP = 2
_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_FIRST_ELEMENTS = frozenset({0x0000, 0x0001, 0x0005, 0x0006, 0x0008, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018, 0x0020})
"""Elements of group 0008 (and 0002) that a data set without the mark begins with."""
_MAX_FIRST_VALUE_BYTES = 1024

PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,  # sequences nested 200 deep
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and the pixel decoders raise on bytes that are not what they claim to be."""


@dataclass(frozen=True)
class Opened:
    """One file up to its pixels. `pixel_offset` is where (7FE0,0010) begins in a file that is not deflated."""

    dataset: Any
    syntax: UID
    is_implicit: bool
    pixel_offset: int | None


def is_dicom(path: Path) -> bool:
    """Whether the file has the DICOM mark (PS3.10, 7.1), or begins like a data set that was stored without it."""
    with path.open("rb") as source:
        start = source.read(_PREAMBLE_BYTES + 4)
    return start[_PREAMBLE_BYTES:] == b"DICM" or _is_bare(start)


def read_dataset(path: Path, *, stop_before_pixels: bool = True, tags: list[Any] | None = None) -> Any:
    """The pydicom FileDataset of one file, whoever made it; deflated ones are inflated under a cap.

    `file_meta.TransferSyntaxUID` says how the dataset stands in memory: explicit where the file is deflated.
    `tags` (keywords or numbers): read these elements only.

    Raises:
        InputInvalid: with the file's name and a code of the module docstring.
    """
    try:
        with quiet():
            return open_dataset(path, stop_before_pixels=stop_before_pixels, tags=tags).dataset
    except InputInvalid as error:
        raise error.about(path.name) from error.__cause__
    except PARSE_ERRORS as error:
        raise InputInvalid("malformed", "Its DICOM header is damaged.", subject=path.name) from error


def open_dataset(path: Path, *, stop_before_pixels: bool = True, tags: list[Any] | None = None) -> Opened:
    """As `read_dataset`, with what parsing found on the way; what pydicom raises passes through (PARSE_ERRORS)."""
    with path.open("rb") as file:
        preamble, meta = _meta_of(file)
        written = UID(str(meta.get("TransferSyntaxUID", "")))
        source, syntax = _plain(file, written or _guessed(file))
        dataset = filereader.read_dataset(
            source,
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=_is_pixel_data if stop_before_pixels else None,
            specific_tags=None if tags is None else [Tag(tag) for tag in tags],  # it passes keywords over
        )
        offset = source.tell() if stop_before_pixels and source is file else None
        is_implicit = bool(dataset.original_encoding[0])  # as found, whatever was said
        meta.TransferSyntaxUID = syntax
        found = FileDataset(str(path), dataset, preamble, meta, is_implicit, syntax.is_little_endian)
        found.set_original_encoding(is_implicit, syntax.is_little_endian, dataset._character_set)
        return Opened(found, syntax, is_implicit, offset)


def copy_file(source: Path, target: Path) -> None:
    """Copy a DICOM file, its preamble emptied (it can make a file two things: CVE-2019-11687); the mark put before
    a data set that came without it (PS3.10, 7.1)."""
    with source.open("rb") as file, target.open("xb") as out:
        start = file.read(_PREAMBLE_BYTES + 4)
        out.write(bytes(_PREAMBLE_BYTES) + b"DICM")
        if start[_PREAMBLE_BYTES:] != b"DICM":
            file.seek(0)
            _write_meta(file, out, source)
        shutil.copyfileobj(file, out)


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's and highdicom's warnings about values that bend the standard; what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _meta_of(file: BinaryIO) -> tuple[bytes | None, Any]:
    """The preamble and the file meta information, always explicit (PS3.10, 7.1); the file stands behind them."""
    start = file.read(_PREAMBLE_BYTES + 4)
    has_mark = start[_PREAMBLE_BYTES:] == b"DICM"
    if not has_mark:
        if not _is_bare(start):
            raise InputInvalid("not_dicom", "It is neither a DICOM nor a NIfTI file.")
        file.seek(0)
    meta = filereader.read_dataset(file, False, True, stop_when=_is_beyond_meta)  # noqa: FBT003
    return (start[:_PREAMBLE_BYTES] if has_mark else None), FileMetaDataset(meta)


def _is_bare(start: bytes) -> bool:
    """Whether the first bytes are an element of group 0008 or 0002 with a value of sensible length, little endian."""
    if len(start) < _PREAMBLE_BYTES:
        return False
    group, element, vr, short = struct.unpack("<HH2sH", start[:8])
    if group not in (_META_GROUP, 0x0008) or element not in _FIRST_ELEMENTS:
        return False
    if vr.isalpha() and vr.isupper():
        return bool(short <= _MAX_FIRST_VALUE_BYTES)
    return int.from_bytes(start[4:8], "little") <= _MAX_FIRST_VALUE_BYTES


def _guessed(file: BinaryIO) -> UID:
    """The syntax of a data set that does not say it: explicit if letters stand where its first VR would be."""
    start = file.read(6)
    file.seek(-len(start), io.SEEK_CUR)
    return EXPLICIT if start[4:].isalpha() and start[4:].isupper() else IMPLICIT


def _plain(file: BinaryIO, syntax: UID) -> tuple[BinaryIO, UID]:
    if syntax != DEFLATED:
        if syntax not in TRANSFER_SYNTAXES:
            name = syntax.name or "none"
            raise InputInvalid("compression_unsupported", f"Its transfer syntax ({name}) cannot be read.")
        return file, syntax
    return io.BytesIO(_inflated(file)), EXPLICIT


def _inflated(file: BinaryIO) -> bytes:
    here = file.tell()
    packed = file.seek(0, io.SEEK_END) - here
    file.seek(here)
    allowed = min(MAX_INFLATED_BYTES, max(_FREE_BYTES, _MAX_RATIO * packed))
    inflater, out = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    try:
        while not inflater.eof and (piece := inflater.unconsumed_tail or file.read(_CHUNK_BYTES)):
            out += inflater.decompress(piece, _CHUNK_BYTES)
            if len(out) > allowed:
                raise InputInvalid("too_large", "It is stored deflated and expands to more than an image has.")
    except zlib.error as error:
        raise InputInvalid("malformed", "It is stored deflated, and the deflated bytes are damaged.") from error
    if not inflater.eof:
        raise InputInvalid("malformed", "It is stored deflated and ends before its end.")
    return bytes(out)


def _write_meta(file: BinaryIO, out: BinaryIO, source: Path) -> None:
    """File meta information for a data set without any; what stands there already is copied as it is."""
    if int.from_bytes(file.read(2), "little") == _META_GROUP:
        file.seek(0)
        return
    file.seek(0)
    header = open_dataset(source, tags=["SOPClassUID", "SOPInstanceUID"])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.dataset.SOPInstanceUID
    meta.TransferSyntaxUID = header.syntax
    write_file_meta_info(out, meta)


def _is_beyond_meta(tag: int, _vr: str | None, _length: int) -> bool:
    return bool(tag >> 16 != _META_GROUP)


def _is_pixel_data(tag: int, _vr: str | None, _length: int) -> bool:
    return int(tag) in _PIXEL_DATA
