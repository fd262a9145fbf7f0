"""DICOM files that are not what they claim to be: `name: (files of one upload, the code that is answered)`."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.inference.dicom import images

_SLICES = 5
_DEFLATED = UID("1.2.840.10008.1.2.1.99")
_RLE = UID("1.2.840.10008.1.2.5")
_LOSSY = UID("1.2.840.10008.1.2.4.50")
_DIRECTORY = "1.2.840.10008.1.3.10"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
_UNDEFINED = b"\xff\xff\xff\xff"


def file_of(dataset: Dataset, *, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """The bytes of one file."""
    out = io.BytesIO()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", images.MR)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    if syntax.is_encapsulated:
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def series(**header: Any) -> list[bytes]:
    """A good series but for these elements; None leaves one out."""
    return [file_of(images.image(place, pixels, **header)) for place, pixels in enumerate(images.voxels(_SLICES))]


def _each(change: Callable[[bytes], bytes]) -> Callable[[], list[bytes]]:
    return lambda: [change(content) for content in series()]


def _with(**header: Any) -> Callable[[], list[bytes]]:
    return lambda: series(**header)


def _in_syntax(syntax: UID, pixels: bytes = b"") -> Callable[[], list[bytes]]:
    def make() -> list[bytes]:
        found = [images.image(place, box) for place, box in enumerate(images.voxels(_SLICES))]
        for image in found:
            image.PixelData = pixels or image.PixelData
        return [file_of(image, syntax=syntax) for image in found]

    return make


def _element(group: int, element: int, vr: bytes, length: bytes) -> bytes:
    return struct.pack("<HH", group, element) + vr + b"\0\0" + length


def _nested(depth: int) -> bytes:
    """A sequence in a sequence in a sequence (PS3.5, 7.5), all of undefined length."""
    begin = _element(0x0008, 0x1140, b"SQ", _UNDEFINED) + b"\xfe\xff\x00\xe0" + _UNDEFINED
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return begin * depth + end * depth


def _before_the_pixels(extra: bytes) -> Callable[[bytes], bytes]:
    """Put raw bytes where the patient's name stands (0010,0010), behind all of group 0008."""

    def change(content: bytes) -> bytes:
        place = content.index(b"\x10\x00\x10\x00PN")
        return content[:place] + extra + content[place:]

    return change


