"""One DICOM file's header, read with suspicion: no pixel is touched, every failure has a sentence.

Refusal codes beside those of files: malformed, no_geometry, not_greyscale, mosaic_unsupported, not_mr; what is set
aside has those of aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword

from inference.dicom import mosaic
from inference.dicom.aside import ENHANCED_COLOUR, MR_IMAGE, NotAScan, check_class, check_colour, check_type
from inference.dicom.facts import SeriesFacts, facts_of, number, text
from inference.dicom.files import PARSE_ERRORS, Opened, is_dicom, open_dataset, quiet, read_dataset
from inference.dicom.frames import SEQUENCES, Header, frames_of
from inference.dicom.planes import Instance, Kind, Plane, Stored, check_place
from inference.dicom.vendors import PRIVATE_TAGS, b_value, direction, philips_scaled
from inference.errors import InputInvalid

__all__ = ["MR_IMAGE", "PARSE_ERRORS", "is_dicom", "quiet", "read_dataset", "read_planes"]

_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_UID = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""Anonymisers write letters too; longer than 64 there is none (PS3.5, 9)."""

_KIND = """
    SeriesNumber EchoTime InversionTime FlipAngle ComplexImageComponent TemporalPositionIdentifier AcquisitionNumber
    TriggerTime NominalCardiacTriggerDelayTime ReceiveCoilName StackID AcquisitionTime AcquisitionDateTime ContentTime
    """.split()  # noqa: SIM905 - names read better as text
"""What may differ between images at one position, the telling before the accidental."""

_WANTED = """
    SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID PatientName PatientID
    PatientBirthDate AccessionNumber StudyDate StudyDescription SeriesDescription ProtocolName SequenceName
    PulseSequenceName Modality Manufacturer MRAcquisitionType ImageType ScanningSequence SequenceVariant ScanOptions
    RepetitionTime EchoPulseSequence EchoPlanarPulseSequence MagneticFieldStrength EchoTrainLength
    ContrastBolusAgent ContrastBolusVolume ContrastBolusTotalDose ContrastBolusAgentSequence DiffusionBValue
    DiffusionGradientOrientation Rows Columns NumberOfFrames SamplesPerPixel BitsAllocated BitsStored
    PixelRepresentation PixelSpacing ImagePositionPatient ImageOrientationPatient RescaleSlope RescaleIntercept
    SpacingBetweenSlices SliceThickness SpecificCharacterSet
    """.split()  # noqa: SIM905
_TAGS: list[Any] = [
    *(tag_for_keyword(keyword) for keyword in (*_WANTED, *_KIND, *SEQUENCES)),
    *(group << 16 | element for group, element in PRIVATE_TAGS),
]


def read_planes(path: Path, *, name: str | None = None) -> tuple[Plane, ...]:
    """The slices of one file: one, or those of a multi-frame image or a mosaic, in the order of the pixels.

    Raises:
        NotAScan: it is sound and no scan to be analysed.
        InputInvalid: with the file's name and a code of the module docstring.
    """
    called = name or path.name
    try:
        with quiet():
            return tuple(_planes(path, called))
    except InputInvalid as error:
        raise _about(error, called) from error.__cause__
    except PARSE_ERRORS as error:
        raise InputInvalid("malformed", "Its DICOM header is damaged.", subject=called) from error


def _about(error: InputInvalid, name: str) -> InputInvalid:
    found = type(error)(error.code, error.sentence, subject=name)
    if isinstance(found, NotAScan) and isinstance(error, NotAScan):
        found.study_uid = error.study_uid
    return found


def _planes(path: Path, name: str) -> Iterator[Plane]:
    opened = open_dataset(path, tags=_TAGS)
    header = Header.of(opened.dataset)
    try:
        yield from _planes_in(opened, header, path=path, name=name)
    except NotAScan as error:
        error.study_uid = text(header, "StudyInstanceUID")
        raise


def _planes_in(opened: Opened, header: Header, *, path: Path, name: str) -> Iterator[Plane]:
    _check_kind(header)
    instance = Instance(
        path=path,
        name=name,
        sop_uid=text(header, "SOPInstanceUID"),
        series_uid=text(header, "SeriesInstanceUID"),
        stored=_stored(opened, header),
    )
    if header.get(SEQUENCES[1]):
        yield from _of_frames(instance, header)
    elif mosaic.is_mosaic(header):
        yield from _of_mosaic(instance, header)
    elif instance.stored.frames > 1:
        raise InputInvalid("no_geometry", "It holds several frames and says of none where it lies.")
    else:
        facts = facts_of(header)
        check_type(facts.scan.image_type, facts.scan.descriptions)
        yield _plane(instance, header, facts)


