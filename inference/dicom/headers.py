"""One DICOM file's header, read with suspicion: nothing is inflated, no pixel is touched, every failure has a sentence.

Refusal codes: not_dicom, malformed, deflated_unsupported, compression_unsupported, not_mr, multiframe_unsupported,
mosaic_unsupported, no_geometry, not_greyscale, too_large.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from inference.dicom.facts import SeriesFacts, facts_of, number, text, texts
from inference.errors import InputInvalid

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
_MULTI_FRAME = frozenset({"1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.3", "1.2.840.10008.5.1.4.1.1.4.4"})
DICOMDIR = "1.2.840.10008.1.3.10"
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"})

TRANSFER_SYNTAXES = frozenset(
    {
        "1.2.840.10008.1.2",  # implicit little endian
        "1.2.840.10008.1.2.1",  # explicit little endian
        "1.2.840.10008.1.2.2",  # explicit big endian
        "1.2.840.10008.1.2.5",  # RLE
        "1.2.840.10008.1.2.4.57",  # JPEG lossless
        "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    }
)

_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_UID = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""Anonymisers write letters too; longer than 64 there is none (PS3.5, 9)."""
_SPACING_MM, _FAR_MM, _ASKEW = (1e-4, 1e3), 1e6, 0.05

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

_WANTED = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID PatientName PatientID StudyDate
    StudyDescription SeriesDescription ProtocolName SequenceName SeriesNumber Modality MRAcquisitionType ImageType
    ScanningSequence SequenceVariant RepetitionTime EchoTime InversionTime ContrastBolusAgent ContrastBolusVolume
    ContrastBolusTotalDose ContrastBolusAgentSequence DiffusionBValue TemporalPositionIdentifier AcquisitionNumber
    Rows Columns NumberOfFrames SamplesPerPixel BitsAllocated PixelSpacing ImagePositionPatient
    ImageOrientationPatient RescaleSlope RescaleIntercept SpecificCharacterSet PixelRepresentation
    """.split()  # noqa: SIM905 - 36 names read better as text


@dataclass(frozen=True)
class Instance:
    """One single-frame MR image. Positions in mm, LPS+ (PS3.3 C.7.6.2)."""

    path: Path
    name: str
    """What the person called the file; `path` may be our own name for it."""
    sop_uid: str
    facts: SeriesFacts
    shape: tuple[int, int]
    """Rows, columns."""
    orientation: tuple[float, ...]
    position: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float]
    """Between rows, between columns."""
    kind: tuple[tuple[str, object], ...]
    """What may tell two images at one position apart: image type, echo, inversion, diffusion, time."""
    bytes_per_voxel: int

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """The direction slices are counted in: rows x columns."""
        return np.cross(self.orientation[:3], self.orientation[3:])


def read_instance(path: Path, *, name: str | None = None) -> Instance:
    """The header of one file as far as it matters here.

    Raises:
        InputInvalid: with the file's name and a code of the module docstring.
    """
    called = name or path.name
    try:
        with quiet():
            return _read_instance(path, called)
    except InputInvalid as error:
        raise error.about(called) from error.__cause__
    except PARSE_ERRORS as error:
        raise InputInvalid("malformed", "Its DICOM header is damaged.", subject=called) from error


def read_pixels(instance: Instance) -> npt.NDArray[np.generic]:
    """The stored pixels (rows, columns) of one file.

    Raises:
        InputInvalid: undecodable.
    """
    try:
        with quiet():
            pixels: npt.NDArray[np.generic] = dcmread(instance.path).pixel_array
    except PARSE_ERRORS as error:
        raise InputInvalid("undecodable", "Its pixels cannot be decoded.", subject=instance.name) from error
    return pixels


def is_dicom(path: Path) -> bool:
    """Whether the file carries the DICOM mark after its preamble (PS3.10, 7.1)."""
    with path.open("rb") as source:
        return source.read(132)[128:] == b"DICM"


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's and highdicom's warnings about values that bend the standard; what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_instance(path: Path, name: str) -> Instance:
    header = _header(path)
    _check_kind(header)
    orientation, position, spacing = (
        _numbers(header, "ImageOrientationPatient", 6),
        _numbers(header, "ImagePositionPatient", 3),
        _numbers(header, "PixelSpacing", 2),
    )
    _check_geometry(orientation, position, spacing)
    is_scaled = (number(header, "RescaleSlope") or 1.0, number(header, "RescaleIntercept") or 0.0) != (1.0, 0.0)
    return Instance(
        path=path,
        name=name,
        sop_uid=text(header, "SOPInstanceUID"),
        facts=facts_of(header),
        shape=(int(header.Rows), int(header.Columns)),
        orientation=orientation,
        position=np.asarray(position),
        spacing_mm=(spacing[0], spacing[1]),
        kind=_kind(header),
        bytes_per_voxel=4 if is_scaled else int(header.BitsAllocated) // 8,
    )


def _header(path: Path) -> Any:
    if not is_dicom(path):
        raise InputInvalid("not_dicom", "It is neither a DICOM nor a NIfTI file.")
    # The transfer syntax stands before anything that could be inflated: 0.4 MB deflated took 1.3 GB to read.
    syntax = UID(str(read_file_meta_info(path).get("TransferSyntaxUID", "")))
    if syntax in _DEFLATED:
        raise InputInvalid("deflated_unsupported", "It is stored deflated; export it uncompressed.")
    if syntax not in TRANSFER_SYNTAXES:
        raise InputInvalid("compression_unsupported", f"Its transfer syntax ({syntax.name or 'none'}) cannot be read.")
    return dcmread(path, stop_before_pixels=True, specific_tags=[*_WANTED])


def _check_kind(header: Any) -> None:
    sop_class, modality = text(header, "SOPClassUID"), text(header, "Modality")
    if sop_class in _MULTI_FRAME or (number(header, "NumberOfFrames") or 1) > 1:
        raise InputInvalid("multiframe_unsupported", "It holds many frames in one file, which cannot be read yet.")
    if sop_class != MR_IMAGE:
        raise InputInvalid("not_mr", f"It is not an MR image (modality {modality or 'unknown'}).")
    if "MOSAIC" in texts(header, "ImageType"):
        raise InputInvalid("mosaic_unsupported", "It is a mosaic of slices (functional imaging), not a slice.")
    if (number(header, "SamplesPerPixel") or 1) != 1 or number(header, "BitsAllocated") not in (8, 16):
        raise InputInvalid("not_greyscale", "Its pixels are not 8 or 16 bit grey values.")
    if not all(_UID.fullmatch(text(header, name)) for name in _IDENTIFIERS):
        raise InputInvalid("malformed", "It lacks proper identifiers of its study, its series or itself.")


def _check_geometry(orientation: tuple[float, ...], position: tuple[float, ...], spacing: tuple[float, ...]) -> None:
    if min(spacing) < _SPACING_MM[0] or max(spacing) > _SPACING_MM[1]:
        raise InputInvalid(
            "no_geometry", "Its PixelSpacing is none that a scanner has, so its size in mm is not known."
        )
    if max(map(abs, position)) > _FAR_MM:
        raise InputInvalid("no_geometry", "Its ImagePositionPatient is farther away than any scanner reaches.")
    rows, columns = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    is_square = abs(float(rows @ columns)) < _ASKEW
    if not (is_square and abs(rows @ rows - 1) < _ASKEW and abs(columns @ columns - 1) < _ASKEW):
        raise InputInvalid("no_geometry", "Its ImageOrientationPatient is not that of a rectangle (PS3.3 C.7.6.2.1.1).")


def _numbers(header: Any, keyword: str, count: int) -> tuple[float, ...]:
    value = header.get(keyword)
    numbers = tuple(float(one) for one in value) if value is not None and value != "" else ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputInvalid("no_geometry", f"Its {keyword} is missing or damaged, so its place in space is not known.")
    return numbers


def _kind(header: Any) -> tuple[tuple[str, object], ...]:
    keywords = ("EchoTime", "InversionTime", "DiffusionBValue", "TemporalPositionIdentifier", "AcquisitionNumber")
    return (("ImageType", texts(header, "ImageType")), *((key, number(header, key)) for key in keywords))
