"""Who made a document, when, and for which result: what every DICOM object of one result says in the same words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import highdicom
from pydicom.sr.codedict import codes

from inference.contract import ModelRef
from inference.dicom.uids import uid_from
from inference.export.segments import MANUFACTURER

_HIGHEST_NUMBER = 2**31 - 1
"""Of an integer string (PS3.5, 6.2)."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """`subject` is the job; the UIDs of its documents depend on it and on the mask alone. `at`: when the mask came."""

    model: ModelRef
    subject: str
    at: datetime


def equipment(origin: Origin) -> dict[str, Any]:
    """The arguments of a highdicom object that say what made it (PS3.3 C.7.5.1 and C.12.1) and when."""
    made = highdicom.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=origin.model.name[:64],
        software_versions=origin.model.version[:64],
        contribution_description=f"weights sha256 {origin.model.sha256}; research use only, not for clinical use",
    )
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": origin.model.name[:64],
        "software_versions": origin.model.version[:64],
        "device_serial_number": origin.model.sha256[:16],
        "content_date": origin.at.strftime("%Y%m%d"),
        "content_time": origin.at.strftime("%H%M%S"),
        "contributing_equipment": [made],
    }


def series_number(image: Any, beyond: int) -> int:
    """The number of a series of ours: that of the source, so many higher."""
    return min(max(0, int(image.SeriesNumber)) + beyond, _HIGHEST_NUMBER)


def stamped(document: Any, origin: Origin) -> Any:
    """The object with its times and its inner identifiers depending on the result alone, so that it is written in the
    same bytes again."""
    document.InstanceCreationDate, document.InstanceCreationTime = (
        origin.at.strftime("%Y%m%d"),
        origin.at.strftime("%H%M%S"),
    )
    for item in document.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = origin.at.strftime("%Y%m%d%H%M%S")
    dimensions = [*document.get("DimensionOrganizationSequence", []), *document.get("DimensionIndexSequence", [])]
    for item in dimensions:
        item.DimensionOrganizationUID = uid_from("dimensions", str(document.SOPInstanceUID))
    return document
