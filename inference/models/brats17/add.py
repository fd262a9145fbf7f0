"""Take the published networks in: fetch or read the originals, check, convert, register."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inference.models.brats17.convert import convert
from inference.models.brats17.originals import ORIGINALS, PUBLISHED_AT
from inference.models.download import fetch
from inference.models.install import WEIGHTS, install
from inference.models.manifest import ModelEntry, entry_from
from inference.models.networks import build
from inference.models.weights import fit, refuse_pickle

if TYPE_CHECKING:
    import torch

NAME = "brats17"
VERSION = "1.0.0"
CONVERTED_SHA256 = "d038caaccada2520473116fa4b3ad9408c1951db1c2ad16747711054ef4ecef2"
"""Of the converted weights: the same originals and statistics always make the same file."""
DOWNLOADS = ".downloads"
LICENCE = Path(__file__).parent / "LICENSE.txt"

Tell = Callable[[str, float], None]


def add_brats17(source: str | None, *, into: Path, views: str, tell: Tell) -> ModelEntry:
    """Register the nine networks in the registry folder `into`; returns the model's entry.

    `source`: a folder with the originals, or the address of one; None: where they were published. `views`: one of
    `networks.VIEWS`. `tell` hears the stage ("fetch", "convert") and its share done. What a download brought is kept
    until the model is registered, so that a try that failed can be followed by one that goes on.
    Raises CheckpointInvalid, WeightsMismatch, DownloadFailed, ManifestInvalid, PickleAllowed.
    """
    refuse_pickle()
    entry = entry_from(_document(views), folder=into)
    folder = Path(source) if source is not None and "://" not in source else None
    if folder is None:
        downloads = into / DOWNLOADS / NAME
        _fetch_all(source or PUBLISHED_AT, downloads, tell=tell)
        added = _register(entry, downloads, into=into, tell=tell)
        _clear(downloads)
        return added
    return _register(entry, folder, into=into, tell=tell)


def _register(entry: ModelEntry, folder: Path, *, into: Path, tell: Tell) -> ModelEntry:
    tell("convert", 0.0)
    for original in ORIGINALS:
        original.check(folder / original.name)
    state: dict[str, torch.Tensor] = convert(folder)
    fit(build(entry.network), state, name=NAME)
    added = install(entry, state, into=into, beside={LICENCE.name: LICENCE.read_text(encoding="utf-8")})
    tell("convert", 1.0)
    return added


def _fetch_all(address: str, folder: Path, *, tell: Tell) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    whole = sum(original.size for original in ORIGINALS)
    before = 0
    for original in ORIGINALS:
        fetch(
            f"{address.rstrip('/')}/{original.name}",
            folder / original.name,
            size=original.size,
            sha256=original.sha256,
            tell=lambda there, before=before: tell("fetch", (before + there) / whole),  # type: ignore[misc]
        )
        before += original.size


def _clear(folder: Path) -> None:
    for original in ORIGINALS:
        (folder / original.name).unlink(missing_ok=True)
    folder.rmdir()
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _document(views: str) -> dict[str, object]:
    return {
        "format": 1,
        "name": NAME,
        "version": VERSION,
        "kind": "cascade",
        "sha256": CONVERTED_SHA256,
        "weights": WEIGHTS,
        "network": {"name": "MSNetCascade", "arguments": {"in_channels": 4, "out_channels": 3, "views": views}},
        "sequences": ["FLAIR", "T1", "T1CE", "T2"],
        "spacing_mm": 1.0,
        "output": "regions",
        "channels": ["WT", "TC", "ET"],
        "normalisation": "zscore_nonzero",
        "memory_mb": 2600,
        "intended_use": "Gliomas in four skull-stripped sequences; research only, not certified for clinical use.",
        "licence": "BSD-3-Clause, Copyright (c) 2017-2018, University College London",
    }
