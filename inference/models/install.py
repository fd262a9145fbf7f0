"""Put a model into the registry's folder: whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inference.errors import WeightsMismatch
from inference.models.manifest import ModelEntry, document_of
from inference.models.registry import MANIFEST
from inference.models.weights import store

if TYPE_CHECKING:
    import torch

WEIGHTS = "weights.safetensors"
UNKNOWN_DIGEST = "0" * 64
"""In a description whose weights are not written yet."""


def install(
    entry: ModelEntry,
    state: Mapping[str, torch.Tensor],
    *,
    into: Path,
    beside: Mapping[str, str] | None = None,
) -> ModelEntry:
    """Write the weights and the description of a model into a folder of its own in `into`; returns its entry.

    The model appears whole or not at all; the same name and version is replaced. An entry with a digest is pinned to
    it. `beside`: texts to lie there as well, by file name. Raises WeightsMismatch.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".adding-") as name:
        workshop = Path(name)
        found = store(state, workshop / WEIGHTS)
        if entry.sha256 not in (UNKNOWN_DIGEST, found):
            raise WeightsMismatch(entry.name, expected=entry.sha256, found=found)
        entry = replace(entry, sha256=found, weights=workshop / WEIGHTS)
        texts = {MANIFEST: json.dumps(document_of(entry), indent=1) + "\n", **(beside or {})}
        for file, text in texts.items():
            (workshop / file).write_text(text, encoding="utf-8")
        home = into / f"{entry.name}@{entry.version}"
        shutil.rmtree(home, ignore_errors=True)
        workshop.rename(home)
        workshop.mkdir()  # so that the context manager finds what it will remove
    return replace(entry, weights=home / WEIGHTS)
