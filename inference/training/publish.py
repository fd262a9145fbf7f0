"""Turn trained weights into the built-in model: `python -m inference.training.publish last.pt --version 1.0.0`."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from inference.models.manifest import ModelEntry, document_of
from inference.models.networks import build
from inference.models.registry import BUILTIN_FOLDER
from inference.models.weights import fit, read_foreign, store
from inference.training.train import UNPUBLISHED

MAX_WEIGHTS_BYTES = 10_000_000
"""What the repository takes."""


def publish(checkpoint: Path, *, version: str, folder: Path = BUILTIN_FOLDER) -> ModelEntry:
    """Store the weights as float16 safetensors with their pinned description in `folder`.

    Raises WeightsUnfit when the checkpoint is not of this network, ValueError when the file would be too large.
    """
    state = read_foreign(checkpoint)
    fit(build(UNPUBLISHED.network), state, name=UNPUBLISHED.name)
    weights = folder / UNPUBLISHED.weights.name
    folder.mkdir(parents=True, exist_ok=True)
    digest = store(state, weights, half=True)
    if weights.stat().st_size > MAX_WEIGHTS_BYTES:
        raise ValueError(f"The weights take {weights.stat().st_size} bytes, more than {MAX_WEIGHTS_BYTES}.")
    entry = replace(UNPUBLISHED, version=version, sha256=digest, weights=weights)
    text = json.dumps(document_of(entry), indent=1) + "\n"
    weights.with_suffix(".json").write_text(text, encoding="utf-8")
    return entry


def main(argv: list[str] | None = None) -> int:
    """Publish one checkpoint."""
    parser = argparse.ArgumentParser(prog="inference.training.publish")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--folder", type=Path, default=BUILTIN_FOLDER)
    chosen = parser.parse_args(argv)
    publish(chosen.checkpoint, version=chosen.version, folder=chosen.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
