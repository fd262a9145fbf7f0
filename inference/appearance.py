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

LEAST_DOUBT = 0.01
"""No sequence is held for less probable than this by its looks alone."""
_NEIGHBOURS: Mapping[Sequence, Sequence] = {
    Sequence.T1: Sequence.T1CE,
    Sequence.T1CE: Sequence.T1,
    Sequence.T2: Sequence.FLAIR,
    Sequence.FLAIR: Sequence.T2,
}
_NEIGHBOUR_SHARE = 0.6

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
_RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("edges_1", "edges_2", "edges_4", "edges_5"), (0.2, 6.0)),
    "darkest": (-0.2, 0.9),
    "brightest": (1.0, 6.0),
    "folds": (0.15, 6.0),
}
"""What heads have been seen to have, and somewhat more: beyond it nothing is said."""
_CONSTANTS = (0.18, -0.79, 0.6)
_LOOKS = (Sequence.T1, Sequence.T2, Sequence.FLAIR)
_AGENT_SLOPE, _AGENT_CONSTANT = 1.62, -0.14
_SOFTENING = 0.05
_SURELY_BRIGHTER = 0.35
"""Logarithm of a ratio of specks; of simulated pairs, half of them without much enhancement, 1 in 100 has as much the
wrong way round."""
_SURELY_EXCHANGED = 50.0

Looking = tuple[Sequence, Mapping[str, float]]
"""What a scan was given as, and its fingerprint."""

_BECAUSE: Mapping[Sequence, str] = {
    Sequence.T1: "fluid is dark and white matter is the brightest tissue",
    Sequence.T1CE: "fluid is dark and vessels are bright",
    Sequence.T2: "fluid is bright",
    Sequence.FLAIR: "fluid is dark and grey matter is brighter than white matter",
}


def looks(fingerprint: Mapping[str, float]) -> dict[Sequence, float]:
    """How probable T1 (with or without contrast agent), T2 and FLAIR are; empty for what is unlike any head."""
    if any(not low <= fingerprint.get(name, -1.0) <= high for name, (low, high) in _RANGES.items()):
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


def evidence(fingerprint: Mapping[str, float]) -> dict[Sequence, float]:
    """How much the voxels speak for each of the four sequences, beside the others; empty without a fingerprint."""
    seen = looks(fingerprint)
    if not seen:
        return {}
    agent = shows_agent(fingerprint)
    # T1 and T1CE were one kind of three when the weights were fitted: each is as probable again.
    shares = {
        Sequence.T1: 2 * seen[Sequence.T1] * (1 - agent),
        Sequence.T1CE: 2 * seen[Sequence.T1] * agent,
        Sequence.T2: seen[Sequence.T2],
        Sequence.FLAIR: seen[Sequence.FLAIR],
    }
    return {sequence: max(share, LEAST_DOUBT) for sequence, share in shares.items()}


def weigh(given: Sequence, confidence: float, found: Mapping[Sequence, float]) -> dict[Sequence, float]:
    """Bayes: what was given with this confidence, and what the voxels say (`evidence`), as probabilities.

    Where what was given is wrong, it was most often mistaken for its neighbour.
    """
    rest = 1.0 - confidence
    prior = dict.fromkeys(Sequence, rest * (1 - _NEIGHBOUR_SHARE) / 2)
    prior |= {given: confidence, _NEIGHBOURS[given]: rest * _NEIGHBOUR_SHARE}
    weighed = {sequence: prior[sequence] * found[sequence] for sequence in Sequence}
    return {sequence: share / sum(weighed.values()) for sequence, share in weighed.items()}


def are_swapped(first: Looking, second: Looking) -> bool:
    """Whether each of two scans of one patient, given as two sequences, rather looks like the other one."""
    if {first[0], second[0]} == {Sequence.T1, Sequence.T1CE}:
        before, after = (first, second) if first[0] is Sequence.T1 else (second, first)
        return is_after_agent(before[1], beside=after[1])
    one, other = evidence(first[1]), evidence(second[1])
    if not one or not other:
        return False
    crossed = one[second[0]] * other[first[0]]
    return crossed > _SURELY_EXCHANGED * one[first[0]] * other[second[0]]


def is_after_agent(scan: Mapping[str, float], *, beside: Mapping[str, float]) -> bool:
    """Whether of two T1-weighted scans of one patient clearly this one was made after contrast agent."""
    own, other = scan.get("specks", 0.0), beside.get("specks", 0.0)
    return own > 0.0 and other > 0.0 and math.log(own / other) > _SURELY_BRIGHTER


def because(sequence: Sequence) -> str:
    """What such a sequence is known by, for a sentence."""
    return _BECAUSE[sequence]
