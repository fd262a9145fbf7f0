"""DICOM SR out: a measurement report (PS3.16, TID 1500) with a group for each region and each segment, and its proof.

A Comprehensive SR and not a Comprehensive 3D one: more archives take it. A region that is one segment of the SEG is a
volumetric group (TID 1411), which may refer to one segment only; a region of several is a plain group (TID 1501) that
refers to all of them. A centre is a text, in the patient's own directions.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from inference.contract import REGION_LABELS, Label, Region
from inference.dicom.headers import PARSE_ERRORS, quiet
from inference.dicom.reference import SourceImages
from inference.dicom.uids import uid_from
from inference.errors import InferenceError
from inference.export.change import Change, in_words
from inference.export.measures import Measures, in_directions
from inference.export.origin import Origin, equipment, series_number, stamped
from inference.export.report import NOTICE
from inference.export.segments import MANUFACTURER, PARTS, REGION_NAMES, REGION_TRACKING, tracking_uid
from inference.export.sides import Side

_SCHEME = "99SEGWIRE"
_MAXIMUM_3D = CodedConcept("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")
_GROWN_ML = CodedConcept("VOLCHANGE", _SCHEME, "Change of volume since earlier study")
_GROWN_PERCENT = CodedConcept("VOLCHANGE-PCT", _SCHEME, "Relative change of volume since earlier study")
_MR_OF_BRAIN = CodedConcept("816077007", "SCT", "MRI of brain")
_SIDES = {Side.RIGHT: CodedConcept("24028007", "SCT", "Right"), Side.LEFT: CodedConcept("7771000", "SCT", "Left")}
_KINDS = {
    "necrotic-core": codes.SCT.Necrosis,
    "oedema": codes.SCT.Edema,
}
_ML, _MM, _PERCENT = (
    CodedConcept("mL", "UCUM", "milliliter"),
    CodedConcept("mm", "UCUM", "millimeter"),
    CodedConcept("%", "UCUM", "percent"),
)


class ReportRefused(InferenceError):
    """The structured report does not say the same as the mask."""

    code = "sr_refused"
    family = "internal"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a structured report says. `parts_ml`: the volume of each label, in mL."""

    measures: Mapping[Region, Measures]
    parts_ml: Mapping[Label, float]
    sides: Mapping[Region, Side] = field(default_factory=dict)
    change: Change | None = None
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """One group as it was read back: the values by code, and the segments it refers to."""

    tracking_uid: str
    numbers: Mapping[str, float]
    texts: tuple[str, ...]
    segments: tuple[tuple[str, int], ...]
    """SOPInstanceUID and number."""


def save_report(
    findings: Findings, source: SourceImages, path: Path, *, origin: Origin, seg: Any | None, content: str
) -> Any:
    """Write the report and answer the Dataset. `seg`: the SEG's Dataset, None for an empty mask; `content`: the
    digest of the mask, which the UIDs depend on."""
    with quiet():
        document = sr.ComprehensiveSR(
            evidence=[*source.images, *([seg] if seg is not None else [])],
            content=_content(findings, source, origin=origin, seg=seg),
            series_instance_uid=uid_from("sr-series", origin.subject, content),
            sop_instance_uid=uid_from("sr-instance", origin.subject, content),
            series_number=series_number(source.first, 2000),
            instance_number=1,
            is_complete=True,
            series_description="Brain tumour measurements (research use only)",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            coding_schemes=[CodingSchemeIdentificationItem(designator=_SCHEME, name=f"{MANUFACTURER} private codes")],
            specific_character_set="ISO_IR 192",
            **equipment(origin),
        )
        stamped(document, origin).save_as(path)
    return document


