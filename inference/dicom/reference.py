"""Source images as an object made from them may refer to them: patient, study, place in space; nothing malformed.

Real headers hold sexes of "0000", three-digit years, one character set of an extended kind, or lack a slice
thickness. Copied as they are they would make the derived object invalid or impossible; what is malformed is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from inference.contract import Grid
from inference.dicom.facts import number, text
from inference.dicom.headers import read_dataset
from inference.dicom.slices import Planes, PlanesDiffer, frames_of, is_multi_frame, planes_on
from inference.dicom.voxels import complete

_REQUIRED = "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID".split()  # noqa: SIM905
_GEOMETRY = "ImageOrientationPatient ImagePositionPatient PixelSpacing Rows Columns".split()  # noqa: SIM905
_NOWHERE = (1e6, 1e6, 1e6)
"""Farther away than any scanner reaches, in mm."""
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


@dataclass(frozen=True)
class SourceImages:
    """What the documents about a mask refer to.

    `images`: a pydicom Dataset for every instance, single frames in the order of `planes`. A file of many frames has
    its frames' positions as shared and per-frame functional groups; a mosaic has no positions that one could check.
    """

    images: list[Any]
    planes: Planes
    is_stack: bool
    """One image a plane."""

    @property
    def first(self) -> Any:
        """The image that patient and study are read from; all say the same."""
        return self.images[0]


def source_images(files: Several[Path], grid: Grid) -> SourceImages:
    """What a mask on `grid` (RAS+ mm, any order of axes) that was drawn in these MR files refers to.

    Raises:
        PlanesDiffer: the files do not show the planes of this grid.
    """
    headers = [complete(read_dataset(file)) for file in files]
    if not headers:
        raise PlanesDiffer("There are no source images.")
    many = [header for header in headers if is_multi_frame(header)]
    if many:
        return _from_frames(many[0], grid)
    planes = planes_on(grid, _numbers(headers[0], "ImageOrientationPatient"))
    if len(headers) == 1 and len(planes.positions) > 1:
        return SourceImages(images=[_reference(headers[0], planes)], planes=planes, is_stack=False)
    order = planes.find([_numbers(header, "ImagePositionPatient") for header in headers])
    if len(headers) != len(planes.positions):
        raise PlanesDiffer("The source has another number of slices than the grid.")
    return SourceImages(images=[_reference(headers[at], planes) for at in order], planes=planes, is_stack=True)


def _from_frames(header: Any, grid: Grid) -> SourceImages:
    frames = frames_of(header)
    for orientation in sorted({frame.orientation for frame in frames}):
        try:
            planes = planes_on(grid, orientation)
            # Frames of another orientation must not be taken for these planes: they are put out of the way.
            places = [frame.position if frame.orientation == orientation else _NOWHERE for frame in frames]
            planes.find(places)
        except PlanesDiffer:
            continue
        image = _reference(header, planes)
        image.NumberOfFrames = len(frames)
        image.SharedFunctionalGroupsSequence = [_shared_groups(planes)]
        image.PerFrameFunctionalGroupsSequence = [_frame_group(place) for place in places]
        return SourceImages(images=[image], planes=planes, is_stack=False)
    raise PlanesDiffer("No frames of the source lie on the planes of the grid.")


def _shared_groups(planes: Planes) -> Any:
    measures, orientation, groups = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [*planes.spacing_mm]
    measures.SliceThickness = measures.SpacingBetweenSlices = round(planes.between_mm, 4)
    orientation.ImageOrientationPatient = [*planes.orientation]
    groups.PixelMeasuresSequence, groups.PlaneOrientationSequence = [measures], [orientation]
    return groups


def _frame_group(place: tuple[float, ...]) -> Any:
    position, group = Dataset(), Dataset()
    position.ImagePositionPatient = [format_number_as_ds(number) for number in place]
    group.PlanePositionSequence = [position]
    return group


def _reference(header: Any, planes: Planes) -> Any:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"  # texts are decoded here and written as UTF-8
    image.file_meta = header.file_meta
    image.Modality = "MR"
    image.InstanceNumber = int(number(header, "InstanceNumber") or 0)
    image.SeriesNumber = int(number(header, "SeriesNumber") or 0)
    for keyword in _REQUIRED:
        setattr(image, keyword, text(header, keyword))
    for keyword in _GEOMETRY:
        if header.get(keyword) is not None:
            setattr(image, keyword, header.get(keyword))
    for keyword, is_fit in _EMPTY_IF_MALFORMED.items():
        value = text(header, keyword)
        setattr(image, keyword, value if value and is_fit(value) else None)
    for keyword, is_fit in _ABSENT_IF_MALFORMED.items():
        value = text(header, keyword)
        if value and is_fit(value):
            setattr(image, keyword, value)
    thickness = number(header, "SliceThickness")
    image.SliceThickness = thickness if thickness and thickness > 0 else round(planes.between_mm, 4)
    image.SpacingBetweenSlices = round(planes.between_mm, 4)
    return image


def _numbers(header: Any, keyword: str) -> tuple[float, ...]:
    return tuple(float(value) for value in header.get(keyword))
