"""The network over the whole head: tile by tile, blended, with progress inside every tile.

Flow: 6 run
"""

from __future__ import annotations

import contextlib
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
from inference.tiles import Canvas, Tile, Window, back_from, cut, head_frame, size_of, tiles_of, window_for
from inference.watch import Watch

if TYPE_CHECKING:
    from inference.models.registry import LoadedModel, ModelEntry

PREVIEW_EDGE = 64
"""A preview has at most this many voxels along an axis."""


def predict(prepared: Prepared, *, model: LoadedModel, watch: Watch) -> npt.NDArray[np.float32]:
    """Probability of each of the model's output channels: (C, X, Y, Z) float32, 0 to 1, on the grid of `prepared`.

    Tiles of the model's window with its overlap, blended by a Gaussian; tiles without any head are left out.
    A head smaller than the window lies in the middle of it, with background around; one that is a little larger
    gets a larger window.
    Raises Cancelled within a tile, OutOfMemory, ModelFailed.
    """
    entry = model.entry
    window, frame = _layout(prepared.tensor, entry)
    head = cut(prepared.tensor, frame)
    shape = prepared.grid.shape
    tiles = [
        tile for tile in tiles_of(size_of(frame), window, overlap=entry.overlap) if head[(slice(None), *tile)].any()
    ]
    canvas = Canvas(channels=len(entry.channels), shape=size_of(frame), window=window)
    # Convolutions on a CPU are 1.8 times faster with the channels last.
    network = model.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with failures_named(), torch.inference_mode(), Pace(network, tiles=len(tiles), watch=watch) as pace:
        for tile in tiles:
            canvas.add(tile, _run(network, head[(slice(None), *tile)], model=model))
            pace.tile_done()
            watch.show(lambda: preview_of(cut(canvas.blended(), back_from(frame, shape)), prepared.grid, entry))
    return cut(canvas.blended(), back_from(frame, shape))


def _layout(tensor: npt.NDArray[np.float32], entry: ModelEntry) -> tuple[Window, Tile]:
    """The window to use for this head, and the box to cover with it."""
    window = window_for(size_of(head_frame(tensor, entry.window)), entry.window)
    return window, head_frame(tensor, window)


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


def preview_of(found: npt.NDArray[np.float32], grid: Grid, entry: ModelEntry) -> Preview:
    """The labels so far, thinned out to PREVIEW_EDGE voxels an axis."""
    step = -(-max(grid.shape) // PREVIEW_EDGE)
    affine = grid.affine.copy()
    affine[:3, :3] *= step
    labels = labels_of(found[:, ::step, ::step, ::step], entry)
    x, y, z = labels.shape
    return Preview(labels=labels, grid=Grid(shape=(x, y, z), affine=affine))


@contextlib.contextmanager
def failures_named() -> Iterator[None]:
    """Tell memory that ran out from a network that failed: OutOfMemory or ModelFailed."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory("The case does not fit into the memory of this machine.") from error
    except RuntimeError as error:
        # torch's CPU allocator has no exception of its own, only these words.
        if "allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemory("The case does not fit into the memory of this machine.") from error
        raise ModelFailed("The network could not be run on this case.") from error