def prove_report(path: Path, findings: Findings, *, origin: Origin, seg_uid: str | None) -> None:
    """Read a report back and compare every volume and diameter, and every reference, with what was to be said.

    Raises:
        ReportRefused: they differ, or it cannot be read.
    """
    try:
        with quiet():
            said = {group.tracking_uid: group for group in read_groups(path)}
    except PARSE_ERRORS as error:
        raise ReportRefused("The written structured report cannot be read.") from error
    for region, one in findings.measures.items():
        group = said.get(tracking_uid(origin.subject, REGION_TRACKING[region]))
        expected = tuple((seg_uid, int(label)) for label in sorted(REGION_LABELS[region])) if seg_uid else ()
        if group is None or (group.numbers, group.texts) != (_numbers(one, findings.change, region), _places(one)):
            raise ReportRefused("The written structured report does not say the same as the mask.")
        if group.segments != expected:
            raise ReportRefused("The written structured report does not refer to the written segments.")


def read_groups(path: Path) -> Iterator[Said]:
    """The measurement groups of a report of ours, read without the library that wrote them."""
    for container in _named(dcmread(path), codes.DCM.ImagingMeasurements):
        for group in _named(container, codes.DCM.MeasurementGroup):
            numbers = {
                item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
                for item in group.ContentSequence
                if item.ValueType == "NUM"
            }
            references = [
                (str(reference.ReferencedSOPInstanceUID), int(number))
                for item in _named(group, codes.DCM.ReferencedSegment)
                for reference in item.ReferencedSOPSequence
                for number in np.atleast_1d(reference.ReferencedSegmentNumber)
            ]
            yield Said(
                tracking_uid=str(_named(group, codes.DCM.TrackingUniqueIdentifier)[0].UID),
                numbers=numbers,
                texts=tuple(str(item.TextValue) for item in _named(group, codes.DCM.Center)),
                segments=tuple(references),
            )


def _named(item: Any, name: Any) -> list[Any]:
    """The content items with this concept name directly below one."""
    return [
        child
        for child in item.ContentSequence
        if "ConceptNameCodeSequence" in child and child.ConceptNameCodeSequence[0].get("CodeValue") == name.value
    ]


def _content(findings: Findings, source: SourceImages, *, origin: Origin, seg: Any | None) -> Any:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_from("device", origin.model.sha256),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=origin.model.name[:64],
        serial_number=origin.model.sha256[:16],
    )
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_MR_OF_BRAIN,
        imaging_measurements=_groups(findings, source, origin=origin, seg=seg),
    )
    for comment in _comments(findings, origin):
        item = sr.TextContentItem(name=codes.DCM.Comment, value=comment, relationship_type="CONTAINS")
        report[0].ContentSequence.append(item)
    return report


def _groups(findings: Findings, source: SourceImages, *, origin: Origin, seg: Any | None) -> list[Any]:
    algorithm = sr.AlgorithmIdentification(
        name=origin.model.name, version=origin.model.version, parameters=[f"weights sha256 {origin.model.sha256}"]
    )
    groups = []
    for region, one in findings.measures.items():
        labels, numbers = REGION_LABELS[region], _numbers(one, findings.change, region)
        site = sr.FindingSite(anatomic_location=codes.SCT.Brain, laterality=_laterality(findings, region))
        common = {"algorithm_id": algorithm, "finding_sites": [site]}
        group = _group(REGION_TRACKING[region], numbers, labels, source, common, origin=origin, seg=seg)
        group[0].ContentSequence.extend(
            sr.TextContentItem(name=codes.DCM.Center, value=place, relationship_type="CONTAINS")
            for place in _places(one)
        )
        groups.append(group)
    for part in PARTS:
        if part.tracking_id not in REGION_TRACKING.values():
            numbers = {codes.SCT.Volume.value: _decimal(findings.parts_ml[part.label])}
            common = {"algorithm_id": algorithm, "finding_sites": [sr.FindingSite(anatomic_location=codes.SCT.Brain)]}
            groups.append(_group(part.tracking_id, numbers, (part.label,), source, common, origin=origin, seg=seg))
    return groups


