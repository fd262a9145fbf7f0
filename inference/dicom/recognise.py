"""Which of the four sequences a series is: from how it was scanned, then from what people wrote.

Two witnesses are heard: the scan parameters (physics) and the descriptions (words). Where they agree the answer is
nearly sure, where only one speaks it is less so, where they contradict each other there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from inference.appearance import CLEAR, DOUBTFUL, LEAST_DOUBT, because, evidence, weigh
from inference.contract import Sequence
from inference.dicom.facts import ScanFacts
from inference.dicom.words import Wording, read_words

_SUREST = 0.99

_NO_AGENT = frozenset({"", "no", "none", "n", "0", "nil", "not", "without", "no contrast", "n/a"})

_FILE_NAMES: dict[str, Sequence] = {
    **dict.fromkeys(("t1", "t1n", "t1w"), Sequence.T1),
    **dict.fromkeys(("t1ce", "t1c", "t1gd", "t1post"), Sequence.T1CE),
    **dict.fromkeys(("t2", "t2w"), Sequence.T2),
    **dict.fromkeys(("flair", "fla", "t2f"), Sequence.FLAIR),
}
_AGENT_BESIDE = frozenset({"ce", "gd", "gad", "post", "km", "contrast", "gadolinium"})
_NOT_A_SCAN = frozenset({"seg", "mask", "label", "labels", "roi", "lesion", "lesions"})


@dataclass(frozen=True)
class Judgement:
    """Which sequence a volume is held to be. `source`: header, voxels or name; empty: nobody knows."""

    sequence: Sequence | None
    confidence: float
    """0 to 1."""
    source: str = ""
    reason: str = ""
    """A sentence for the doctor, where there is something to say."""


def judge(facts: ScanFacts | None, name: str, fingerprint: Mapping[str, float]) -> Judgement:
    """Weigh what the header (None: there is none), the file's name and the voxels say.

    The voxels make a sequence that was given more or less sure and never replace it: where they contradict it, the
    confidence falls below `DOUBTFUL` and the reason says what the scan looks like. They decide alone only where
    nothing was given, and only when they are clear.
    """
    given, confidence = from_file_name(name) if facts is None else recognise(facts)
    found = evidence(fingerprint)
    if facts is not None and not _may_be_anatomy(facts):
        return Judgement(None, 0.0)
    if given is not None:
        return _weighed(given, confidence, "name" if facts is None else "header", found)
    return _seen_only(facts, found) if found else Judgement(None, 0.0)


def recognise(facts: ScanFacts) -> tuple[Sequence | None, float]:
    """The sequence of a series and how sure that is (0 to 1); None with 0.0 when it is better to ask.

    An agent's name in the header (ContrastBolusAgent) turns T1 into T1CE, except where the description says
    that it was scanned before; T2 and FLAIR stay what they are after contrast.
    """
    if not _may_be_anatomy(facts):
        return None, 0.0
    words = read_words(facts.descriptions)
    weighting, confidence = _agree(physical_weighting(facts), words.weighting)
    if weighting is not Sequence.T1:
        return weighting, confidence
    return _with_contrast(facts, words, confidence)


def physical_weighting(facts: ScanFacts) -> Sequence | None:
    """T1, T2 or FLAIR from repetition, echo and inversion time at 0.06 to 3 tesla; None: neither, or not known."""
    repetition, echo = facts.repetition_ms, facts.echo_ms
    if repetition is None or echo is None or echo <= 0:
        return None
    if "GR" in facts.scanning_sequence or ("RM" in facts.scanning_sequence and repetition < 50):
        return _gradient_echo(repetition, echo)
    inversion = facts.inversion_ms or 0.0
    if repetition >= 3500 and echo >= 70:
        if inversion >= 1300 or (inversion == 0 and "IR" in facts.scanning_sequence):
            return Sequence.FLAIR
        return Sequence.T2 if inversion == 0 else None
    if repetition >= 1800 and echo >= 70 and inversion == 0:
        return Sequence.T2
    is_short = repetition <= 1300 or (repetition <= 3500 and 500 <= inversion <= 1250)
    return Sequence.T1 if is_short and echo <= 35 else None


def from_file_name(name: str) -> tuple[Sequence | None, float]:
    """The sequence a NIfTI file's name stands for (t1ce.nii.gz, BraTS-0001-t2f.nii), and how sure that is."""
    tokens = [token for token in re.split(r"[^a-z0-9]+", re.sub(r"\.nii(\.gz)?$", "", name.lower())) if token]
    found = {_FILE_NAMES[token] for token in tokens if token in _FILE_NAMES}
    if found == {Sequence.T2, Sequence.FLAIR}:
        found = {Sequence.FLAIR}
    if found == {Sequence.T1} and _AGENT_BESIDE & set(tokens):
        found = {Sequence.T1CE}
    if len(found) != 1 or _NOT_A_SCAN & set(tokens):
        return None, 0.0
    return found.pop(), 0.8


