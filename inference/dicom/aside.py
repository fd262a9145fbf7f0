"""What is sound DICOM but no scan to be analysed: set aside with a sentence, never an error of the upload.

Codes: directory, report, document, presentation_state, segmentation, spectroscopy, raw_data, secondary_capture,
not_mr, colour, localizer, derived_map, projection, time_series, not_an_image.
"""

from __future__ import annotations

import re

from inference.errors import InputInvalid

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR, ENHANCED_COLOUR, LEGACY_MR = f"{MR_IMAGE}.1", f"{MR_IMAGE}.3", f"{MR_IMAGE}.4"
READ_CLASSES = frozenset({MR_IMAGE, ENHANCED_MR, ENHANCED_COLOUR, LEGACY_MR})
DICOMDIR = "1.2.840.10008.1.3.10"

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_BY_CLASS = (
    (DICOMDIR, "directory", "It is the index of a disc; the files it names are read one by one."),
    (f"{_STORAGE}4.2", "spectroscopy", "It holds spectra (MR spectroscopy), not an image."),
    (f"{_STORAGE}66.4", "segmentation", "It is a segmentation, not a scan."),
    (f"{_STORAGE}66.5", "segmentation", "It is a surface segmentation, not a scan."),
    (f"{_STORAGE}66.7", "segmentation", "It is a label map, not a scan."),
    (f"{_STORAGE}481", "segmentation", "It belongs to radiotherapy planning; it is not a scan."),
    (f"{_STORAGE}66", "raw_data", "It holds raw data or a registration, not an image."),
    (f"{_STORAGE}104", "document", "It is an encapsulated document, not an image."),
    (f"{_STORAGE}11", "presentation_state", "It says how other images are to be shown; it holds none itself."),
    (f"{_STORAGE}88", "report", "It is a structured report or a note on other images, not an image."),
    (f"{_STORAGE}7", "secondary_capture", "It is a captured picture, without a place in the patient."),
    (f"{_STORAGE}9", "not_an_image", "It holds curves or waveforms, not an image."),
    (f"{_STORAGE}30", "derived_map", "It is a parametric map, computed from other images."),
)
_MAP_NAMES = {
    "apparent diffusion": "ADC|EADC|EXP|ADC MAP|ADC_MAP",
    "diffusion tensor": "FA|COLFA|TENSOR|TENSOR_B0|FRACTIONAL ANISOTROPY",
    "trace of diffusion": "TRACEW|TRACE|ISOTROPIC",
    "subtraction": "SUBTRACTION|SUBTRACT|SUB",
    "perfusion": "CBV|CBF|MTT|TTP|TMAX|RCBV|RCBF|RELCBV|RELCBF|RELMTT|PBP|GBP|PERFUSION|ASL_RELCBF",
    "parameter": "T1 MAP|T2 MAP|T2_STAR MAP|T2 STAR MAP|R2 MAP|R2_STAR MAP|B0 MAP|B1 MAP|FIELD_MAP|T_TEST",
}
_MAPS = {word: kind for kind, words in _MAP_NAMES.items() for word in words.split("|")}
_PROJECTIONS = frozenset({"MIP", "MINIP", "MNIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "PROJECTION_IMAGE", "MAXIP"})
_CAPTURES = frozenset({"SCREEN SAVE", "SCREEN_SAVE", "SECONDARY_CAPTURE", "CAPTURE"})
_LOCALIZER = re.compile(
    r"(?<![a-z])(?:loc|locali[sz](?:er|ator|ador|ateur)|locator|scouts?|survey|pilot|plan[_ ]?scan|"
    r"3[- _]?plane?|three[- _]?plane|aahscout|aahead[_ ]?scout|uebersicht|übersicht|reperage|repérage)(?![a-z])",
    re.IGNORECASE,
)
_MAP_WORDS = re.compile(
    r"(?<![a-z])(?:e?adc|colfa|tracew|r?cbv|r?cbf|mtt|ttp|tmax|minip|mip|subtraction|subtr|tensor)(?![a-z])",
    re.IGNORECASE,
)


class NotAScan(InputInvalid):
    """A sound object that is no scan to be analysed; of which study, where that is known."""

    study_uid: str = ""


def check_class(sop_class: str, modality: str) -> None:
    """Set aside by what the object is (PS3.4, B.5). Raises NotAScan; InputInvalid not_mr if it does not say."""
    if sop_class in READ_CLASSES:
        return
    for prefix, code, sentence in _BY_CLASS:
        if sop_class == prefix or sop_class.startswith(f"{prefix}."):
            raise NotAScan(code, sentence)
    if sop_class.startswith(_STORAGE):
        raise NotAScan("not_mr", f"It is not an MR image (modality {modality or 'unknown'}).")
    raise InputInvalid("not_mr", f"It is not an MR image (modality {modality or 'unknown'}).")


def check_colour(samples: float | None) -> None:
    """Set colours aside: they are drawn from other images. Raises NotAScan."""
    if samples == 3:
        raise NotAScan("colour", "It is a picture in colours, computed from other images.")


def check_type(image_type: tuple[str, ...], descriptions: tuple[str, ...]) -> None:
    """Set aside by what the image says it is (PS3.3 C.7.6.1.1.2); descriptions count for derived images only.

    Raises:
        NotAScan: localizer, derived_map, projection, secondary_capture.
    """
    said = frozenset(image_type)
    if "LOCALIZER" in said:
        raise localizer()
    if said & _CAPTURES:
        raise NotAScan("secondary_capture", "It is a captured picture, not a scan.")
    if said & _PROJECTIONS:
        raise NotAScan("projection", "It is a projection of other images (such as a MIP), not a scan.")
    named = next((one for one in image_type if one in _MAPS), None)
    if named is not None:
        raise NotAScan("derived_map", f"It is a map computed from other images ({_MAPS[named]}), not a scan.")
    word = _MAP_WORDS.search(" ".join(descriptions)) if image_type[:1] == ("DERIVED",) else None
    if word is not None:
        raise NotAScan("derived_map", f"It is derived from other images, and described as {word[0]}: not a scan.")


def is_called_localizer(descriptions: tuple[str, ...]) -> bool:
    """Whether people or the scanner named it a scan to plan others by."""
    return any(_LOCALIZER.search(one) for one in descriptions)


def localizer() -> NotAScan:
    """Why a localizer is set aside."""
    return NotAScan("localizer", "It is a localizer, a scan to plan others by.")
