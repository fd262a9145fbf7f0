"""How far a job is as a whole, from how far its stage is."""

from collections.abc import Mapping

from inference.contract import Stage

STAGE_SHARES: Mapping[Stage, float] = {
    Stage.FETCH: 0.06,
    Stage.PREPROCESS: 0.08,
    Stage.INFERENCE: 0.72,
    Stage.POSTPROCESS: 0.06,
    Stage.UPLOAD: 0.08,
}
"""The share of a whole job that each stage takes: of a few seconds on two CPU cores, most goes to the network."""


def overall(stage: Stage, fraction: float) -> float:
    """`fraction` (0 to 1) of `stage` as a fraction of the whole job, below 1: only a stored result is all of it."""
    before = sum(share for earlier, share in STAGE_SHARES.items() if is_before(earlier, stage))
    whole = before + STAGE_SHARES[stage] * min(max(fraction, 0.0), 1.0)
    return min(round(whole, 4), 0.99)


def is_before(one: Stage, other: Stage) -> bool:
    """Whether `one` comes earlier in a job than `other`."""
    order = tuple(STAGE_SHARES)
    return order.index(one) < order.index(other)