def _weighed(given: Sequence, confidence: float, source: str, found: Mapping[Sequence, float]) -> Judgement:
    if not found:
        return Judgement(given, confidence, source)
    weighed = weigh(given, confidence, found)
    sure = round(min(weighed[given], _SUREST), 3)
    likely = max(weighed, key=lambda sequence: weighed[sequence])
    if sure >= DOUBTFUL or likely is given:
        return Judgement(given, sure, source)
    return Judgement(given, sure, source, f"The series given as {given} looks like {likely}: {because(likely)}.")


def _seen_only(facts: ScanFacts | None, found: dict[Sequence, float]) -> Judgement:
    told = None if facts is None else _agent_told(facts, read_words(facts.descriptions))
    if told is not None:
        found[Sequence.T1 if told else Sequence.T1CE] *= LEAST_DOUBT
    sure, likely = max((share / sum(found.values()), sequence) for sequence, share in found.items())
    if sure >= CLEAR:
        sentence = f"Told by the images alone: {because(likely)}."
        return Judgement(likely, round(min(sure, _SUREST), 3), "voxels", sentence)
    if likely in {Sequence.T1, Sequence.T1CE}:
        return Judgement(None, 0.0, "", "The images look like T1; whether after contrast agent is not clear.")
    return Judgement(None, 0.0, "", f"What this is is not clear; the images look most like {likely}.")


def _gradient_echo(repetition: float, echo: float) -> Sequence | None:
    # From about 10 ms on a gradient echo shows T2*; MPRAGE, FSPGR, TFE, FLASH and VIBE stay below.
    return Sequence.T1 if echo < 10 and repetition <= 3500 else None


def _may_be_anatomy(facts: ScanFacts) -> bool:
    return read_words(facts.descriptions).is_anatomy and not _is_map(facts)


def _is_map(facts: ScanFacts) -> bool:
    """Diffusion, echo-planar, phase, or computed from other images."""
    kinds = set(facts.image_type[2:])
    maps = {
        "P",
        "PHASE",
        "PHASE MAP",
        "ADC",
        "FA",
        "TRACEW",
        "DIFFUSION",
        "PERFUSION",
        "SUBTRACTION",
        "LOCALIZER",
        "MOSAIC",
    }
    is_echo_planar = "EP" in facts.scanning_sequence
    return bool(kinds & maps) or is_echo_planar or bool(facts.diffusion_b)


def _agree(physics: Sequence | None, words: Sequence | None) -> tuple[Sequence | None, float]:
    if physics is None and words is None:
        return None, 0.0
    if physics is None:
        return words, 0.65
    if words is None:
        return physics, 0.8
    return (physics, 0.97) if physics is words else (None, 0.0)


def _with_contrast(facts: ScanFacts, words: Wording, confidence: float) -> tuple[Sequence | None, float]:
    told = _agent_told(facts, words)
    if told is None:
        return Sequence.T1, min(confidence, 0.9)
    if told:
        return Sequence.T1CE, confidence if _agent_given(facts) else min(confidence, 0.85)
    # Some scanners copy the agent of the examination into the scans before it.
    return Sequence.T1, min(confidence, 0.6) if _agent_given(facts) else confidence


def _agent_given(facts: ScanFacts) -> bool:
    return (facts.contrast_agent or "").strip().lower() not in _NO_AGENT or facts.contrast_given


def _agent_told(facts: ScanFacts, words: Wording) -> bool | None:
    """Whether the scan was made after contrast agent; None where nothing is said."""
    if words.has_contrast is not None:
        return words.has_contrast
    return True if _agent_given(facts) else None
