"""Which series of a study stand for T1, T1CE, T2 and FLAIR: what is proposed, and what a person has said.

A person's word counts more than any header and stays with the series, whatever is uploaded later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from django.db import transaction

from inference.appearance import DOUBTFUL, are_swapped
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
    chosen = {sequence: one for sequence, one in best.items() if one is not None}
    taken = {one.pk for one in chosen.values()}
    return {
        "series": {str(sequence): one.pk if one else None for sequence, one in best.items()},
        "missing": [str(sequence) for sequence, one in best.items() if one is None],
        "others": [one.pk for one in series if one.pk not in taken],
        "warnings": doubts_of(chosen),
    }


def doubts_of(chosen: Mapping[Sequence, Series]) -> list[str]:
    """A sentence for each series that is perhaps not the sequence it is taken for; none where a person has said so."""
    said = [
        one.sequence_reason
        for sequence, one in chosen.items()
        if one.sequence == sequence
        and one.sequence_source != PERSON
        and one.sequence_confidence < DOUBTFUL
        and one.sequence_reason
    ]
    before, after = chosen.get(Sequence.T1), chosen.get(Sequence.T1CE)
    if before is None or after is None or {before.sequence_source, after.sequence_source} == {PERSON}:
        return said
    if are_swapped(t1=before.fingerprint, t1ce=after.fingerprint):
        said.append("Vessels are brighter in the series given as T1 than in T1CE: the two may be swapped.")
    return said


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
