"""Take in a MONAI bundle: its network definition is read as data, its weights as tensors; nothing in it is executed.

A bundle's own loader evaluates `$` expressions and imports any `_target_` by design (GHSA-873f-pvrv-4x83), so it is
never called. What is read: `network_def`, the window of the inferer, and the channel names of `metadata.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.contract import Sequence
from inference.models.errors import BundleRefused, ManifestInvalid
from inference.models.install import UNKNOWN_DIGEST, WEIGHTS, install
from inference.models.manifest import MAX_BYTES, ModelEntry, entry_from
from inference.models.networks import ALLOWED_ARGUMENTS, NetworkSpec, build, check_plain
from inference.models.weights import fit, read_foreign, refuse_pickle

CONFIGS = ("inference.json", "evaluate.json", "train.json")
WEIGHT_FILES = ("model.safetensors", "model.pt", "model.pth")
TARGET_PREFIXES = ("", "monai.networks.nets.")

SEQUENCE_WORDS: Mapping[str, Sequence] = {
    "t1": Sequence.T1,
    "t1n": Sequence.T1,
    "t1w": Sequence.T1,
    "t1ce": Sequence.T1CE,
    "t1c": Sequence.T1CE,
    "t1gd": Sequence.T1CE,
    "t1post": Sequence.T1CE,
    "t2": Sequence.T2,
    "t2w": Sequence.T2,
    "flair": Sequence.FLAIR,
    "fla": Sequence.FLAIR,
    "t2f": Sequence.FLAIR,
    "t2flair": Sequence.FLAIR,
}
CHANNEL_WORDS: Mapping[str, str] = {
    "wt": "WT",
    "wholetumor": "WT",
    "wholetumour": "WT",
    "tc": "TC",
    "tumorcore": "TC",
    "tumourcore": "TC",
    "et": "ET",
    "enhancingtumor": "ET",
    "enhancingtumour": "ET",
    "background": "BG",
    "bg": "BG",
    "ncr": "NCR",
    "necroticcore": "NCR",
    "ed": "ED",
    "edema": "ED",
    "oedema": "ED",
}


@dataclass(frozen=True)
class BundleChoices:
    """What a bundle may leave unsaid; a value given here wins over the bundle's own."""

    name: str | None = None
    sequences: tuple[Sequence, ...] | None = None
    channels: tuple[str, ...] | None = None
    spacing_mm: float = 1.0
    window: tuple[int, int, int] | None = None
    weights: Path | None = None


def add_bundle(folder: Path, *, into: Path, choices: BundleChoices | None = None) -> ModelEntry:
    """Convert the bundle in `folder` to a model of ours in the registry folder `into`; returns its entry.

    The model appears whole or not at all. Adding the same name and version again replaces it.
    Raises BundleRefused, ManifestInvalid, WeightsUnfit, PickleAllowed.
    """
    refuse_pickle()
    chosen = choices if choices is not None else BundleChoices()
    document = _describe(folder, chosen)
    entry = entry_from({**document, "sha256": UNKNOWN_DIGEST}, folder=folder)
    state = read_foreign(chosen.weights or _weights_of(folder))
    fit(build(entry.network), state, name=entry.name)
    return install(entry, state, into=into)


def _describe(folder: Path, chosen: BundleChoices) -> dict[str, Any]:
    """Our description of the model, from the bundle's files and the choices."""
    config = _config_of(folder)
    metadata = _read(folder / "configs" / "metadata.json") if (folder / "configs" / "metadata.json").exists() else {}
    spec = read_network_def(config)
    formats = metadata.get("network_data_format", {})
    sequences = chosen.sequences or tuple(
        SEQUENCE_WORDS.get(word) or _unsaid("the order of its input sequences")
        for word in _channel_words(formats, "inputs")
    )
    channels = chosen.channels or tuple(
        CHANNEL_WORDS.get(word) or _unsaid("what its output channels mean")
        for word in _channel_words(formats, "outputs")
    )
    return {
        "format": 1,
        "name": chosen.name or _slug(folder.resolve().name),
        "version": str(metadata.get("version", "0.0.0")),
        "weights": WEIGHTS,
        "network": {"name": spec.name, "arguments": dict(spec.arguments)},
        "sequences": [str(sequence) for sequence in sequences],
        "spacing_mm": chosen.spacing_mm,
        "output": "regions" if len(channels) == 3 else "labels",
        "channels": list(channels),
        "window": list(chosen.window or _window_of(config)),
        "overlap": 0.5,
        "normalisation": "zscore_nonzero",
        "memory_mb": 4000,
        "intended_use": _line(metadata.get("intended_use"), "Research only; not for clinical use."),
        "licence": _line(metadata.get("copyright"), "As stated by the bundle's author."),
    }