def _check_kind(header: Any) -> None:
    sop_class = text(header, "SOPClassUID")
    check_class(sop_class, text(header, "Modality"))
    if sop_class == ENHANCED_COLOUR:
        check_colour(3)
    check_colour(number(header, "SamplesPerPixel"))
    if (number(header, "SamplesPerPixel") or 1) != 1 or number(header, "BitsAllocated") not in (8, 16):
        raise InputInvalid("not_greyscale", "Its pixels are not 8 or 16 bit grey values.")
    if not all(_UID.fullmatch(text(header, name)) for name in _IDENTIFIERS):
        raise InputInvalid("malformed", "It lacks proper identifiers of its study, its series or itself.")


def _stored(opened: Opened, header: Header) -> Stored:
    allocated = int(header["BitsAllocated"])
    return Stored(
        syntax=opened.syntax,
        is_implicit=opened.is_implicit,
        offset=opened.pixel_offset,
        frames=max(1, int(number(header, "NumberOfFrames") or 1)),
        shape=(int(header["Rows"]), int(header["Columns"])),
        bits_allocated=allocated,
        bits_stored=int(number(header, "BitsStored") or 0),
        is_signed=bool(number(header, "PixelRepresentation")),
    )


def _of_frames(instance: Instance, header: Header) -> Iterator[Plane]:
    """Frames that are maps are left out where others are scans: scanners put both into one file."""
    facts: dict[object, SeriesFacts] = {}
    aside: NotAScan | None = None
    count = 0
    for place, frame in enumerate(frames_of(header)):
        key = repr([frame.get(keyword) for keyword in ("ImageType", "EchoTime", "InversionTime", "DiffusionBValue")])
        if key not in facts:
            facts[key] = facts_of(frame)
        try:
            check_type(facts[key].scan.image_type, facts[key].scan.descriptions)
        except NotAScan as error:
            aside = error
            continue
        count += 1
        yield _plane(instance, frame, facts[key], frame=place)
    if aside is not None and not count:
        raise aside


def _of_mosaic(instance: Instance, header: Any) -> Iterator[Plane]:
    facts = facts_of(header)
    check_type(facts.scan.image_type, facts.scan.descriptions)
    tags: list[Any] = [group << 16 | element for group, element in mosaic.TAGS]
    told = Header({**header, **Header.of(open_dataset(instance.path, tags=tags).dataset)})
    picture = _plane(instance, header, facts)
    shape, tiles = mosaic.tiles_of(
        told,
        mosaic.Picture(
            shape=picture.shape,
            orientation=picture.orientation,
            position=tuple(picture.position),
            spacing_mm=picture.spacing_mm,
        ),
    )
    for tile in tiles:
        yield Plane(
            instance=instance,
            facts=facts,
            frame=0,
            corner=tile.corner,
            shape=shape,
            orientation=picture.orientation,
            position=tile.position,
            spacing_mm=picture.spacing_mm,
            kind=(*picture.kind, ("file", instance.sop_uid)),
            slope=picture.slope,
            intercept=picture.intercept,
        )


def _plane(instance: Instance, header: Any, facts: SeriesFacts, *, frame: int = 0) -> Plane:
    orientation, position, spacing = (
        _numbers(header, "ImageOrientationPatient", 6),
        _numbers(header, "ImagePositionPatient", 3),
        _numbers(header, "PixelSpacing", 2),
    )
    check_place(orientation, position, spacing)
    slope, intercept = _scale(header)
    return Plane(
        instance=instance,
        facts=facts,
        frame=frame,
        corner=(0, 0),
        shape=instance.stored.shape,
        orientation=orientation,
        position=np.asarray(position),
        spacing_mm=(spacing[0], spacing[1]),
        kind=_kind(header, facts),
        slope=slope,
        intercept=intercept,
    )


def _scale(header: Any) -> tuple[float, float]:
    slope, intercept = number(header, "RescaleSlope") or 1.0, number(header, "RescaleIntercept") or 0.0
    if not np.isfinite([slope, intercept]).all():
        raise InputInvalid("malformed", "Its rescale slope or intercept is no number.")
    return philips_scaled(header, slope, intercept)


def _numbers(header: Any, keyword: str, count: int) -> tuple[float, ...]:
    value = header.get(keyword)
    try:
        numbers = tuple(float(one) for one in value or ())
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputInvalid("no_geometry", f"Its {keyword} is missing or damaged, so its place in space is not known.")
    return numbers


def _kind(header: Any, facts: SeriesFacts) -> Kind:
    return (
        ("ImageType", facts.scan.image_type),
        ("b_value", b_value(header)),
        ("direction", direction(header)),
        *((keyword, _value(header, keyword)) for keyword in _KIND),
    )


def _value(header: Any, keyword: str) -> object:
    found = number(header, keyword)
    return text(header, keyword) if found is None else found
