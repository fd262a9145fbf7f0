"""The brain in a head that nobody has skull-stripped: deepbet's network, or by brightness and shape where it is not.

deepbet (Fisch et al. 2024, MIT) is two small networks for T1-weighted scans: one finds the box around the brain at
128 voxels an axis, the other the brain in that box at 256. They come as TorchScript inside its package; only files with
the digests below are run.

Flow: 6 run
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.contract import BrainFound, Sequence, Volume
from inference.scan import Scan

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

DIGESTS: Mapping[str, str] = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
PLAUSIBLE_ML = (900.0, 2200.0)
"""Of a whole brain. Less is allowed as far as the scan covers less of the head."""
MEMORY_BYTES = 1_600_000_000
"""Measured: 0.9 GB above what the process had before."""
T1_WEIGHTED = (Sequence.T1, Sequence.T1CE)
"""What the network was trained on, the better one first."""

_BOX_EDGES = (128, 128, 128)
_EDGES = (256, 256, 256)
_BOX_MARGIN = 0.1
_WORK_MM = 2.0
# By shape: how thick the bridges between brain and scalp may be, and how large a brain so found may be at most.
_BRIDGES_MM = (4.0, 5.5, 7.0, 8.5)
_LARGE_ML = 1900.0


@dataclass(frozen=True)
class Brain:
    """Where the brain is: `mask` (X, Y, Z) uint8 0 or 1 on the grid of the scan it was seen in, and what to tell."""

    mask: Volume
    found: BrainFound
    warnings: tuple[str, ...] = ()


class BrainNetworkMissing(Exception):
    """deepbet cannot be used here; the sentence says why."""


def find_brain(scans: list[Scan], *, check: Callable[[], None]) -> Brain | None:
    """The brain, seen in the first T1-weighted scan; None if nothing plausible was found.

    `check` is called between the steps and may raise.
    """
    scan = next((scan for wanted in T1_WEIGHTED for scan in scans if scan.sequence is wanted), scans[0])
    doubts = () if scan.sequence in T1_WEIGHTED else (f"The brain was looked for in {scan.sequence}, not in T1.",)
    for method, look in (("network", by_network), ("classical", by_shape)):
        check()
        try:
            mask = look(scan)
        except (BrainNetworkMissing, MemoryError, RuntimeError) as error:
            log.warning("The brain could not be found this way.", extra={"method": method, "cause": str(error)})
            continue
        volume_ml = float(np.count_nonzero(mask)) * scan.volume.grid.voxel_ml
        if is_plausible(volume_ml, scan):
            found = BrainFound(method=method, volume_ml=volume_ml)
            crude = ("The brain was told from the skull by brightness alone; the result is less reliable.",)
            doubts = (*doubts, *(crude if method == "classical" else ()))
            return Brain(Volume(voxels=mask.astype(np.uint8), affine=scan.volume.affine), found, doubts)
    return None


def is_plausible(volume_ml: float, scan: Scan) -> bool:
    """Whether a brain can have this volume, and this share of what the scan shows of the head."""
    low, high = PLAUSIBLE_ML
    head_ml = float(np.prod(scan.box.shape)) * scan.volume.grid.voxel_ml
    return min(low, 0.2 * head_ml) <= volume_ml <= min(high, 0.9 * head_ml)


def by_network(scan: Scan) -> npt.NDArray[np.bool_]:
    """(X, Y, Z) on the scan's grid, by deepbet. The voxels must be in RAS+ order.

    Raises BrainNetworkMissing, MemoryError, or RuntimeError from torch.
    """
    import torch
    from torch.nn import functional

    box_network, network = _networks()
    if _free_bytes() < MEMORY_BYTES:
        raise BrainNetworkMissing("There is too little memory for it.")
    whole = torch.from_numpy(np.ascontiguousarray(scan.volume.voxels, dtype=np.float32))
    with torch.inference_mode():
        small = functional.interpolate(whole[None, None], _BOX_EDGES, mode="nearest-exact")[0, 0]
        low, high = (float(edge) for edge in np.quantile(small.numpy(), (0.005, 0.995)))
        rough = box_network(_scaled(small, low=low, high=high)[None, None])[0, 1].numpy() > 0.5
        box = _box(_largest(rough), whole.shape)
        part = functional.interpolate(whole[box][None, None], _EDGES, mode="nearest-exact")[0, 0]
        likely = network(_scaled(part, low=low, high=high)[None, None])[:, 1:]
        fine = functional.interpolate(likely, whole[box].shape, mode="trilinear")[0, 0].numpy() > 0.5
    mask = np.zeros(scan.volume.voxels.shape, dtype=np.bool_)
    mask[box] = ndimage.binary_fill_holes(_largest(fine))
    return mask


def by_shape(scan: Scan) -> npt.NDArray[np.bool_]:
    """(X, Y, Z) on the scan's grid: what is neither air and bone nor fat, cut loose from the scalp, the largest piece.

    Wider cuts are tried until a brain's volume is left. Cruder than the network (Dice 0.89 with it on a real case): it
    leaves pieces of the meninges and may lose the tips of the temporal lobes.
    """
    voxels, spacing = scan.volume.voxels.astype(np.float32), np.asarray(scan.volume.grid.spacing_mm)
    smooth = ndimage.gaussian_filter(voxels, 0.5 * _WORK_MM / spacing)
    head = smooth[scan.seen]
    low, high = 0.5 * float(np.median(head)), float(np.percentile(head, 90))
    tissue = (smooth > low) & (smooth < high)
    away = np.asarray(ndimage.distance_transform_edt(tissue, sampling=spacing))
    found = np.zeros(voxels.shape, dtype=np.bool_)
    for bridge_mm in _BRIDGES_MM:
        grown = _dilated(_largest(away > bridge_mm), mm=bridge_mm + 1.0, spacing=spacing) & (smooth > low)
        closed = ~_dilated(~_dilated(grown, mm=8.0, spacing=spacing), mm=8.0, spacing=spacing)
        found = np.asarray(ndimage.binary_fill_holes(_largest(closed)), dtype=np.bool_)
        if np.count_nonzero(found) * scan.volume.grid.voxel_ml <= _LARGE_ML:
            break
    return found


@lru_cache(maxsize=1)
def _networks() -> tuple[torch.jit.ScriptModule, torch.jit.ScriptModule]:
    """deepbet's two networks, from exactly the bytes that were checked. Raises BrainNetworkMissing."""
    import torch

    found = find_spec("deepbet")
    if found is None or found.origin is None:
        raise BrainNetworkMissing("The package deepbet is not installed.")
    folder = Path(found.origin).parents[1] / "data" / "models"
    networks = []
    for name, digest in DIGESTS.items():
        try:
            raw = (folder / name).read_bytes()
        except OSError as error:
            raise BrainNetworkMissing(f"Its weights {name} cannot be read.") from error
        if hashlib.sha256(raw).hexdigest() != digest:
            raise BrainNetworkMissing(f"Its weights {name} are not the ones this was tried with.")
        with warnings.catch_warnings():
            # torch calls TorchScript deprecated and still reads it; the networks exist in no other form.
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(io.BytesIO(raw), map_location="cpu")  # type: ignore[no-untyped-call]
        networks.append(network.eval())
    return networks[0], networks[1]


def _free_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _scaled(image: torch.Tensor, *, low: float, high: float) -> torch.Tensor:
    """As the networks were trained: clipped to the scan's 0.5 and 99.5 % brightness, then mean .449, deviation .226."""
    clipped = ((image - low) / max(high - low, 1e-6)).clamp(0, 1)
    return 0.226 * (clipped - clipped.mean()) / clipped.std().clamp_min(1e-6) + 0.449


def _box(rough: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """The box around the brain in a scan of `shape` (X, Y, Z), a tenth wider on each side. Raises RuntimeError."""
    spans = []
    for axis, length in enumerate(shape):
        used = np.flatnonzero(rough.mean(axis=tuple({0, 1, 2} - {axis})) > 0.02)
        if not used.size:
            raise RuntimeError("The network saw no brain.")
        scale = length / rough.shape[axis]
        first, last = used[0] * scale, (used[-1] + 1) * scale
        margin = _BOX_MARGIN * (last - first)
        spans.append(slice(max(0, round(first - margin)), min(length, round(last + margin))))
    return spans[0], spans[1], spans[2]


def _largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return np.asarray(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax(), dtype=np.bool_)


def _dilated(mask: npt.NDArray[np.bool_], *, mm: float, spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing) <= mm)
