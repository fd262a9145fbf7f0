"""The state dicts that somebody else converted, under our names."""

from __future__ import annotations

import re
from functools import cache

import torch

from tests.real_data import model_dir

NAMES = (
    (r"^b(\d)(\d)\.", r"block\1_\2."),
    (r"\.bn(\d)\.", r".norm_\1."),
    (r"\.a(\d)\.", r".slope_\1."),
    (r"\.c(\d)\.", r".conv_\1."),
    (r"^f(\d)\.", r"fuse\1."),
    (r"^d(\d)\.", r"downsample\1."),
    (r"^p1\.(?=weight)", "pred1."),
    (r"^p1\.", "pred_up1."),
    (r"^p(\d)(\d)\.", r"pred_up\1_\2."),
    (r"\.c\.", ".conv."),
    (r"\.bn\.", ".norm."),
    (r"\.a\.", ".slope."),
    (r"^out\.", "final_pred."),
    (r"\.var$", ".variance"),
)


def theirs(network: str) -> dict[str, torch.Tensor]:
    """The weights of one network such as `tc32sg`, with its calibrated statistics; without its counters."""
    state = {}
    for name, value in _all()[network].items():
        for pattern, ours in NAMES:
            name = re.sub(pattern, ours, name)  # noqa: PLW2901
        if not name.endswith(".n"):
            state[name] = value
    return state


@cache
def _all() -> dict[str, dict[str, torch.Tensor]]:
    path = model_dir("brats17") / "msnet_brats17_calib.pt"
    found: dict[str, dict[str, torch.Tensor]] = torch.load(path, map_location="cpu", weights_only=True)
    return found
