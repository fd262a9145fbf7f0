"""How far the network is, told from inside its layers: one tile may take longer than a doctor's patience.

Flow: 7 progress
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import torch

from inference.watch import Watch

TICK_SECONDS = 0.5
TELLING_FRACTION = 0.1
"""Before this much is done an estimate of the rest jumps by minutes, so none is given."""
CREEP_SECONDS = 60.0
"""No layer takes longer; from here on silence tells the watchdog the truth."""


class Pace:
    """While open, every layer of `network` that ends moves the watch forward, and lets it stop the analysis.

    The first tile counts layers as equal; from then on each layer weighs what it took in the tile before. A layer
    that takes long is followed by a thread that creeps towards its end and never reaches it.
    On a GPU layers end when they are launched, so only the ends of tiles, which wait for the result, are exact.
    """

    def __init__(self, network: torch.nn.Module, *, tiles: int, watch: Watch) -> None:
        self._layers = [layer for layer in network.modules() if not any(layer.children())]
        self._watch = watch
        self._tiles = max(1, tiles)
        self._tiles_done = 0
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._ends: list[float] = []
        self._shares = [(index + 1) / len(self._layers) for index in range(len(self._layers))]
        self._over = threading.Event()
        self._creeper = threading.Thread(target=self._creep, name="pace", daemon=True)

    def __enter__(self) -> Self:
        self._started = self._tile_started = self._last_end = self._watch.now()
        self._hooks = [layer.register_forward_hook(self._layer_done) for layer in self._layers]
        self._creeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._creeper.join()
        for hook in self._hooks:
            hook.remove()

    def tile_done(self) -> None:
        """A whole tile is finished and blended."""
        now = self._watch.now()
        if now > self._tile_started:
            self._shares = [(end - self._tile_started) / (now - self._tile_started) for end in self._ends]
        self._tiles_done, self._ends, self._tile_started, self._last_end = self._tiles_done + 1, [], now, now
        self._watch.advance(self._fraction(0), eta_seconds=self._eta(self._fraction(0)))

    def _layer_done(self, _layer: torch.nn.Module, _inputs: Any, _output: Any) -> None:
        self._last_end = self._watch.now()
        self._ends.append(self._last_end)
        fraction = self._fraction(len(self._ends))
        self._watch.advance(fraction, eta_seconds=self._eta(fraction))

    def _fraction(self, layers: int) -> float:
        """Of the whole stage, when this many layers of the present tile are done."""
        share = self._shares[min(layers, len(self._shares)) - 1] if layers and self._shares else 0.0
        return (self._tiles_done + min(share, 1.0)) / self._tiles

    def _eta(self, fraction: float) -> float | None:
        elapsed = self._watch.now() - self._started
        return elapsed / fraction - elapsed if fraction >= TELLING_FRACTION else None

    def _creep(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            layers = len(self._ends)
            done, ahead = self._fraction(layers), self._fraction(layers + 1)
            waited = self._watch.now() - self._last_end
            usual = (self._last_end - self._started) / max(1, self._tiles_done * len(self._layers) + layers)
            between = done + (ahead - done) * waited / (waited + usual + TICK_SECONDS)
            if waited < CREEP_SECONDS:
                self._watch.expect(between, eta_seconds=self._eta(between))
