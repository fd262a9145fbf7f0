"""The frames of an enhanced multi-frame image (PS3.3 C.8.13), each told in the words of a single-frame one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from inference.dicom.facts import number, text
from inference.dicom.files import PARSE_ERRORS
from inference.dicom.vendors import PHILIPS_FRAME, PRIVATE_TAGS
from inference.errors import InputInvalid

_PLAIN = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle", "EchoTrainLength"),
    "MRImageFrameTypeSequence": ("ComplexImageComponent",),
    "MRReceiveCoilSequence": ("ReceiveCoilName",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "UnassignedSharedConvertedAttributesSequence": ("*",),
    "UnassignedPerFrameConvertedAttributesSequence": ("*",),
}
"""Functional groups whose elements bear the names they have in single-frame images; all (*) of a converted one."""
_PULSES = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}
SEQUENCES = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


class Header(dict[Any, Any]):
    """Values by keyword, private elements by number: as much of a pydicom Dataset as reading needs, and quicker."""

    @classmethod
    def of(cls, dataset: Any) -> Header:
        """The elements of a dataset; one whose value is damaged counts as absent."""
        found = cls()
        for tag in dataset.keys():  # noqa: SIM118 - iterating over a Dataset decodes its elements
            with suppress(*PARSE_ERRORS):
                element = dataset[tag]
                if element.keyword:
                    found[element.keyword] = element.value
                else:
                    found[(tag.group, tag.elem)] = element
        return found


def frames_of(header: Header) -> Iterator[Header]:
    """The header of each frame, in the order of the pixels.

    Raises:
        InputInvalid: malformed, when the frames are not those that are announced.
    """
    shared = _first(header, SEQUENCES[0])
    frames = header.get(SEQUENCES[1])
    count = int(number(header, "NumberOfFrames") or 1)
    if not frames or len(frames) != count:
        raise InputInvalid("malformed", f"It announces {count} frames and describes {len(frames or ())}.")
    whole = _whole(header)
    whole.update(_told(shared))
    for frame in frames:
        yield Header({**whole, **_told(frame)})


def _whole(header: Header) -> Header:
    found = Header({key: value for key, value in header.items() if key not in SEQUENCES})
    pulses = list(_PULSES.get(text(header, "EchoPulseSequence").upper(), ()))
    if text(header, "EchoPlanarPulseSequence").upper() == "YES":
        pulses.append("EP")
    if pulses and not found.get("ScanningSequence"):
        found["ScanningSequence"] = pulses
    if not found.get("SequenceName"):
        found["SequenceName"] = text(header, "PulseSequenceName")
    return found


def _told(groups: Any) -> Header:
    """The functional groups of one item in single-frame words; what the item does not say is absent."""
    found = Header()
    if groups is None:
        return found
    for sequence, keywords in _PLAIN.items():
        item = _first(groups, sequence)
        if item is not None:
            found.update(_elements(item, keywords))
    _tell_contrast(groups, found)
    _tell_time(groups, found)
    _tell_diffusion(groups, found)
    private = groups.get(PHILIPS_FRAME)
    if private is not None and private.VR == "SQ" and private.value:
        found.update({tag: private.value[0][tag] for tag in PRIVATE_TAGS if tag in private.value[0]})
    return found


def _tell_contrast(groups: Any, found: Header) -> None:
    echo, modifier = _first(groups, "MREchoSequence"), _first(groups, "MRModifierSequence")
    if echo is not None and echo.get("EffectiveEchoTime") is not None:
        found["EchoTime"] = echo.EffectiveEchoTime
    if modifier is not None and modifier.get("InversionTimes") is not None:
        found["InversionTime"] = modifier.InversionTimes
    kind = _first(groups, "MRImageFrameTypeSequence")
    if kind is not None and kind.get("FrameType"):
        found["ImageType"] = kind.FrameType
    usage = _first(groups, "ContrastBolusUsageSequence")
    if usage is not None and text(usage, "ContrastBolusAgentAdministered").upper() == "NO":
        found["ContrastBolusAgentSequence"] = None


def _tell_time(groups: Any, found: Header) -> None:
    content = _first(groups, "FrameContentSequence")
    if content is None:
        return
    for keyword, told in (
        ("TemporalPositionIndex", "TemporalPositionIdentifier"),
        ("FrameAcquisitionNumber", "AcquisitionNumber"),
        ("FrameAcquisitionDateTime", "AcquisitionDateTime"),
        ("StackID", "StackID"),
    ):
        if content.get(keyword) is not None:
            found[told] = content.get(keyword)


def _tell_diffusion(groups: Any, found: Header) -> None:
    diffusion = _first(groups, "MRDiffusionSequence")
    if diffusion is None:
        return
    if diffusion.get("DiffusionBValue") is not None:
        found["DiffusionBValue"] = diffusion.DiffusionBValue
    gradient = _first(diffusion, "DiffusionGradientDirectionSequence")
    if gradient is not None and gradient.get("DiffusionGradientOrientation") is not None:
        found["DiffusionGradientOrientation"] = gradient.DiffusionGradientOrientation


def _elements(item: Any, keywords: tuple[str, ...]) -> Header:
    if keywords == ("*",):
        return Header.of(item)
    return Header({keyword: item.get(keyword) for keyword in keywords if item.get(keyword) is not None})


def _first(item: Any, keyword: str) -> Any:
    several = None if item is None else item.get(keyword)
    return several[0] if several else None
