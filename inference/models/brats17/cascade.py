"""From the prepared scans to three regions: the whole tumour first, in its box the core, in that the enhancing part.

Flow: 6 run
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from inference.contract import Sequence
from inference.errors import ModelFailed
from inference.models.brats17.network import HALO, STAGES, MSNet, MSNetCascade, slab_counts
from inference.models.brats17.views import (
    AXES,
    LEAST_PLANE,
    LEAST_PLANE_OF_A_BOX,
    Box,
    Floats,
    Laid,
    as_trained,
    box_around,
    lay,
    with_noise,
)
from inference.predict import failures_named, preview_of
from inference.preprocess import Prepared
from inference.watch import Watch

if TYPE_CHECKING:
    from inference.models.registry import LoadedModel

SEED = 2017
LEAST_WHOLE_VOXELS = 2000
"""A connected whole tumour of 2 mL or less is dropped, as its authors did."""
LEAST_ENHANCING_VOXELS = 30
CHUNK_SLICES = 33
"""Answered at a time in the first stage: 8 slices of halo are computed for nothing each time, and all lie in memory."""
TELLING_FRACTION = 0.1

VIEWS = {
    "axial": (("axial",), ("axial",), ("axial",)),
    "wt_axial": (("axial",), ("axial", "sagittal", "coronal"), ("axial", "sagittal", "coronal")),
    "all": (("axial", "sagittal", "coronal"),) * 3,
}
"""By the choice in the model's description: the views of each stage."""
_SHARES = {"axial": (0.0, 0.75, 0.88, 1.0), "wt_axial": (0.0, 0.5, 0.75, 1.0), "all": (0.0, 0.75, 0.86, 1.0)}
"""Of the time, at the start of each stage and at the end, as measured."""

_EVERYTHING: Box = (slice(None), slice(None), slice(None))
_NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)
_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0.0))

Bools = npt.NDArray[np.bool_]
Move = Callable[[float], None]


def predict(prepared: Prepared, *, model: LoadedModel, watch: Watch) -> Floats:
    """Probability of WT, TC and ET: (3, X, Y, Z) float32, 0 to 1, on the grid of `prepared`; nested where above a half.

    The whole tumour is found by stored statistics; core and enhancing part by those of this very case, which fixed
    ones fail on when nothing enhances. The noise outside of the brain is the same at every call.
    Raises Cancelled between two layers, OutOfMemory, ModelFailed.
    """
    found = np.zeros((len(STAGES), *prepared.grid.shape), dtype=np.float32)
    with failures_named(), torch.inference_mode():
        _Descent(prepared, found, model=model, watch=watch).run()
    return found


@dataclass(frozen=True)
class _Look:
    """One stage: its views, and whether its networks normalise by the statistics of the box they look at."""

    stage: str
    views: tuple[str, ...]
    own_statistics: bool

    def lay(self, scans: Floats, view: str, rng: np.random.Generator) -> Laid:
        least = LEAST_PLANE_OF_A_BOX if self.own_statistics else LEAST_PLANE[view]
        return lay(scans, view, least=least, rng=rng, whole_slabs=self.own_statistics)


