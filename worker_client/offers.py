"""Whether an offer is taken. Pure.

Flow: 5 receive
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from worker_client.protocol.messages import ModelName

DECLINE_SECONDS: Mapping[str, float] = {"busy": 5.0, "draining": 30.0, "no_model": 300.0, "vram": 30.0}

Reason = Literal["busy", "no_model", "vram", "draining"]


@dataclass(frozen=True)
class Room:
    """What a worker has left. `free_mb` counts its own analysis processes' memory as free; None when unknown."""

    credits: int
    is_draining: bool
    models: tuple[ModelName, ...]
    free_mb: int | None

    def reason_to_decline(self, asked: ModelName | None) -> Reason | None:
        """Why an offer for this model (None: the default one) is not taken; None when it is."""
        if self.is_draining:
            return "draining"
        if self.credits == 0:
            return "busy"
        model = find(asked, self.models)
        if asked is not None and model is None:
            return "no_model"
        need = 0 if model is None else model.memory_mb
        return "vram" if self.free_mb is not None and self.free_mb < need else None


def find(asked: ModelName | None, models: tuple[ModelName, ...]) -> ModelName | None:
    """The installed model that is meant. Without a name it is the default one, which is listed first."""
    if asked is None:
        return models[0] if models else None
    wanted = (asked.name, asked.version, asked.sha256)
    return next((model for model in models if (model.name, model.version, model.sha256) == wanted), None)


def left_mb(free_mb: int | None, *, taken: Iterable[ModelName | None], models: tuple[ModelName, ...]) -> int | None:
    """Free memory after what the jobs that are held need, or will need once they compute; None when unknown."""
    if free_mb is None:
        return None
    found = (find(asked, models) for asked in taken)
    return max(0, free_mb - sum(model.memory_mb for model in found if model is not None))
