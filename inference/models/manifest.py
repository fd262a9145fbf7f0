"""The description beside a model's weights: JSON in, checked values out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from inference.contract import ModelRef, Region, Sequence
from inference.models.errors import ManifestInvalid
from inference.models.networks import CASCADES, NetworkSpec

FORMAT = 1
MAX_BYTES = 1_000_000
LABEL_CHANNELS = ("BG", "NCR", "ED", "ET")

Output = Literal["regions", "labels"]
Kind = Literal["windows", "cascade"]
Head = Literal["brain", "whole"]


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry and all that the pipeline must know about it.

    `sequences`: order of the input channels; a variant for studies that lack a sequence names fewer than four.
    `spacing_mm`: edge of the cubic voxels it works on.
    `output`: "regions", a sigmoid each, or "labels", one softmax; `channels` names them in order (WT TC ET, or
    BG NCR ED ET). `window`: voxels of a tile along X, Y, Z (RAS+), each a multiple of what the network halves.
    `overlap`: share of a tile that neighbours have in common. `memory_mb`: peak on a CPU for a head of 240x240x155.
    `kind`: "windows", one network tile by tile, or "cascade", several that follow each other and cut slabs of their
    own: its description names no window and no overlap, and both are zero here.
    `head`: what it was trained to see, the "brain" alone or the "whole" head with skull and skin.
    """

    name: str
    version: str
    sha256: str
    sequences: tuple[Sequence, ...]
    spacing_mm: float
    output: Output
    channels: tuple[str, ...]
    window: tuple[int, int, int]
    overlap: float
    normalisation: Literal["zscore_nonzero"]
    memory_mb: int
    intended_use: str
    licence: str
    network: NetworkSpec
    weights: Path
    kind: Kind = "windows"
    head: Head = "brain"

    @property
    def ref(self) -> ModelRef:
        """The model's name, version and digest, as they go into reports and over the wire."""
        return ModelRef(name=self.name, version=self.version, sha256=self.sha256)


def read_manifest(path: Path) -> ModelEntry:
    """Read a `*.json` description; the weights file it names lies beside it. Raises ManifestInvalid."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ManifestInvalid("file", "is larger than 1 MB")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestInvalid("file", "is not readable JSON") from error
    return entry_from(document, folder=path.parent)


def entry_from(document: object, *, folder: Path) -> ModelEntry:
    """The entry a description stands for. Raises ManifestInvalid, naming the first field at fault."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ManifestInvalid("format", f"is not {FORMAT}")
    network = _typed(document, "network", dict)
    spec = NetworkSpec(name=_text(network, "name", r"\w{1,32}"), arguments=_typed(network, "arguments", dict))
    spec.check()
    kind = _kind(document, spec)
    entry = ModelEntry(
        name=_text(document, "name", r"[a-z0-9][a-z0-9._-]{0,63}"),
        version=_text(document, "version", r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}"),
        sha256=_text(document, "sha256", r"[0-9a-f]{64}"),
        sequences=_sequences(document),
        spacing_mm=_number(document, "spacing_mm", low=0.3, high=8.0),
        output=cast(Output, _text(document, "output", "regions|labels")),
        channels=tuple(_words(document, "channels")),
        window=_window(document) if kind == "windows" else (0, 0, 0),
        overlap=_number(document, "overlap", low=0.0, high=0.9) if kind == "windows" else 0.0,
        normalisation=cast(Literal["zscore_nonzero"], _text(document, "normalisation", "zscore_nonzero")),
        memory_mb=int(_number(document, "memory_mb", low=1, high=1_000_000)),
        intended_use=_text(document, "intended_use", r"[^\x00-\x1f]{1,400}"),
        licence=_text(document, "licence", r"[^\x00-\x1f]{1,400}"),
        network=spec,
        weights=folder / _text(document, "weights", r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.safetensors"),
        kind=kind,
        head=cast(Head, _text({"head": "brain", **document}, "head", "brain|whole")),
    )
    _check_channels(entry)
    return entry


def document_of(entry: ModelEntry) -> dict[str, Any]:
    """The JSON document that `entry_from` reads back."""
    tiling = {"window": list(entry.window), "overlap": entry.overlap} if entry.kind == "windows" else {}
    return {
        "format": FORMAT,
        "name": entry.name,
        "version": entry.version,
        "kind": entry.kind,
        "head": entry.head,
        "sha256": entry.sha256,
        "weights": entry.weights.name,
        "network": {"name": entry.network.name, "arguments": dict(entry.network.arguments)},
        "sequences": [str(sequence) for sequence in entry.sequences],
        "spacing_mm": entry.spacing_mm,
        "output": entry.output,
        "channels": list(entry.channels),
        **tiling,
        "normalisation": entry.normalisation,
        "memory_mb": entry.memory_mb,
        "intended_use": entry.intended_use,
        "licence": entry.licence,
    }


def _check_channels(entry: ModelEntry) -> None:
    expected = {str(region) for region in Region} if entry.output == "regions" else set(LABEL_CHANNELS)
    if set(entry.channels) != expected or len(entry.channels) != len(expected):
        raise ManifestInvalid("channels", f"are not {', '.join(sorted(expected))}, each once")
    wanted = (("in_channels", len(entry.sequences)), ("out_channels", len(entry.channels)))
    for key, count in wanted:
        if entry.network.arguments.get(key) != count:
            raise ManifestInvalid(f"network.{key}", f"is not {count}")


def _kind(document: Mapping[str, Any], spec: NetworkSpec) -> Kind:
    """Descriptions from before there were cascades do not say it."""
    kind = cast(Kind, _text({"kind": "windows", **document}, "kind", "windows|cascade"))
    if (kind == "cascade") != (spec.name in CASCADES):
        raise ManifestInvalid("kind", f"is not that of {spec.name}")
    return kind


def _typed(document: Mapping[str, Any], key: str, kind: type[Any]) -> Any:
    value = document.get(key)
    if not isinstance(value, kind):
        raise ManifestInvalid(key, "is missing or of the wrong type")
    return value


def _text(document: Mapping[str, Any], key: str, pattern: str) -> str:
    value: str = _typed(document, key, str)
    if not re.fullmatch(pattern, value):
        raise ManifestInvalid(key, "has a value that is not allowed")
    return value


def _number(document: Mapping[str, Any], key: str, *, low: float, high: float) -> float:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ManifestInvalid(key, f"is not a number from {low:g} to {high:g}")
    return float(value)


def _words(document: Mapping[str, Any], key: str) -> list[str]:
    values: list[Any] = _typed(document, key, list)
    if not values or len(values) > 16 or not all(isinstance(value, str) for value in values):
        raise ManifestInvalid(key, "is not a short list of words")
    return values


def _sequences(document: Mapping[str, Any]) -> tuple[Sequence, ...]:
    words = _words(document, "sequences")
    if len(set(words)) != len(words) or not set(words) <= {str(sequence) for sequence in Sequence}:
        raise ManifestInvalid("sequences", "are not some of T1, T1CE, T2 and FLAIR, each once")
    return tuple(Sequence(word) for word in words)


def _window(document: Mapping[str, Any]) -> tuple[int, int, int]:
    edges: list[Any] = _typed(document, "window", list)
    if len(edges) != 3 or not all(type(edge) is int and 16 <= edge <= 512 and edge % 8 == 0 for edge in edges):
        raise ManifestInvalid("window", "is not three multiples of 8 from 16 to 512")
    x, y, z = edges
    return x, y, z
