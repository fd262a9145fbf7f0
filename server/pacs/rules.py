"""Whether a rule fits a study, by what its headers say: values in, a sentence out.

A pattern is a regular expression by an administrator, over texts by whoever wrote the header. `regex` gives a search up
after some milliseconds, so that no pair of the two can hold a thread for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import regex

SEARCH_SECONDS = 0.05
LONGEST_TEXT = 256


class Pattern(ValueError):
    """This is no regular expression."""


@dataclass(frozen=True)
class Facts:
    """What rules look at."""

    study_description: str = ""
    modalities: tuple[str, ...] = ()
    series_descriptions: tuple[str, ...] = ()
    stations: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """For a JSON column."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Facts:
        """Back from a JSON column."""
        lists = ("modalities", "series_descriptions", "stations", "institutions")
        several = {name: tuple(map(str, plain.get(name, ()))) for name in lists}
        return cls(study_description=str(plain.get("study_description", "")), **several)


class Conditions(Protocol):
    """A rule, as far as it is compared with a study. An empty condition fits everything."""

    modality: str
    study_description: str
    series_description: str
    station_name: str
    institution: str


def check_pattern(pattern: str) -> None:
    """Raises Pattern with a sentence."""
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise Pattern(f"This is no regular expression: {error}") from None


def misfit(rule: Conditions, facts: Facts) -> str:
    """Why the rule does not fit, in a few words; empty when it does."""
    if rule.modality and rule.modality not in facts.modalities:
        return f"no {rule.modality}"
    looked_at = {
        "study description": (rule.study_description, (facts.study_description,)),
        "series descriptions": (rule.series_description, facts.series_descriptions),
        "station": (rule.station_name, facts.stations),
        "institution": (rule.institution, facts.institutions),
    }
    wrong = (name for name, (pattern, texts) in looked_at.items() if pattern and not _is_in(pattern, texts))
    return next(wrong, "")


def _is_in(pattern: str, texts: Iterable[str]) -> bool:
    try:
        return any(
            regex.search(pattern, text[:LONGEST_TEXT], regex.IGNORECASE, timeout=SEARCH_SECONDS) for text in texts
        )
    except (TimeoutError, regex.error):
        return False
