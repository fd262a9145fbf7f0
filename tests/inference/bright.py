"""A model that needs no training: tumour is where FLAIR is bright, its core where contrast enhances."""

from __future__ import annotations

from pathlib import Path

import torch

from inference.contract import Sequence
from inference.models.manifest import ModelEntry
from inference.models.networks import NetworkSpec
from inference.models.registry import LoadedModel


class Bright(torch.nn.Module):
    """Logits of WT, TC and ET from z-scores; a convolution that changes nothing gives it layers to hook."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(4, 4, 3, padding=1, bias=False)
        self.second = torch.nn.Conv3d(4, 4, 1, bias=False)
        with torch.no_grad():
            self.first.weight.zero_()
            for channel in range(4):
                self.first.weight[channel, channel, 1, 1, 1] = 1.0
            self.second.weight.copy_(torch.eye(4)[:, :, None, None, None])

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        same = self.second(self.first(scans))
        flair, contrast = same[:, 3:4], same[:, 1:2]
        return torch.cat([(flair - 1.5) * 8, (contrast - 1.5) * 8, (contrast - 3.0) * 8], dim=1)


def bright_entry(**changes: object) -> ModelEntry:
    """The registry's words for it: 2 mm voxels, windows of 64."""
    facts: dict[str, object] = {
        "name": "bright",
        "version": "1.0",
        "sha256": "0" * 64,
        "sequences": tuple(Sequence),
        "spacing_mm": 2.0,
        "output": "regions",
        "channels": ("WT", "TC", "ET"),
        "window": (64, 64, 64),
        "overlap": 0.25,
        "normalisation": "zscore_nonzero",
        "memory_mb": 500,
        "intended_use": "tests",
        "licence": "MIT",
        "network": NetworkSpec(name="SegResNet", arguments={}),
        "weights": Path("bright.safetensors"),
    }
    return ModelEntry(**{**facts, **changes})  # type: ignore[arg-type]


def bright_model(**changes: object) -> LoadedModel:
    """Loaded, on the CPU."""
    return LoadedModel(entry=bright_entry(**changes), network=Bright().eval(), device="cpu")
