"""The parts and regions of a tumour as every document names, numbers and colours them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from inference.contract import Label, Region
from inference.dicom.uids import uid_from

MANUFACTURER = "Segwire"


@dataclass(frozen=True)
class Part:
    """One label: a segment of the SEG. `rgb` is what viewers are asked to show it in."""

    label: Label
    name: str
    tracking_id: str
    rgb: tuple[int, int, int]


PARTS = (
    Part(Label.NECROTIC_CORE, "Necrotic tumour core", "necrotic-core", (220, 40, 40)),
    Part(Label.OEDEMA, "Peritumoural oedema", "oedema", (60, 180, 75)),
    Part(Label.ENHANCING_TUMOUR, "Enhancing tumour", "enhancing-tumour", (255, 210, 0)),
)
REGION_NAMES: Mapping[Region, str] = MappingProxyType(
    {Region.WT: "Whole tumour", Region.TC: "Tumour core", Region.ET: "Enhancing tumour"}
)
REGION_TRACKING: Mapping[Region, str] = MappingProxyType(
    {Region.WT: "whole-tumour", Region.TC: "tumour-core", Region.ET: "enhancing-tumour"}
)
"""ET is a segment by itself and shares its tracking id; the other two are made of several."""


def tracking_uid(subject: str, tracking_id: str) -> str:
    """The TrackingUID of a part or region of one result, the same in every document about it."""
    return uid_from("tracking", subject, tracking_id)
