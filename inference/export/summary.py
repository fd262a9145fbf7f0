"""The PDF summary of one result: who, when, what was found, how it was found, and what to be careful about.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.contract import Region
from inference.export.change import Change
from inference.export.measures import Measures, in_directions
from inference.export.origin import Origin
from inference.export.pictures import KeyPicture
from inference.export.report import NOTICE
from inference.export.segments import REGION_NAMES
from inference.export.sheet import Sheet
from inference.export.sides import Side

_DASH = "–"
_BRAIN = {
    "given": "came without the skull",
    "network": "found by a network",
    "classical": "found by brightness and shape",
    "none": "not looked for: the model reads the whole head",
}
_METHODS = {"none": "as it is", "headers": "by the scanner's positions", "rigid": "moved rigidly"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the PDF says. `image`: the source's header, None for NIfTI; `alignment` and `brain` as in report.json."""

    origin: Origin
    measures: Mapping[Region, Measures]
    sides: Mapping[Region, Side]
    image: Any | None = None
    pictures: Sequence[KeyPicture] = ()
    change: Change | None = None
    used: Sequence[str] = ()
    missing: Sequence[str] = ()
    reference: str = ""
    alignment: Sequence[Mapping[str, Any]] = ()
    brain: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()


def draw_summary(summary: Summary) -> bytes:
    """The PDF. The same summary gives the same bytes."""
    origin = summary.origin
    sheet = Sheet(
        title="Brain tumour segmentation: summary",
        small_print=f"{NOTICE} Job {origin.subject}, {origin.model.name} {origin.model.version}.",
    )
    sheet.title("Brain tumour segmentation", f"{NOTICE} Made by software; nobody has checked it.")
    sheet.pairs(_identity(summary.image))
    _measured(sheet, summary)
    _changed(sheet, summary.change)
    _careful(sheet, summary.warnings)
    if summary.pictures:
        sheet.heading("Largest extents")
        sheet.pictures([picture.pixels for picture in summary.pictures])
    _made(sheet, summary)
    return sheet.done()


def _identity(image: Any | None) -> list[tuple[str, str]]:
    if image is None:
        return [("Patient", "not known: the scans came as NIfTI files")]
    rows = [
        ("Patient", shown_name(str(image.PatientName or ""))),
        ("Patient ID", str(image.PatientID or "")),
        ("Born", _date(image.PatientBirthDate)),
        ("Sex", str(image.PatientSex or "")),
        ("Study date", _date(image.StudyDate)),
        ("Accession", str(image.AccessionNumber or "")),
        ("Study", str(image.get("StudyDescription") or "")),
        ("Study UID", str(image.StudyInstanceUID)),
    ]
    return [(name, value or _DASH) for name, value in rows]


def shown_name(name: str) -> str:
    """A person's name for reading: its groups (letters, ideographs, sounds; PS3.5, 6.2.1) without carets."""
    groups = [" ".join(part for part in group.split("^") if part.strip()) for group in name.split("=")]
    first, *others = [group for group in groups if group] or [""]
    return f"{first} ({', '.join(others)})" if others else first


def _date(value: Any) -> str:
    digits = str(value or "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if len(digits) == 8 else digits


def _measured(sheet: Sheet, summary: Summary) -> None:
    sheet.heading("Measurements")
    rows = []
    for region, one in summary.measures.items():
        side = summary.sides.get(region)
        rows.append(
            [
                REGION_NAMES[region],
                f"{one.volume_ml:.1f}",
                _length(one.axial),
                _length(one.across),
                _length(one.longest),
                str(side) if side else _DASH,
                in_directions(one.centre_mm).replace(" mm", "") if one.centre_mm else _DASH,
            ]
        )
    head = ("", "Volume mL", "Axial mm", "Across mm", "Any way mm", "Side", "Centre mm")
    sheet.table(head, rows, widths=(0.2, 0.12, 0.11, 0.12, 0.13, 0.09, 0.23))
    sheet.paragraph(
        "Axial: the longest line in one axial slice. Across: the longest line at right angles to it. "
        "Side: where at least 95 % of the region lies on one side of the head's middle."
    )


def _length(line: Any | None) -> str:
    return _DASH if line is None else f"{line.length_mm:.1f}"


def _changed(sheet: Sheet, change: Change | None) -> None:
    if change is None:
        return
    sheet.heading(f"Change since {change.since}")
    rows = [
        [
            REGION_NAMES[region],
            f"{one.before_ml:.1f}",
            f"{one.after_ml:.1f}",
            f"{one.ml:+.1f}",
            _DASH if one.percent is None else f"{one.percent:+.1f}",
        ]
        for region, one in change.regions.items()
    ]
    head = ("", f"{change.since} mL", f"{change.until or 'now'} mL", "Change mL", "Change %")
    sheet.table(head, rows, widths=(0.28, 0.18, 0.18, 0.18, 0.18))
    if change.note:
        sheet.paragraph(change.note)


def _careful(sheet: Sheet, warnings: Sequence[str]) -> None:
    if warnings:
        sheet.heading("Please note")
        for warning in warnings:
            sheet.paragraph(f"• {warning}")


def _made(sheet: Sheet, summary: Summary) -> None:
    sheet.heading("How it was made")
    model = summary.origin.model
    sheet.pairs(
        [
            ("Model", f"{model.name} {model.version}"),
            ("Made at", summary.origin.at.strftime("%Y-%m-%d %H:%M")),
            ("Weights sha256", model.sha256),
            ("Scans used", ", ".join(summary.used) or _DASH),
            ("Missing", ", ".join(summary.missing) or "none"),
            ("Measured on", summary.reference or _DASH),
            ("Brain", _brain(summary.brain)),
        ]
    )
    rows = [
        [
            str(part.get("sequence", "")),
            _METHODS.get(str(part.get("method", "")), str(part.get("method", ""))),
            _number(part.get("rotation_degrees"), "{:.1f}"),
            _number(part.get("shift_mm"), "{:.1f}"),
            _number(part.get("similarity"), "{:.2f}"),
        ]
        for part in summary.alignment
    ]
    if rows:
        sheet.table(
            ("Brought together", "How", "Turned °", "Shifted mm", "Fit 0 to 1"),
            rows,
            widths=(0.2, 0.34, 0.14, 0.16, 0.16),
        )


def _brain(brain: Mapping[str, Any] | None) -> str:
    if brain is None:
        return _DASH
    volume = brain.get("volume_ml")
    size = f", {volume:.0f} mL" if isinstance(volume, int | float) and volume > 0 else ""
    return _BRAIN.get(str(brain.get("method", "")), str(brain.get("method", ""))) + size


def _number(value: Any, shape: str) -> str:
    return shape.format(value) if isinstance(value, int | float) else _DASH