def read_network_def(config: Mapping[str, Any]) -> NetworkSpec:
    """The `network_def` of a bundle's configuration, as a network on our list with plain arguments.

    An argument that is a reference `@name` to a plain value of the same file is replaced by that value.
    Raises BundleRefused for any other class, expression, reference or argument.
    """
    definition = config.get("network_def")
    if not isinstance(definition, dict):
        raise BundleRefused("network_def", "is missing or is no object")
    target = definition.get("_target_")
    if not isinstance(target, str) or target.split(".")[-1] not in ALLOWED_ARGUMENTS:
        raise BundleRefused("network_def._target_", f"is not one of {', '.join(ALLOWED_ARGUMENTS)}")
    name = target.split(".")[-1]
    if target not in {*(prefix + name for prefix in TARGET_PREFIXES), f"monai.networks.nets.{name.lower()}.{name}"}:
        raise BundleRefused("network_def._target_", "names a class outside of monai.networks.nets")
    arguments: dict[str, Any] = {}
    for key, value in definition.items():
        place = f"network_def.{key}"
        if key in ("_target_", "_desc_"):
            continue
        if key not in ALLOWED_ARGUMENTS[name]:
            raise BundleRefused(place, f"is not an argument that {name} may be given")
        arguments[key] = _plain(_resolved(value, config=config, place=place), place=place)
    return NetworkSpec(name=name, arguments=arguments)


def _resolved(value: object, *, config: Mapping[str, Any], place: str) -> object:
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    if value[1:] not in config or isinstance(config[value[1:]], dict):
        raise BundleRefused(place, "refers to something that is not a plain value of the same file")
    return config[value[1:]]


def _plain(value: object, *, place: str) -> object:
    text = json.dumps(value)
    if '"$' in text or '"@' in text or '"%' in text:
        raise BundleRefused(place, "holds an expression or a reference; bundles are read, never executed")
    try:
        check_plain(value, place=place)
    except ManifestInvalid as error:
        raise BundleRefused(place, "is not a plain value of sensible size") from error
    return value


def _config_of(folder: Path) -> dict[str, Any]:
    for name in CONFIGS:
        path = folder / "configs" / name
        if path.is_file():
            config = _read(path)
            if "network_def" in config:
                return config
    raise BundleRefused("configs", f"holds no network_def in {', '.join(CONFIGS)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleRefused(path.name, "is larger than 1 MB")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleRefused(path.name, "is not readable JSON") from error
    if not isinstance(document, dict):
        raise BundleRefused(path.name, "is not a JSON object")
    return document


def _weights_of(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / "models" / name).is_file():
            return folder / "models" / name
    raise BundleRefused("models", f"holds none of {', '.join(WEIGHT_FILES)}")


def _channel_words(formats: object, side: str) -> list[str]:
    """The channel names of the first input or output in `metadata.json`, in order, reduced to letters and digits."""
    ports = formats.get(side) if isinstance(formats, dict) else None
    port = next(iter(ports.values()), None) if isinstance(ports, dict) else None
    names = port.get("channel_def") if isinstance(port, dict) else None
    if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
        raise BundleRefused("metadata.json", f"does not name the channels of its {side}; name them when adding it")
    ordered = sorted(names.items(), key=lambda item: int(item[0]))
    return [re.sub(r"[^a-z0-9]", "", str(word).lower()) for _, word in ordered]


def _window_of(config: Mapping[str, Any]) -> tuple[int, int, int]:
    inferer = config.get("inferer")
    size = inferer.get("roi_size") if isinstance(inferer, dict) else None
    if isinstance(size, list) and len(size) == 3 and all(type(edge) is int for edge in size):
        x, y, z = size
        return x, y, z
    raise BundleRefused("inferer.roi_size", "is not three plain numbers; give the window when adding it")


def _unsaid(what: str) -> Any:
    raise BundleRefused("metadata.json", f"does not say {what} in words that are known here; name them when adding it")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64] or "bundle"


def _line(value: object, otherwise: str) -> str:
    text = " ".join(str(value).split()) if isinstance(value, str) else ""
    return text[:400] or otherwise
