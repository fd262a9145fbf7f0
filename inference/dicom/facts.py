"""What a DICOM header says of a series, as plain values: who, when, where in space, and how it was scanned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_UNSEEN = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class ScanFacts:
    """How a series was scanned (PS3.3 C.8.3.1, C.7.6.4, C.7.6.1). Times in ms; None where the header is silent."""

    descriptions: tuple[str, ...] = ()
    """Free text: SeriesDescription, ProtocolName, SequenceName."""
    image_type: tuple[str, ...] = ()
    scanning_sequence: tuple[str, ...] = ()
    sequence_variant: tuple[str, ...] = ()
    repetition_ms: float | None = None
    echo_ms: float | None = None
    inversion_ms: float | None = None
    contrast_agent: str | None = None
    contrast_given: bool = False
    """A contrast volume, dose, route or code, whatever the agent's name."""
    diffusion_b: float | None = None


@dataclass(frozen=True)
class SeriesFacts:
    """What a series says of itself. Texts are as in the header, control characters removed."""

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    patient_name: str
    patient_id: str
    study_date: str
    """YYYYMMDD as in the header, or empty."""
    study_description: str
    description: str
    number: int | None
    modality: str
    is_3d: bool
    """MRAcquisitionType 3D."""
    scan: ScanFacts
    accession: str = ""
    birth_date: str = ""
    """YYYYMMDD as in the header, or empty."""


def facts_of(header: Any) -> SeriesFacts:
    """The facts of one pydicom Dataset, pixel data not needed."""
    return SeriesFacts(
        study_uid=text(header, "StudyInstanceUID"),
        series_uid=text(header, "SeriesInstanceUID"),
        frame_of_reference_uid=text(header, "FrameOfReferenceUID"),
        patient_name=text(header, "PatientName"),
        patient_id=text(header, "PatientID"),
        study_date=text(header, "StudyDate"),
        study_description=text(header, "StudyDescription"),
        description=text(header, "SeriesDescription") or text(header, "ProtocolName"),
        number=_whole(number(header, "SeriesNumber")),
        modality=text(header, "Modality"),
        is_3d=text(header, "MRAcquisitionType") == "3D",
        scan=scan_facts_of(header),
        accession=text(header, "AccessionNumber"),
        birth_date=text(header, "PatientBirthDate"),
    )


def scan_facts_of(header: Any) -> ScanFacts:
    """How the series was scanned, from one of its headers."""
    given = ("ContrastBolusVolume", "ContrastBolusTotalDose")
    return ScanFacts(
        descriptions=tuple(
            part
            for part in (text(header, key) for key in ("SeriesDescription", "ProtocolName", "SequenceName"))
            if part
        ),
        image_type=texts(header, "ImageType"),
        scanning_sequence=texts(header, "ScanningSequence"),
        sequence_variant=texts(header, "SequenceVariant"),
        repetition_ms=number(header, "RepetitionTime"),
        echo_ms=number(header, "EchoTime"),
        inversion_ms=number(header, "InversionTime"),
        contrast_agent=text(header, "ContrastBolusAgent") or None,
        contrast_given=any((number(header, key) or 0) > 0 for key in given)
        or bool(header.get("ContrastBolusAgentSequence")),
        diffusion_b=number(header, "DiffusionBValue"),
    )


def text(header: Any, keyword: str) -> str:
    """One value as text; empty when it is absent."""
    value = header.get(keyword)
    return "" if value is None else _UNSEEN.sub(" ", str(value)).strip()


def texts(header: Any, keyword: str) -> tuple[str, ...]:
    """The values of an element of any multiplicity, in upper case."""
    value = header.get(keyword)
    if value is None or value == "":
        return ()
    several = (value,) if isinstance(value, str) else tuple(value)
    return tuple(_UNSEEN.sub(" ", str(one)).strip().upper() for one in several)


def number(header: Any, keyword: str) -> float | None:
    """One number; None when it is absent or not a number. Of several the first."""
    value = header.get(keyword)
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        value = value[0] if len(value) else None
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
