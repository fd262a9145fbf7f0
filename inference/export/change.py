"""What changed since an earlier study: the difference of each region's volume, with both dates.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.contract import ModelRef, Region


@dataclass(frozen=True)
class RegionChange:
    """One region then and now, in mL. `percent` of the earlier volume; None where that was zero."""

    before_ml: float
    after_ml: float

    @property
    def ml(self) -> float:
        """What it grew by."""
        return round(self.after_ml - self.before_ml, 3)

    @property
    def percent(self) -> float | None:
        """The same in per cent of what it was."""
        return round(100.0 * (self.after_ml - self.before_ml) / self.before_ml, 1) if self.before_ml > 0 else None


@dataclass(frozen=True, kw_only=True)
class Change:
    """Since when and until when (YYYY-MM-DD, until may be empty), and each region's change."""

    since: str
    until: str
    job: str
    model: ModelRef | None
    regions: Mapping[Region, RegionChange]
    note: str
    """What makes the comparison doubtful; empty where nothing does."""

    def as_json(self) -> dict[str, object]:
        """For report.json."""
        return {
            "since": self.since,
            "until": self.until or None,
            "earlier_job": self.job,
            "earlier_model": None if self.model is None else {"name": self.model.name, "version": self.model.version},
            "regions": {
                str(region): {
                    "before_ml": one.before_ml,
                    "after_ml": one.after_ml,
                    "ml": one.ml,
                    "percent": one.percent,
                }
                for region, one in self.regions.items()
            },
            "note": self.note,
        }


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The earlier result: its study's date (YYYY-MM-DD), its job, its model, and its volumes in mL."""

    date: str
    job: str
    model: ModelRef | None
    volumes_ml: Mapping[Region, float]


def change_since(earlier: Earlier, *, volumes_ml: Mapping[Region, float], date: str, model: ModelRef) -> Change:
    """How the volumes of the study of `date` differ from those of the earlier one."""
    regions = {
        region: RegionChange(before_ml=round(earlier.volumes_ml[region], 3), after_ml=round(volumes_ml[region], 3))
        for region in Region
        if region in earlier.volumes_ml
    }
    return Change(
        since=earlier.date,
        until=date,
        job=earlier.job,
        model=earlier.model,
        regions=regions,
        note=_note(earlier.model, model),
    )


def _note(before: ModelRef | None, now: ModelRef) -> str:
    if before is None:
        return "It is not known which model measured the earlier study: part of the change may be the model's."
    if (before.name, before.version, before.sha256) == (now.name, now.version, now.sha256):
        return ""
    return (
        f"The earlier study was measured by {before.name} {before.version}, this one by {now.name} {now.version}: "
        "part of the change may be the models'."
    )


def in_words(region: str, one: RegionChange) -> str:
    """ "Whole tumour 40.1 mL then, 54.2 mL now: +14.1 mL (+35.2 %)." """
    share = "" if one.percent is None else f" ({one.percent:+.1f} %)"
    return f"{region} {one.before_ml:.1f} mL then, {one.after_ml:.1f} mL now: {one.ml:+.1f} mL{share}."