def _group(
    tracking_id: str,
    numbers: Mapping[str, float],
    labels: tuple[Label, ...],
    source: SourceImages,
    common: dict[str, Any],
    *,
    origin: Origin,
    seg: Any | None,
) -> Any:
    common = {
        **common,
        "tracking_identifier": sr.TrackingIdentifier(tracking_uid(origin.subject, tracking_id), tracking_id),
        "finding_type": _KINDS.get(tracking_id, codes.SCT.Neoplasm),
        "finding_category": codes.SCT.MorphologicallyAbnormalStructure,
        "measurements": [_measurement(code, value) for code, value in numbers.items()],
    }
    if seg is None:
        return sr.MeasurementsAndQualitativeEvaluations(**common)
    if len(labels) == 1:
        segment = sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=int(labels[0]),
            source_series=sr.SourceSeriesForSegmentation(source.first.SeriesInstanceUID),
        )
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)
    group = sr.MeasurementsAndQualitativeEvaluations(**common)
    group[0].ContentSequence.append(
        sr.ImageContentItem(
            name=codes.DCM.ReferencedSegment,
            referenced_sop_class_uid=seg.SOPClassUID,
            referenced_sop_instance_uid=seg.SOPInstanceUID,
            referenced_segment_numbers=[int(label) for label in sorted(labels)],
            relationship_type="CONTAINS",
        )
    )
    group[0].ContentSequence.append(sr.SourceSeriesForSegmentation(source.first.SeriesInstanceUID))
    return group


_NAMES: Mapping[str, tuple[Any, Any]] = {
    codes.SCT.Volume.value: (codes.SCT.Volume, _ML),
    codes.SCT.LongAxis.value: (codes.SCT.LongAxis, _MM),
    codes.SCT.ShortAxis.value: (codes.SCT.ShortAxis, _MM),
    _MAXIMUM_3D.value: (_MAXIMUM_3D, _MM),
    _GROWN_ML.value: (_GROWN_ML, _ML),
    _GROWN_PERCENT.value: (_GROWN_PERCENT, _PERCENT),
}


def _measurement(code: str, value: float) -> Any:
    name, unit = _NAMES[code]
    return sr.Measurement(name=name, value=value, unit=unit)


def _numbers(one: Measures, change: Change | None, region: Region) -> dict[str, float]:
    """Every number of a group by the code of its name, as it stands in the report."""
    numbers = {codes.SCT.Volume.value: _decimal(one.volume_ml)}
    lines = ((codes.SCT.LongAxis, one.axial), (codes.SCT.ShortAxis, one.across), (_MAXIMUM_3D, one.longest))
    numbers |= {code.value: _decimal(line.length_mm) for code, line in lines if line is not None}
    grown = change.regions.get(region) if change is not None else None
    if grown is not None:
        numbers[_GROWN_ML.value] = _decimal(grown.ml)
        if grown.percent is not None:
            numbers[_GROWN_PERCENT.value] = _decimal(grown.percent)
    return numbers


def _laterality(findings: Findings, region: Region) -> CodedConcept | None:
    side = findings.sides.get(region)
    return None if side is None else _SIDES[side]


def _places(one: Measures) -> tuple[str, ...]:
    return () if one.centre_mm is None else (in_directions(one.centre_mm),)


def _decimal(value: float) -> float:
    """Three digits after the point, which a decimal string of 16 characters holds exactly."""
    return round(value, 3) + 0.0


def _comments(findings: Findings, origin: Origin) -> list[str]:
    model = origin.model
    lines = [NOTICE, f"Model {model.name} {model.version}, weights sha256 {model.sha256}."]
    change = findings.change
    if change is not None:
        until = f" to {change.until}" if change.until else ""
        words = [in_words(REGION_NAMES[region], one) for region, one in change.regions.items()]
        lines.append(" ".join([f"Change from {change.since}{until}:", *words, change.note]).strip())
    return [*lines, *findings.comments]
