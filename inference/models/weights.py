"""Weights on disk: safetensors, read only when their digest is the pinned one.

A `.pt` file of somebody else is read once, when a model is added, by torch's unpickler for tensors only; torch must
be at least 2.10 for that (CVE-2025-32434, CVE-2026-24747).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.errors import WeightsMismatch
from inference.models.errors import PickleAllowed, WeightsUnfit

if TYPE_CHECKING:
    import torch

MAX_WEIGHTS_BYTES = 2 * 1024**3
WRAPPERS = ("state_dict", "model", "network", "net")
"""Where training frameworks put the weights inside a checkpoint."""


def refuse_pickle(environ: Mapping[str, str] | None = None) -> None:
    """Raises PickleAllowed when MONAI_ALLOW_PICKLE is set to anything, before any weights are touched."""
    # Not configuration of ours: a switch of MONAI that must not be thrown in this very process.
    if "MONAI_ALLOW_PICKLE" in (os.environ if environ is None else environ):
        raise PickleAllowed


def digest_of(path: Path) -> str:
    """The sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_pinned(path: Path, *, sha256: str, name: str) -> dict[str, torch.Tensor]:
    """The weights as float32 tensors, from exactly the bytes that were checked.

    Raises WeightsMismatch, or WeightsUnfit when the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    refuse_pickle()
    raw = _bytes_of(path)
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise WeightsMismatch(name, expected=sha256, found=found)
    try:
        return {key: tensor.float() for key, tensor in load(raw).items()}
    except SafetensorError as error:
        raise WeightsUnfit(f"The weights of {name} are not a safetensors file.") from error


def read_foreign(path: Path) -> dict[str, torch.Tensor]:
    """The weights inside a `.safetensors`, `.pt`, `.pth` or `.ckpt` file of somebody else; nothing in it is executed.

    Raises WeightsUnfit: unreadable, holds more than tensors, or too large.
    """
    refuse_pickle()
    state = _safe_tensors(path) if path.suffix == ".safetensors" else _tensors_only(path)
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
            break
    if not isinstance(state, Mapping) or not state:
        raise WeightsUnfit(f"{path.name} does not hold the weights of a network.")
    return _tensors(state, path.name)


def store(state: Mapping[str, torch.Tensor], path: Path, *, half: bool = False) -> str:
    """Write weights as safetensors (`half`: float16) and return the digest to pin."""
    import torch
    from safetensors.torch import save

    kind = torch.float16 if half else torch.float32
    raw = save(
        {key: (value.to(kind) if value.is_floating_point() else value).contiguous() for key, value in state.items()}
    )
    path.write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def fit(network: torch.nn.Module, state: Mapping[str, torch.Tensor], *, name: str) -> None:
    """Put weights into a network. Raises WeightsUnfit unless every tensor has its place and its shape."""
    try:
        network.load_state_dict(dict(state), strict=True)
    except (RuntimeError, KeyError) as error:
        raise WeightsUnfit(f"The weights of {name} do not belong to its network.") from error


def _bytes_of(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_WEIGHTS_BYTES:
            raise WeightsUnfit(f"{path.name} is larger than 2 GiB.")
        return path.read_bytes()
    except OSError as error:
        raise WeightsUnfit(f"{path.name} cannot be read.") from error


def _safe_tensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(_bytes_of(path))
    except SafetensorError as error:
        raise WeightsUnfit(f"{path.name} is not a safetensors file.") from error


def _tensors_only(path: Path) -> Any:
    import torch

    try:
        if path.stat().st_size > MAX_WEIGHTS_BYTES:
            raise WeightsUnfit(f"{path.name} is larger than 2 GiB.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsUnfit(f"{path.name} holds more than tensors; it was not loaded.") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsUnfit(f"{path.name} cannot be read as weights.") from error


def _tensors(state: Mapping[Any, Any], file: str) -> dict[str, torch.Tensor]:
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsUnfit(f"{file} holds something beside named tensors.")
        tensors[key.removeprefix("module.")] = value.detach().clone()
    return tensors