class _Descent:
    """The way down through the stages for one case. Fills `found` as it goes, for previews to show."""

    def __init__(self, prepared: Prepared, found: Floats, *, model: LoadedModel, watch: Watch) -> None:
        self._prepared = prepared
        self._found = found
        self._model = model
        self._watch = watch
        self._views = str(model.entry.network.arguments["views"])
        self._rng = np.random.default_rng(SEED)
        self._started = watch.now()
        self._stage_index = 0

    def run(self) -> None:
        scans, found = as_trained(self._prepared.tensor), as_trained(self._found)
        flair = scans[self._model.entry.sequences.index(Sequence.FLAIR)]
        brain = (slice(None), *box_around(flair != 0))
        scans, found = with_noise(scans[brain], self._rng), found[brain]
        whole = self._search(scans, found[0], box=_EVERYTHING, among=None)
        core = self._search(scans, found[1], box=box_around(whole), among=whole) if whole.any() else whole
        if core.any():
            self._search(scans, found[2], box=box_around(core), among=core)

    def _search(self, scans: Floats, found: Floats, *, box: Box, among: Bools | None) -> Bools:
        """One stage: look at `box`, settle what is kept of it, and write its probabilities into `found`."""
        look = _Look(STAGES[self._stage_index], VIEWS[self._views][self._stage_index], among is not None)
        self._look(look, scans[(slice(None), *box)], found[box])
        kept = found >= 0.5
        kept = whole_tumour(kept) if among is None else kept & among
        if look.stage == "en" and np.count_nonzero(kept) < LEAST_ENHANCING_VOXELS:
            kept[:] = False
        found[:] = settled(found, kept)
        self._stage_index += 1
        self._show()
        return kept

    def _look(self, look: _Look, scans: Floats, found: Floats) -> None:
        """Add up the mean of the views in `found` [z, y, x], which starts at zero."""
        for index, view in enumerate(look.views):
            laid = look.lay(scans, view, self._rng)
            network = cast("MSNetCascade", self._model.network).network(look.stage, view)
            seen = found.transpose(AXES[view])
            answers = self._at_once if look.own_statistics else self._in_chunks
            for slices, answer in answers(network, laid, self._mover(index, len(look.views))):
                seen[slices] += answer / len(look.views)
                self._show()

    def _in_chunks(self, network: MSNet, laid: Laid, move: Move) -> Iterator[tuple[slice, Floats]]:
        depth = laid.inner[0].stop
        for start in range(0, depth, CHUNK_SLICES):
            stop = min(start + CHUNK_SLICES, depth)
            answer = self._ask(
                network, laid.slices[start : stop + 2 * HALO], move=_within(move, start / depth, stop / depth)
            )
            yield slice(start, stop), answer[:, *laid.inner[1:]]

    def _at_once(self, network: MSNet, laid: Laid, move: Move) -> Iterator[tuple[slice, Floats]]:
        counts = slab_counts(len(laid.slices)).to(self._model.device)
        yield laid.inner[0], self._ask(network, laid.slices, counts=counts, move=move)[laid.inner]

    def _ask(self, network: MSNet, slices: Floats, *, move: Move, counts: torch.Tensor | None = None) -> Floats:
        """Probability of the region for (D, 4, H, W): (D - 8, H, W)."""
        logits = network.over(torch.from_numpy(slices).to(self._model.device), counts=counts, tick=move)
        found = torch.softmax(logits, dim=1)[:, 1]
        if not torch.isfinite(found).all():
            raise ModelFailed("The network answered with values that are not numbers.")
        return np.asarray(found.cpu().numpy(), dtype=np.float32)

    def _mover(self, index: int, views: int) -> Move:
        """Tells the watch the share of the whole analysis, from that of one view of this stage."""
        shares = _SHARES[self._views]
        start, end = shares[self._stage_index], shares[self._stage_index + 1]

        def move(share: float) -> None:
            fraction = start + (end - start) * (index + share) / views
            elapsed = self._watch.now() - self._started
            self._watch.advance(
                fraction, eta_seconds=elapsed / fraction - elapsed if fraction >= TELLING_FRACTION else None
            )

        return move

    def _show(self) -> None:
        self._watch.show(lambda: preview_of(self._found, self._prepared.grid, self._model.entry))


def _within(move: Move, start: float, end: float) -> Move:
    return lambda share: move(start + (end - start) * share)


def whole_tumour(mask: Bools) -> Bools:
    """Closed over 26 neighbours, connected pieces of more than LEAST_WHOLE_VOXELS kept."""
    closed = ndimage.binary_closing(mask, structure=_NEIGHBOURS_26) | mask
    pieces, count = ndimage.label(closed, structure=_NEIGHBOURS_26)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes > LEAST_WHOLE_VOXELS)[pieces])


def settled(found: Floats, kept: Bools) -> Floats:
    """Probabilities of a half and more exactly where `kept`, as close to what was found as that allows."""
    return np.where(kept, np.maximum(found, np.float32(0.5)), np.minimum(found, _BELOW_HALF))
