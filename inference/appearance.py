"""Which sequence a scan looks like, from its fingerprint alone.

The weights were fitted (multinomial logistic regression, L2 0.003) on 80 simulated heads with and without skull, two
patients whose licence allows it, and the ICBM 152 and Colin27 templates; docs/decisions/0019 says how they fare on
other scans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from inference.contract import Sequence

DOUBTFUL = 0.5
"""A confidence below this: what was given is rather wrong than right."""
CLEAR = 0.75
"""From this confidence on the voxels may speak alone."""

# For each feature: how much it speaks for T1 (with or without contrast agent), T2 and FLAIR.
_WEIGHTS: Mapping[str, tuple[float, float, float]] = {
    "edges_1": (3.04, -1.39, -1.65),
    "edges_2": (5.63, 3.96, -9.59),
    "edges_4": (-2.28, 4.51, -2.23),
    "edges_5": (-3.15, 2.64, 0.52),
    "darkest": (-0.78, 1.96, -1.18),
    "brightest": (-0.77, 1.89, -1.12),
    "folds": (0.28, 1.68, -1.96),
}
_CONSTANTS = (0.18, -0.79, 0.6)
_LOOKS = (Sequence.T1, Sequence.T2, Sequence.FLAIR)
_AGENT_SLOPE, _AGENT_CONSTANT = 1.62, -0.14
_SOFTENING = 0.05
_SURELY_SWAPPED = 0.35
"""Logarithm of a ratio of specks; of simulated pairs, half of them without much enhancement, 1 in 100 has as much the
wrong way round."""

_BECAUSE: Mapping[Sequence, str] = {
    Sequence.T1: "fluid is dark and white matter is the brightest tissue",
    Sequence.T1CE: "fluid is dark and vessels are bright",
    Sequence.T2: "fluid is bright",
    Sequence.FLAIR: "fluid is dark and grey matter is brighter than white matter",
}


def looks(fingerprint: Mapping[str, float]) -> dict[Sequence, float]:
    """How probable T1 (with or without contrast agent), T2 and FLAIR are; empty without a fingerprint."""
    if not set(_WEIGHTS) <= set(fingerprint):
        return {}
    scores = list(_CONSTANTS)
    for name, weights in _WEIGHTS.items():
        value = math.log(max(fingerprint[name], 0.0) + _SOFTENING)
        scores = [score + weight * value for score, weight in zip(scores, weights, strict=True)]
    odds = [math.exp(score - max(scores)) for score in scores]
    return {sequence: part / sum(odds) for sequence, part in zip(_LOOKS, odds, strict=True)}


def shows_agent(fingerprint: Mapping[str, float]) -> float:
    """How probable it is that a T1-weighted scan was made after contrast agent; 0.5 when nothing is known.

    One scan alone says little: without a tumour only a few vessels enhance.
    """
    if fingerprint.get("specks", 0.0) <= 0.0:
        return 0.5
    return 1.0 / (1.0 + math.exp(-_AGENT_SLOPE * math.log(fingerprint["specks"]) - _AGENT_CONSTANT))


def are_swapped(*, t1: Mapping[str, float], t1ce: Mapping[str, float]) -> bool:
    """Whether of two T1-weighted scans of one patient rather the first was made after contrast agent."""
    before, after = t1.get("specks", 0.0), t1ce.get("specks", 0.0)
    return before > 0.0 and after > 0.0 and math.log(before / after) > _SURELY_SWAPPED


def because(sequence: Sequence) -> str:
    """What such a sequence is known by, for a sentence."""
    return _BECAUSE[sequence]
