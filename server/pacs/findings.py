"""What an archive says of its studies and series, as values; read from DICOM JSON (PS3.18, F.2).

An archive may leave anything out and send anything at all, so every reading answers with something plain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_TEXT = 324
"""Of a person's name with all its groups."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_WRITINGS = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True)
class FoundStudy:
    """A study there. `date` is YYYY-MM-DD or empty; counts are None where the archive does not tell."""

    uid: str
    patient_name: str = ""
    patient_id: str = ""
    date: str = ""
    description: str = ""
    accession: str = ""
    modalities: tuple[str, ...] = ()
    series_count: int | None = None
    image_count: int | None = None


@dataclass(frozen=True)
class FoundSeries:
    """A series there."""

    uid: str
    modality: str = ""
    description: str = ""
    station: str = ""
    institution: str = ""
    image_count: int | None = None


def is_uid(text: str) -> bool:
    """Whether it is a UID (PS3.5, 9.1), components with leading zeros included: scanners write those."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def study_of(found: Any) -> FoundStudy | None:
    """One study of an answer; None when it has no UID to ask for it by."""
    uid = text_of(found, "0020000D")
    if not is_uid(uid):
        return None
    return FoundStudy(
        uid=uid,
        patient_name=text_of(found, "00100010"),
        patient_id=text_of(found, "00100020"),
        date=day_of(text_of(found, "00080020")),
        description=text_of(found, "00081030"),
        accession=text_of(found, "00080050"),
        modalities=texts_of(found, "00080061"),
        series_count=number_of(found, "00201206"),
        image_count=number_of(found, "00201208"),
    )


def series_of(found: Any) -> FoundSeries | None:
    """One series of an answer; None when it has no UID to ask for it by."""
    uid = text_of(found, "0020000E")
    if not is_uid(uid):
        return None
    return FoundSeries(
        uid=uid,
        modality=text_of(found, "00080060"),
        description=text_of(found, "0008103E"),
        station=text_of(found, "00081010"),
        institution=text_of(found, "00080080"),
        image_count=number_of(found, "00201209"),
    )


def values_of(found: Any, tag: str) -> list[Any]:
    """The values of an element, without empty ones."""
    element = found.get(tag) if isinstance(found, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return [value for value in values if value is not None] if isinstance(values, list) else []


def texts_of(found: Any, tag: str) -> tuple[str, ...]:
    """The values of an element as texts without anything that cannot be seen."""
    return tuple(_plain(value) for value in values_of(found, tag)[:64])


def text_of(found: Any, tag: str) -> str:
    """The first value of an element, or an empty text."""
    return next(iter(texts_of(found, tag)), "")


def number_of(found: Any, tag: str) -> int | None:
    """The first value of an element as a whole number; some archives write it as a text."""
    try:
        number = int(next(iter(values_of(found, tag)), ""))
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 2**31 else None


def day_of(text: str) -> str:
    """YYYY-MM-DD of a DICOM date; empty of anything else."""
    digits = text.replace(".", "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 and digits.isdigit() else ""


def _plain(value: Any) -> str:
    """A person's name comes in up to three writings; they are joined as in a DICOM file."""
    if isinstance(value, Mapping):
        groups = [str(value.get(writing) or "") for writing in _WRITINGS]
        value = "=".join(groups).rstrip("=")
    return "".join(letter for letter in str(value) if letter.isprintable()).strip()[:LONGEST_TEXT]
