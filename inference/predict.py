"""The network over the whole head: tile by tile, blended, with progress inside every tile.

Flow: 6 run
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from inference.contract import Grid, Preview
from inference.errors import ModelFailed, OutOfMemory
from inference.pace import Pace
from inference.postprocess import labels_of
from inference.preprocess import Prepared
from inference.watch import Watch

if TYPE_CHECKING:
    from inference.models.registry import LoadedModel, ModelEntry

PREVIEW_EDGE = 64
"""A preview has at most this many voxels along an axis."""

Tile = tuple[slice, slice, slice]


def predict(prepared: Prepared, *, model: LoadedModel, watch: Watch) -> npt.NDArray[np.float32]:
    """Probability of each of the model's output channels: (C, X, Y, Z) float32, 0 to 1, on the grid of `prepared`.

    Tiles of the model's window with its overlap, blended by a Gaussian; tiles without any head are left out.
    A head smaller than the window is padded with background on both sides.
    Raises Cancelled within a tile, OutOfMemory, ModelFailed.
    """
    padded, inside = _pad(prepared.tensor, model.entry.window)
    tiles = [tile for tile in tiles_of(padded.shape[1:], model.entry) if padded[(slice(None), *tile)].any()]
    canvas = _Canvas(channels=len(model.entry.channels), shape=padded.shape[1:], window=model.entry.window)
    network = model.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with _failures_named(), torch.inference_mode(), Pace(network, tiles=len(tiles), watch=watch) as pace:
        for tile in tiles:
            canvas.add(tile, _run(network, padded[(slice(None), *tile)], model=model))
            pace.tile_done()
            watch.show(lambda: _preview(canvas.blended()[(slice(None), *inside)], prepared.grid, model.entry))
    return np.ascontiguousarray(canvas.blended()[(slice(None), *inside)])


def tiles_of(shape: tuple[int, ...], entry: ModelEntry) -> list[Tile]:
    """Windows that cover `shape` evenly with at least the overlap the model asks for."""
    along_x, along_y, along_z = (
        _spans(length, window, entry.overlap) for length, window in zip(shape, entry.window, strict=True)
    )
    return list(itertools.product(along_x, along_y, along_z))


def _spans(length: int, window: int, overlap: float) -> list[slice]:
    step = max(1, int(window * (1.0 - overlap)))
    count = 1 + max(0, -(-(length - window) // step))
    starts = np.linspace(0, length - window, count).round().astype(int)
    return [slice(int(start), int(start) + window) for start in starts]


def _pad(tensor: npt.NDArray[np.float32], window: tuple[int, int, int]) -> tuple[npt.NDArray[np.float32], Tile]:
    """The tensor padded with zeros to at least the window, and where the original lies in it."""
    missing = [max(0, edge - length) for edge, length in zip(window, tensor.shape[1:], strict=True)]
    before = [gap // 2 for gap in missing]
    padding = [(0, 0), *((low, gap - low) for low, gap in zip(before, missing, strict=True))]
    x, y, z = (slice(low, low + length) for low, length in zip(before, tensor.shape[1:], strict=True))
    return np.pad(tensor, padding), (x, y, z)


def _run(network: torch.nn.Module, tile: npt.NDArray[np.float32], *, model: LoadedModel) -> npt.NDArray[np.float32]:
    """One tile through the network: (C, *window) probabilities."""
    batch = torch.from_numpy(np.ascontiguousarray(tile))[None].to(model.device)
    batch = batch.contiguous(memory_format=torch.channels_last_3d)
    # float16 on a GPU: the networks' activations stay far below 65,504, and the sum over tiles is kept in float32.
    with torch.autocast("cuda", dtype=torch.float16, enabled=str(model.device).startswith("cuda")):
        logits = network(batch).float()
    if logits.shape != (1, len(model.entry.channels), *tile.shape[1:]):
        raise ModelFailed(f"The network answered with shape {tuple(logits.shape)}.")
    found = torch.sigmoid(logits) if model.entry.output == "regions" else torch.softmax(logits, dim=1)
    if not torch.isfinite(found).all():
        raise ModelFailed("The network answered with values that are not numbers.")
    return np.asarray(found[0].cpu().numpy(), dtype=np.float32)


class _Canvas:
    """Sum of weighted tiles and of weights, so that their quotient is the blend at any time."""

    def __init__(self, *, channels: int, shape: tuple[int, ...], window: tuple[int, int, int]) -> None:
        self._sum = np.zeros((channels, *shape), dtype=np.float32)
        self._weight = np.zeros(shape, dtype=np.float32)
        self._importance = _gaussian(window)

    def add(self, tile: Tile, found: npt.NDArray[np.float32]) -> None:
        self._sum[(slice(None), *tile)] += found * self._importance
        self._weight[tile] += self._importance

    def blended(self) -> npt.NDArray[np.float32]:
        """(C, X, Y, Z); zero where no tile was."""
        return np.asarray(self._sum / np.maximum(self._weight, np.float32(1e-6)), dtype=np.float32)


def _gaussian(window: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Weight of a tile's voxels: 1 in the middle, falling with sigma = window / 8, never below 1e-3 (as nnU-Net)."""
    curves = [np.exp(-0.5 * ((np.arange(edge) - (edge - 1) / 2) / (edge / 8)) ** 2) for edge in window]
    weight = curves[0][:, None, None] * curves[1][None, :, None] * curves[2][None, None, :]
    return np.asarray(np.maximum(weight, 1e-3), dtype=np.float32)


def _preview(found: npt.NDArray[np.float32], grid: Grid, entry: ModelEntry) -> Preview:
    step = -(-max(grid.shape) // PREVIEW_EDGE)
    affine = grid.affine.copy()
    affine[:3, :3] *= step
    labels = labels_of(found[:, ::step, ::step, ::step], entry)
    x, y, z = labels.shape
    return Preview(labels=labels, grid=Grid(shape=(x, y, z), affine=affine))


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory("The case does not fit into the memory of this machine.") from error
    except RuntimeError as error:
        # torch's CPU allocator has no exception of its own, only these words.
        if "allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemory("The case does not fit into the memory of this machine.") from error
        raise ModelFailed("The network could not be run on this case.") from error
