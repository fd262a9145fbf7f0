"""What changed since an earlier study."""

from __future__ import annotations

import pytest

from inference.contract import ModelRef, Region
from inference.export.change import Earlier, change_since, in_words

NOW = ModelRef("segresnet", "2.0", "ab" * 32)
VOLUMES = {Region.WT: 54.2, Region.TC: 3.0, Region.ET: 2.0}


def changed(*, model: ModelRef | None = NOW, **before: float):
    volumes = {Region(name): volume for name, volume in before.items()}
    earlier = Earlier(date="2025-11-01", job="J1", model=model, volumes_ml=volumes)
    return change_since(earlier, volumes_ml=VOLUMES, date="2026-02-01", model=NOW)


def test_a_change_is_told_in_millilitres_and_per_cent_with_both_dates():
    told = changed(WT=40.0, TC=6.0, ET=2.0).as_json()

    assert (told["since"], told["until"], told["note"]) == ("2025-11-01", "2026-02-01", "")
    assert told["regions"]["WT"] == {"before_ml": 40.0, "after_ml": 54.2, "ml": 14.2, "percent": 35.5}
    assert (told["regions"]["TC"]["percent"], told["regions"]["ET"]["ml"]) == (-50.0, 0.0)


def test_what_was_nothing_has_grown_by_no_per_cent():
    found = changed(WT=40.0, TC=0.0)

    assert (found.regions[Region.TC].ml, found.regions[Region.TC].percent) == (3.0, None)
    assert in_words("Tumour core", found.regions[Region.TC]) == "Tumour core 0.0 mL then, 3.0 mL now: +3.0 mL."
    assert Region.ET not in found.regions


@pytest.mark.parametrize(
    ("before", "word"),
    [(None, "not known"), (ModelRef("old", "1", "0"), "old 1"), (ModelRef("segresnet", "2.0", "cd"), "part")],
)
def test_another_model_is_said(before, word):
    assert word in changed(model=before, WT=1.0).note
