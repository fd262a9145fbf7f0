"""What people write into series descriptions: weighting, contrast agent, and what is no anatomical scan at all.

The words are those of scanner defaults and of radiographers in English, German, French, Italian, Spanish, Portuguese,
Korean, Japanese and Chinese.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from inference.contract import Sequence

_WEIGHTING = re.compile(r"(?:^|[^a-z0-9])s?t([12])(?![0-9])")
_T2_STAR = re.compile(r"t2[\s_]*(?:\*|star|s(?![a-z]))")
_PLUS_CONTRAST = re.compile(r"\+\s*(?:c|ce|gd|gado?|km|cm|mdc|k)(?![a-z])|(?<![a-z])(?:c|gd|km)\s*\+")
_WITHOUT = re.compile(r"(?<![a-z])w\s*/\s*o(?![a-z])|(?<![a-z])(?:o|s)[./]\s*(?:km|cm|mdc)(?![a-z])")

_FLUID_ATTENUATED = ("flair", "tirm", "darkfluid", "dark-fluid", "dark fluid", "spcir", "수액감쇠")
_T1_METHODS = frozenset(
    {"mprage", "mp2rage", "bravo", "spgr", "fspgr", "tfe", "tfl", "tfl3d", "vibe", "thrive", "lava"}
)
_T2_METHODS = frozenset({"haste", "ssfse"})

_CONTRAST = frozenset(
    """
    gd gad gado gadolinium gadovist gadobutrol gadoterate dotarem magnevist prohance multihance clariscan omniscan
    post postcontrast postgd postgad ce cm km kmgabe mdc contrast contraste contrasto kontrast contrastado
    inj injecte injection enhanced apres nach dopo despues depois after t1ce t1c t1gd t1post t1km
    """.split()  # noqa: SIM905 - a vocabulary reads better as text than as a list of a word a line
)
_CONTRAST_PARTS = ("조영", "造影", "增强", "増強", "enhance", "gadolin")
_NATIVE = frozenset(
    """
    pre precontrast pregd pregad native nativ nat ohne without wo sans senza sin sem avant before vor prima antes
    non no noncontrast plain unenhanced basal basale
    """.split()  # noqa: SIM905
)
_NATIVE_PARTS = ("조영전", "조영 전", "비조영", "造影前", "単純", "平扫", "non-contrast")

_NO_ANATOMY = frozenset(
    """
    dwi adc dti diff diffusion trace tracew colfa swi swan venbold mip minip perf perfusion pwi dsc dce asl pcasl
    tof mra mrv angio venc phase pha localizer localiser localizador localisateur scout survey loc loca reperage
    uebersicht roi seg mask sub subtraction subtraktion bold fmri epi ep2d cbv cbf mtt ttp tmax spectro mrs csi
    calib calibration asset refscan fieldmap field b0 b1000 ciss fiesta trufi bffe stir pd dp report screenshot
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Wording:
    """What the words of a series say. None: they say nothing, or contradict each other."""

    weighting: Sequence | None
    """T1, T2 or FLAIR; the contrast agent is beside it."""
    has_contrast: bool | None
    is_anatomy: bool


def read_words(descriptions: tuple[str, ...]) -> Wording:
    """What the descriptions of a series say together."""
    line = _plain(" | ".join(descriptions))
    tokens = frozenset(re.split(r"[\W_]+", line)) - {""}
    return Wording(
        weighting=_weighting(line, tokens),
        has_contrast=_contrast(line, tokens),
        is_anatomy=not (tokens & _NO_ANATOMY or _T2_STAR.search(line)),
    )


def _weighting(line: str, tokens: frozenset[str]) -> Sequence | None:
    written = set(_WEIGHTING.findall(line))
    fluid = any(word in line for word in _FLUID_ATTENUATED)
    if fluid:
        # "T1 FLAIR" is a T1-weighted scan with a short inversion time; "FLAIR" alone and "T2 FLAIR" are not.
        return Sequence.T1 if written == {"1"} else Sequence.FLAIR
    if written == {"1", "2"}:
        return None
    if written == {"1"} or (not written and tokens & _T1_METHODS):
        return Sequence.T1
    return Sequence.T2 if written == {"2"} or tokens & _T2_METHODS else None


def _contrast(line: str, tokens: frozenset[str]) -> bool | None:
    native = bool(tokens & _NATIVE) or any(part in line for part in _NATIVE_PARTS) or bool(_WITHOUT.search(line))
    if native:
        return False
    given = (
        bool(tokens & _CONTRAST) or any(part in line for part in _CONTRAST_PARTS) or bool(_PLUS_CONTRAST.search(line))
    )
    return True if given else None


def _plain(line: str) -> str:
    """Lower case without accents; Hangul, Kana and Han stay whole."""
    apart = unicodedata.normalize("NFKD", line)
    return unicodedata.normalize("NFC", "".join(sign for sign in apart if not unicodedata.combining(sign))).lower()
