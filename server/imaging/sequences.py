"""Which series of a study stand for T1, T1CE, T2 and FLAIR: what is proposed, and what a person has said.

A person's word counts more than any header and stays with the series, whatever is uploaded later.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from django.db import transaction

from inference.appearance import CLEAR, DOUBTFUL, are_swapped, is_after_agent, looks
from inference.contract import Sequence
from server.audit import services as audit
from server.imaging.models import Series
from server.topics import services as topics

PERSON = "person"
WHOLE_HEAD_MM = 100.0
"""A scan that is thinner than this in any direction shows a part of the brain."""


def proposal_of(series: list[Series]) -> dict[str, Any]:
    """The best series for each sequence, the sequences that are missing, and the ids of all the others.

    Of several candidates the first by: said by a person, not doubtful, whole head, thin slices, axial, many slices,
    confidence. `warnings` are the doubts about those that were chosen.
    """
    best = {sequence: _best([one for one in series if one.sequence == sequence]) for sequence in Sequence}
    notes = _tell_t1_apart(best, [one for one in series if one.sequence is None and _looks_like_t1(one)])
    chosen = {sequence: one for sequence, one in best.items() if one is not None}
    taken = {one.pk for one in chosen.values()}
    return {
        "series": {str(sequence): one.pk if one else None for sequence, one in best.items()},
        "missing": [str(sequence) for sequence, one in best.items() if one is None],
        "others": [one.pk for one in series if one.pk not in taken],
        "warnings": [*doubts_of(chosen), *notes],
    }


def doubts_of(chosen: Mapping[Sequence, Series]) -> list[str]:
    """A sentence for each series that is perhaps not the sequence it is taken for; none where a person has said so."""
    told = {sequence: one for sequence, one in chosen.items() if one.sequence_source != PERSON}
    swapped = [
        (one, other)
        for one, other in combinations(told, 2)
        if are_swapped((one, told[one].fingerprint), (other, told[other].fingerprint))
    ]
    alone = set(told) - {sequence for pair in swapped for sequence in pair}
    return [
        *(
            f"The series given as {one} looks like {other}, and the one given as {other} like {one}: "
            f"they are probably swapped."
            for one, other in swapped
        ),
        *(
            one.sequence_reason
            for sequence, one in told.items()
            if sequence in alone and one.sequence == sequence and one.sequence_confidence < DOUBTFUL
            if one.sequence_reason
        ),
    ]


@transaction.atomic
def correct(*, series: Series, sequence: Sequence | None, by: Any) -> Series:
    """What a person says a series is; None: none of the four. Kept when the series is uploaded again."""
    series.sequence, series.sequence_confidence = sequence, 1.0
    series.sequence_source, series.sequence_reason = PERSON, ""
    series.save(update_fields=("sequence", "sequence_confidence", "sequence_source", "sequence_reason"))
    audit.note(
        actor=audit.actor_of(by),
        action="series.sequence",
        series=series.pk,
        study=series.study_id,
        sequence=str(sequence or ""),
    )
    topics.append(f"study:{series.study_id}", kind="series.changed", payload={"series": series.pk})
    return series


def keep_correction(before: Series, after: Series) -> None:
    """A new revision is what a person said of the one before it; call it in the transaction that makes it."""
    if before.sequence_source == PERSON:
        after.sequence, after.sequence_confidence = before.sequence, before.sequence_confidence
        after.sequence_source, after.sequence_reason = PERSON, ""
        after.save(update_fields=("sequence", "sequence_confidence", "sequence_source", "sequence_reason"))


def _looks_like_t1(series: Series) -> bool:
    return series.sequence_source != PERSON and looks(series.fingerprint).get(Sequence.T1, 0.0) >= CLEAR


def _tell_t1_apart(best: dict[Sequence, Series | None], unnamed: list[Series]) -> list[str]:
    """Fill in T1 and T1CE from scans that are T1-weighted, and of which no header says when the agent was given.

    One alone does not tell it; of two, the one with the brighter vessels was made after.
    """
    known = best[Sequence.T1] or best[Sequence.T1CE]
    pair = [known, *unnamed] if known else unnamed
    if len(pair) != 2 or (best[Sequence.T1] and best[Sequence.T1CE]):
        return []
    before, after = sorted(pair, key=lambda one: one.fingerprint.get("specks", 0.0))
    is_clear = is_after_agent(after.fingerprint, beside=before.fingerprint)
    if not is_clear or before == best[Sequence.T1CE] or after == best[Sequence.T1]:
        return []
    best[Sequence.T1], best[Sequence.T1CE] = before, after
    return ["T1 and T1CE were told apart by the brightness of vessels alone: please check which is which."]


def _best(candidates: list[Series]) -> Series | None:
    return max(candidates, key=_fitness, default=None)


def _fitness(series: Series) -> tuple[bool, bool, bool, float, bool, int, float, int]:
    extents = [count * edge for count, edge in zip(series.shape, series.spacing_mm, strict=True)]
    across = int(np.argmax(series.spacing_mm))
    return (
        series.sequence_source == PERSON,
        series.sequence_confidence >= DOUBTFUL,
        min(extents) >= WHOLE_HEAD_MM,
        -round(2 * max(series.spacing_mm)) / 2,
        _is_along_body(series, across),
        series.shape[across],
        series.sequence_confidence,
        -(series.number or 0),
    )


def _is_along_body(series: Series, axis: int) -> bool:
    """Whether an axis of the stored grid goes from foot to head, give or take 45 degrees."""
    column = np.abs(np.asarray(series.affine, dtype=np.float64)[:3, axis])
    return int(column.argmax()) == 2
