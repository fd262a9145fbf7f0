"""How far the network is, told from inside its layers: one tile may take longer than a doctor's patience.

Flow: 7 progress
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch

from inference.watch import Watch


class Pace:
    """While open, every layer of `network` that ends moves the watch forward, and lets it stop the analysis.

    The first tile counts layers as equal; from then on each layer weighs what it took in the tile before.
    On a GPU layers end when they are launched, so only the ends of tiles, which wait for the result, are exact.
    """

    def __init__(self, network: torch.nn.Module, *, tiles: int, watch: Watch) -> None:
        self._layers = [layer for layer in network.modules() if not any(layer.children())]
        self._watch = watch
        self._tiles = max(1, tiles)
        self._done = 0
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._ends: list[float] = []
        self._shares: list[float] = [(index + 1) / len(self._layers) for index in range(len(self._layers))]

    def __enter__(self) -> Self:
        self._hooks = [layer.register_forward_hook(self._layer_done) for layer in self._layers]
        self._started = self._tile_started = self._watch.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def tile_done(self) -> None:
        """A whole tile is finished and blended."""
        now = self._watch.now()
        self._shares = [(end - self._tile_started) / (now - self._tile_started) for end in self._ends]
        self._done, self._ends, self._tile_started = self._done + 1, [], now
        self._tell(self._done / self._tiles)

    def _layer_done(self, _layer: torch.nn.Module, _inputs: Any, _output: Any) -> None:
        self._ends.append(self._watch.now())
        share = self._shares[min(len(self._ends), len(self._shares)) - 1] if self._shares else 0.0
        self._tell((self._done + min(share, 1.0)) / self._tiles)

    def _tell(self, fraction: float) -> None:
        elapsed = self._watch.now() - self._started
        self._watch.advance(fraction, eta_seconds=elapsed / fraction - elapsed if fraction > 0 else None)
