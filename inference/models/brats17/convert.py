"""From the published checkpoints to the weights of our own networks, which need no TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from inference.models.brats17.checkpoint import read_checkpoint
from inference.models.brats17.network import STAGES, VIEW_SUFFIXES
from inference.models.brats17.originals import index_and_values
from inference.models.errors import CheckpointInvalid

if TYPE_CHECKING:
    import torch

STATISTICS = Path(__file__).parent / "statistics.safetensors"
"""Of the whole-tumour networks, measured by `inference.models.brats17.calibrate`."""

_KERNEL_AXES = (4, 3, 0, 1, 2)
"""TensorFlow keeps a kernel as D, H, W, in, out (a transposed one: out, in), torch as out, in, D, H, W (in, out)."""

_NAMES = (
    (r"_bn_prelu/", "/"),
    (r"/(de)?conv_/w$", "/conv/weight"),
    (r"/w$", "/weight"),
    (r"/bn_/", "/norm/"),
    (r"/bn_(\d)/", r"/norm_\1/"),
    (r"/prelu_acti_/", "/slope/"),
    (r"/prelu_acti_(\d)/", r"/slope_\1/"),
    (r"/moving_mean$", "/mean"),
    (r"/moving_variance$", "/variance"),
)
_OF_TRAINING = re.compile(r"/(Adam(_1)?|biased|local_step)$|^beta\d_power$")


def convert(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of all nine networks in `folder`, named as `MSNetCascade` names them, statistics included.

    Raises CheckpointInvalid.
    """
    from safetensors.torch import load_file

    state: dict[str, torch.Tensor] = {}
    for stage in STAGES:
        for suffix in VIEW_SUFFIXES.values():
            network = f"{stage}32{suffix}"
            state |= {f"{network}.{name}": value for name, value in convert_network(network, folder).items()}
    statistics: dict[str, torch.Tensor] = load_file(STATISTICS)
    return state | statistics


def convert_network(network: str, folder: Path) -> dict[str, torch.Tensor]:
    """The weights of one network such as `tc32sg`, as they were published: with means of 0 and variances of 1.

    Raises CheckpointInvalid.
    """
    import torch

    index, values = index_and_values(network, folder)
    state: dict[str, torch.Tensor] = {}
    for name, value in read_checkpoint(index, values, wanted=lambda name: not _OF_TRAINING.search(name)).items():
        kernel = value.transpose(_KERNEL_AXES) if value.ndim == len(_KERNEL_AXES) else value
        state[our_name(name)] = torch.from_numpy(kernel.copy())
    return state


def our_name(published: str) -> str:
    """`MSNet_WT32/block1_1/bn_0/beta` is our `block1_1.norm_0.beta`. Raises CheckpointInvalid for no such name."""
    scope, _, name = published.partition("/")
    if not scope.startswith("MSNet_") or not name:
        raise CheckpointInvalid(f"it names {published[:64]!r}")
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    return name.replace("/", ".")
