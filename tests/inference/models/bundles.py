"""Bundle folders for tests, written as a model author would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from inference.models.networks import NetworkSpec, build

SMALL_SEGRESNET: dict[str, Any] = {
    "init_filters": 8,
    "in_channels": 4,
    "out_channels": 3,
    "blocks_down": [1, 1],
    "blocks_up": [1],
}
METADATA: dict[str, Any] = {
    "version": "0.3.0",
    "copyright": "Copyright (c) Somebody",
    "intended_use": "An example, not for diagnosis",
    "network_data_format": {
        "inputs": {"image": {"channel_def": {"0": "T1c", "1": "T1", "2": "T2", "3": "FLAIR"}}},
        "outputs": {"pred": {"channel_def": {"0": "Tumor core", "1": "Whole tumor", "2": "Enhancing tumor"}}},
    },
}


def inference_json(**network_def: Any) -> dict[str, Any]:
    """What a bundle of the model zoo says for inference, `$` expressions around the network included."""
    return {
        "imports": ["$import glob"],
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "SegResNet", **SMALL_SEGRESNET, **network_def},
        "network": "$@network_def.to(@device)",
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "overlap": 0.5},
    }


def write_bundle(
    folder: Path, *, config: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None
) -> dict[str, torch.Tensor]:
    """Write a bundle with random weights of the small network into `folder`; returns the weights."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    chosen = inference_json() if config is None else config
    (folder / "configs" / "inference.json").write_text(json.dumps(chosen), encoding="utf-8")
    about = METADATA if metadata is None else metadata
    (folder / "configs" / "metadata.json").write_text(json.dumps(about), encoding="utf-8")
    torch.manual_seed(0)
    state = build(NetworkSpec("SegResNet", SMALL_SEGRESNET)).state_dict()
    torch.save(state, folder / "models" / "model.pt")
    return state