def _block(content: bytes, *, end: int = zlib.Z_FULL_FLUSH) -> bytes:
    """Deflated on its own, so that it may stand anywhere and as often as one likes."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return coder.compress(content) + coder.flush(end)


def _deflated_bomb() -> list[bytes]:
    """0.4 MB that expand to 400 MB: reading the header alone took 1.3 GB."""
    plain = file_of(images.image(0, images.voxels(1)[0]), syntax=ExplicitVRLittleEndian)
    meta_end = plain.index(b"\x08\x00\x08\x00CS")
    junk = _element(0x0009, 0x0010, b"OB", struct.pack("<L", 400 << 20))
    packed = _block(plain[meta_end:] + junk) + _block(bytes(1 << 20)) * 400 + _block(b"", end=zlib.Z_FINISH)
    syntax, longer = ExplicitVRLittleEndian.encode(), _DEFLATED.encode()
    place = plain.index(b"\x02\x00\x10\x00UI") + 8
    old = struct.unpack("<H", plain[place - 2 : place])[0]
    value = longer + b"\0" * (len(longer) % 2)
    assert plain[place : place + len(syntax)] == syntax
    return [plain[: place - 2] + struct.pack("<H", len(value)) + value + plain[place + old : meta_end] + packed]


def _directory() -> list[bytes]:
    """A DICOMDIR that names files outside of it (CVE-2026-32711)."""
    record = Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["UU", "UU", "UU", "ETC", "PASSWD"]
    record.ReferencedSOPClassUIDInFile, record.ReferencedSOPInstanceUIDInFile = images.MR, "1.2.3"
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID, found.DirectoryRecordSequence = _DIRECTORY, "1.2.3", [record]
    return [file_of(found).replace(b"UU\\", b"..\\").replace(b"ETC\\PASSWD", b"etc\\passwd")]


def _twice_with_other_pixels() -> list[bytes]:
    files = series()
    return [*files, file_of(images.image(0, images.voxels(_SLICES)[0] + 1))]


def _claiming(tag: bytes, length: int) -> Callable[[bytes], bytes]:
    """The element says it is this long."""

    def change(content: bytes) -> bytes:
        place = content.index(tag)
        return content[: place + 8] + struct.pack("<L", length) + content[place + 12 :]

    return change


def _renamed(tag: bytes) -> Callable[[bytes], bytes]:
    """The element stands there under a private number."""
    return lambda content: content.replace(tag, tag[:2] + b"\x03\x01" + tag[4:])


_PIXELS, _BITS = b"\xe0\x7f\x10\x00OW", b"\x28\x00\x00\x01US"
_STORED = b"\x28\x00\x01\x01US"
_SERIES_UID = b"\x20\x00\x0e\x00UI\x08\x001.2.1.1\0"

DICOMS: dict[str, tuple[Callable[[], list[bytes]], str]] = {
    "a deflated bomb": (_deflated_bomb, "too_large"),
    "65535 x 65535 pixels": (_with(Rows=65535, Columns=65535), "too_large"),
    "no pixels at all": (_with(Rows=0, Columns=0), "undecodable"),
    "pixel data that is not there": (_with(PixelData=None), "undecodable"),
    "pixel data cut off": (_each(lambda content: content[:-40]), "undecodable"),
    "a file of more pixels than its matrix": (_with(PixelData=bytes(4096)), "undecodable"),
    "20,000 nested sequences": (_each(_before_the_pixels(_nested(20_000))), "malformed"),
    "200 nested sequences": (_each(_before_the_pixels(_nested(200))), "malformed"),
    "a private element that claims 2 GB": (
        _each(_before_the_pixels(_element(0x0009, 0x0010, b"OB", struct.pack("<L", 2 << 30)))),
        "not_greyscale",
    ),
    "without SeriesInstanceUID": (_with(SeriesInstanceUID=None), "malformed"),
    "without StudyInstanceUID": (_with(StudyInstanceUID=None), "malformed"),
    "without SOPInstanceUID": (_with(SOPInstanceUID=None), "malformed"),
    "without Rows": (_with(Rows=None), "malformed"),
    "without PixelSpacing": (_with(PixelSpacing=None), "no_geometry"),
    "without ImagePositionPatient": (_with(ImagePositionPatient=None), "no_geometry"),
    "without ImageOrientationPatient": (_with(ImageOrientationPatient=None), "no_geometry"),
    "without BitsAllocated": (_each(_renamed(_BITS)), "not_greyscale"),
    "without BitsStored": (_with(BitsStored=None), "undecodable"),
    "an element of a kind that is none": (
        _each(lambda content: content.replace(_STORED, _STORED[:4] + b"AU")),
        "undecodable",
    ),
    "a number of three bytes": (
        _each(lambda content: content.replace(_STORED + b"\x02\x00\x10\x00", _STORED + b"\x03\x00\x10\x00\x00")),
        "undecodable",
    ),
    "without SOPClassUID": (_with(SOPClassUID=None), "not_mr"),
    "spacing that is no number": (
        _each(lambda content: content.replace(b"2.0\\1.5 ", b"two\\1.5 ")),
        "no_geometry",
    ),
    "spacing of NaN": (_each(lambda content: content.replace(b"2.0\\1.5 ", b"nan\\1.5 ")), "no_geometry"),
    "spacing of infinity": (_each(lambda content: content.replace(b"2.0\\1.5 ", b"inf\\1.5 ")), "no_geometry"),
    "spacing below zero": (_with(PixelSpacing=[-1.0, 1.0]), "no_geometry"),
    "spacing of zero": (_with(PixelSpacing=[0.0, 1.0]), "no_geometry"),
    "spacing of a light year": (_with(PixelSpacing=["1e19", "1e19"]), "no_geometry"),
    "spacing of an atom": (_with(PixelSpacing=["1e-9", "1e-9"]), "no_geometry"),
    "an orientation that is none": (_with(ImageOrientationPatient=[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), "no_geometry"),
    "an orientation of zeros": (_with(ImageOrientationPatient=[0.0] * 6), "no_geometry"),
    "all at one place": (_with(ImagePositionPatient=[0.0, 0.0, 0.0]), "repeated_positions"),
    "two images with one identifier": (_twice_with_other_pixels, "duplicate_instance"),
    "identifiers of a hundred digits": (
        _each(
            lambda content: content.replace(_SERIES_UID, b"\x20\x00\x0e\x00UI" + struct.pack("<H", 100) + b"1." * 50)
        ),
        "malformed",
    ),
    "identifiers with a null": (_each(lambda content: content.replace(b"1.2.1.1\0", b"1.\0\n1.1\0")), "malformed"),
    "an image on the moon": (_with(ImagePositionPatient=["3.8e11", "0", "0"]), "no_geometry"),
    "a position of NaN": (_each(lambda content: content.replace(b"-30.0\\-40.0\\", b"nan\\-40.0\\00")), "no_geometry"),
    "three slices": (lambda: series()[:3], "too_few_slices"),
    "a slice missing": (lambda: [content for place, content in enumerate(series()) if place != 2], "uneven_slices"),
    "CT": (_with(SOPClassUID=_CT, Modality="CT"), "not_mr"),
    "several frames that lie nowhere": (_with(SOPClassUID=_ENHANCED, NumberOfFrames=5), "no_geometry"),
    "a mosaic": (_with(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic_unsupported"),
    "colour": (_with(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "colour"),
    "32 bit": (_with(BitsAllocated=32), "not_greyscale"),
    "more bits stored than allocated": (_with(BitsStored=40, HighBit=39), "undecodable"),
    "an unknown transfer syntax": (
        _each(lambda content: content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.3.4.5.6.7.8.9.10")),
        "compression_unsupported",
    ),
    "JPEG without a frame": (_in_syntax(_LOSSY, b"\xfe\xff\x00\xe0\0\0\0\0"), "undecodable"),
    "run-length codes that lead nowhere": (
        _in_syntax(_RLE, b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x40\0\0\0" + b"\xff" * 64),
        "undecodable",
    ),
    "encapsulated without a frame": (_in_syntax(_RLE, b"\xfe\xff\x00\xe0\0\0\0\0"), "undecodable"),
    "a DICOMDIR that climbs": (_directory, "directory"),
    "only the mark": (lambda: [bytes(128) + b"DICM"], "not_mr"),
    "noise behind the mark": (
        lambda: [bytes(128) + b"DICM" + np.random.default_rng(1).bytes(4096)],
        "not_mr",
    ),
    "zeros behind the mark": (lambda: [bytes(128) + b"DICM" + bytes(4096)], "not_mr"),
}


def _lengthy() -> list[bytes]:
    with warnings.catch_warnings(action="ignore"):
        return series(PatientName="X" * 5000, PatientID="Y" * 5000, SeriesDescription="Z" * 5000)


def _before_the_rest(content: bytes) -> bytes:
    """With (0008,0005) before everything else of its group."""
    place = content.index(b"\x08\x00\x08\x00CS")
    return content[:place] + b"\x08\x00\x05\x00CS" + struct.pack("<H", 10) + b"ISO_IR 999" + content[place:]


ODD_BUT_FINE: dict[str, Callable[[], list[bytes]]] = {
    "a program in the preamble": _each(lambda content: b"MZ" * 64 + content[128:]),
    "a name with a null and half a character": _each(
        lambda content: content.replace(b"DOE^JANE", b"D\0E^\xed\xa0\x80N")
    ),
    "pixel data that claims 4 GB": _each(_claiming(_PIXELS, 0xFFFFFFF0)),
    "an unknown character set": _each(_before_the_rest),
    "names of 5,000 letters": _lengthy,
    "a date that is none": _each(lambda content: content.replace(b"20260102", b"2026?!#$")),
    "a script for a description": _with(SeriesDescription="<script>alert(1)</script>"),
    "a description with a null": _each(lambda content: content.replace(b"T1 SE AX", b"T1\0\x1b\x07 AX")),
    "a series number beyond all": _with(SeriesNumber="99999999999"),
    "every file twice": lambda: [*series(), *series()],
}
