"""Source images as an object made from them may refer to them: patient, study, place in space; nothing malformed.

Real headers hold sexes of "0000", three-digit years, one character set of an extended kind, or lack a slice
thickness. Copied as they are they would make the derived object invalid or impossible; what is malformed is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference.dicom.facts import number, text
from inference.dicom.voxels import complete

_REQUIRED = "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID".split()  # noqa: SIM905
_GEOMETRY = "ImageOrientationPatient ImagePositionPatient PixelSpacing Rows Columns".split()  # noqa: SIM905
_DATE, _TIME, _AGE = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"), re.compile(r"\d{3}[DWMY]")


def _matching(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _up_to(length: int) -> Callable[[str], bool]:
    return lambda value: len(value) <= length and "\\" not in value


_EMPTY_IF_MALFORMED: dict[str, Callable[[str], bool]] = {
    "PatientName": _up_to(324),
    "PatientID": _up_to(64),
    "PatientBirthDate": _matching(_DATE),
    "PatientSex": lambda value: value in {"M", "F", "O"},
    "StudyDate": _matching(_DATE),
    "StudyTime": _matching(_TIME),
    "StudyID": _up_to(16),
    "AccessionNumber": _up_to(16),
    "ReferringPhysicianName": _up_to(324),
}
_ABSENT_IF_MALFORMED: dict[str, Callable[[str], bool]] = {
    "IssuerOfPatientID": _up_to(64),
    "PatientAge": _matching(_AGE),
    "StudyDescription": _up_to(64),
    "PatientIdentityRemoved": lambda value: value in {"YES", "NO"},
    "DeidentificationMethod": _up_to(64),
    "PositionReferenceIndicator": _up_to(64),
}


def reference_images(files: Several[Path]) -> list[Any]:
    """What an object made from these images refers to, one pydicom Dataset an image, sorted along the slice normal."""
    headers = [complete(dcmread(file, stop_before_pixels=True)) for file in files]
    headers.sort(key=_distance)
    between = (_distance(headers[-1]) - _distance(headers[0])) / max(1, len(headers) - 1)
    return [_reference(header, spacing_mm=between) for header in headers]


def _reference(header: Any, *, spacing_mm: float) -> Any:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"  # texts are decoded here and written as UTF-8
    image.file_meta = header.file_meta
    image.Modality = "MR"
    image.InstanceNumber = int(number(header, "InstanceNumber") or 0)
    image.SeriesNumber = int(number(header, "SeriesNumber") or 0)
    for keyword in _REQUIRED:
        setattr(image, keyword, text(header, keyword))
    for keyword in _GEOMETRY:
        setattr(image, keyword, header.get(keyword))
    for keyword, is_fit in _EMPTY_IF_MALFORMED.items():
        value = text(header, keyword)
        setattr(image, keyword, value if value and is_fit(value) else None)
    for keyword, is_fit in _ABSENT_IF_MALFORMED.items():
        value = text(header, keyword)
        if value and is_fit(value):
            setattr(image, keyword, value)
    thickness = number(header, "SliceThickness")
    image.SliceThickness = thickness if thickness and thickness > 0 else round(spacing_mm, 4)
    image.SpacingBetweenSlices = round(spacing_mm, 4)
    return image


def _distance(header: Any) -> float:
    orientation = np.asarray(header.ImageOrientationPatient, dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    return float(normal @ np.asarray(header.ImagePositionPatient, dtype=np.float64))
