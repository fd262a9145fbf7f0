"""`python -m inference.models.brats17.calibrate CASES --out FILE`: the statistics of the whole-tumour networks.

The published checkpoints hold none: their moving averages stayed at mean 0 and variance 1. What is stored beside this
module was measured by it on the case of docs/models/brats17.md, and is part of every converted model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence as Several
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.contract import Sequence
from inference.models.brats17.cascade import SEED
from inference.models.brats17.network import VIEW_SUFFIXES, MSNet, MSNetCascade, Norm, slab_counts
from inference.models.brats17.views import LEAST_PLANE, Floats, as_trained, box_around, lay, with_noise

State = dict[str, torch.Tensor]


def calibrate(cascade: MSNetCascade, heads: Several[Floats], *, flair: int) -> State:
    """Mean and variance of every normalisation of the three whole-tumour networks, over all `heads`, each alike.

    `heads`: prepared scans (4, X, Y, Z) RAS+; `flair`: the index of that channel. Every layer sees what the layers
    before it make when each of them is normalised by the statistics of that head.
    """
    state: State = {}
    for view, suffix in VIEW_SUFFIXES.items():
        found = [_of_one(cascade.network("wt", view), head, view=view, flair=flair) for head in heads]
        for name in found[0]:
            means = torch.stack([one[name][0] for one in found]).double()
            squares = torch.stack([one[name][1] for one in found]).double() + means**2
            state[f"wt32{suffix}.{name}.mean"] = means.mean(dim=0).float()
            state[f"wt32{suffix}.{name}.variance"] = (squares.mean(dim=0) - means.mean(dim=0) ** 2).float()
    return state


def _of_one(network: MSNet, head: Floats, *, view: str, flair: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(SEED)
    scans = as_trained(head)
    box = (slice(None), *box_around(scans[flair] != 0))
    laid = lay(with_noise(scans[box], rng), view, least=LEAST_PLANE[view], rng=rng, whole_slabs=True)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    hooks = []
    for name, layer in network.named_modules():
        if isinstance(layer, Norm):

            def keep(_layer: torch.nn.Module, given: tuple[Any, ...], name: str = name) -> None:
                seen[name] = given[1]

            hooks.append(layer.register_forward_pre_hook(keep))
    try:
        with torch.inference_mode():
            network.over(torch.from_numpy(laid.slices), counts=slab_counts(len(laid.slices)))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def main(words: Several[str] | None = None) -> int:
    """Measure the statistics on case folders and write them; 0 when done."""
    from safetensors.torch import save_file

    from inference.models.registry import Registry
    from inference.preprocess import prepare
    from inference.training.evaluate import read_scans

    parser = argparse.ArgumentParser(prog="python -m inference.models.brats17.calibrate", description=__doc__)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--model", default="brats17")
    parser.add_argument("--models-folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args(words)
    registry = Registry(chosen.models_folder)
    model = registry.load(registry.find(chosen.model), device="cpu")
    heads = []
    for folder in chosen.cases:
        scans = read_scans(folder)
        heads.append(prepare(scans.volumes, scans.grid, model.entry).tensor)
    if not isinstance(model.network, MSNetCascade):
        raise SystemExit(f"{chosen.model} is not this cascade.")
    save_file(calibrate(model.network, heads, flair=model.entry.sequences.index(Sequence.FLAIR)), chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
