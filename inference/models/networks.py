"""The networks that may be built, and the arguments they may be built from: plain values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.models.errors import ManifestInvalid

if TYPE_CHECKING:
    import torch

# Arguments by network. What is not here cannot be asked for: `norm_layer` and `downsample` of SwinUNETR take classes.
ALLOWED_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "SegResNet": (
        *("spatial_dims", "init_filters", "in_channels", "out_channels", "dropout_prob", "act", "norm", "norm_name"),
        *("num_groups", "use_conv_final", "blocks_down", "blocks_up", "upsample_mode"),
    ),
    "UNet": (
        *("spatial_dims", "in_channels", "out_channels", "channels", "strides", "kernel_size", "up_kernel_size"),
        *("num_res_units", "act", "norm", "dropout", "bias", "adn_ordering"),
    ),
    "DynUNet": (
        *("spatial_dims", "in_channels", "out_channels", "kernel_size", "strides", "upsample_kernel_size", "filters"),
        *("dropout", "norm_name", "act_name", "deep_supervision", "deep_supr_num", "res_block", "trans_bias"),
    ),
    "SwinUNETR": (
        *("in_channels", "out_channels", "patch_size", "depths", "num_heads", "window_size", "qkv_bias", "mlp_ratio"),
        *("feature_size", "norm_name", "drop_rate", "attn_drop_rate", "dropout_path_rate", "normalize", "patch_norm"),
        *("spatial_dims", "use_v2"),
    ),
    "MSNetCascade": ("in_channels", "out_channels", "views"),
}
CASCADES = frozenset({"MSNetCascade"})
"""Networks that follow each other, each looking closer; `views` says along which axes."""

VIEWS = ("axial", "wt_axial", "all")
"""Views of a cascade: axial slices alone; the first stage axial, the others in all three; all stages in all three."""
DEFAULT_VIEWS = "all"

MAX_NUMBER = 4096
"""No count, width or size of a sensible network is larger; a bigger number is a way to exhaust memory."""
MAX_ITEMS = 64
MAX_TEXT = 64
MAX_DEPTH = 4


@dataclass(frozen=True)
class NetworkSpec:
    """A network by its name on the list and by plain arguments."""

    name: str
    arguments: Mapping[str, Any]

    def check(self) -> None:
        """Raises ManifestInvalid unless the name is on the list and every argument is allowed and plain."""
        if self.name not in ALLOWED_ARGUMENTS:
            raise ManifestInvalid("network", f"{self.name[:MAX_TEXT]!r} is not one of {', '.join(ALLOWED_ARGUMENTS)}")
        for key, value in self.arguments.items():
            if key not in ALLOWED_ARGUMENTS[self.name]:
                raise ManifestInvalid(f"network.{key[:MAX_TEXT]}", f"is not an argument of {self.name}")
            check_plain(value, place=f"network.{key}")
        if self.name in CASCADES and self.arguments.get("views") not in VIEWS:
            raise ManifestInvalid("network.views", f"is not one of {', '.join(VIEWS)}")
        if self.arguments.get("spatial_dims", 3) != 3:
            raise ManifestInvalid("network.spatial_dims", "is not 3")


def check_plain(value: object, *, place: str, depth: int = 0) -> None:
    """Raises ManifestInvalid unless `value` is JSON of modest size without a `$` expression or `@` reference."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        if not abs(value) <= MAX_NUMBER:
            raise ManifestInvalid(place, f"is beyond {MAX_NUMBER}")
    elif isinstance(value, str):
        if len(value) > MAX_TEXT or not value.replace("_", "").isalnum():
            raise ManifestInvalid(place, "is not a plain word")
    elif isinstance(value, list | dict):
        _check_items(value, place=place, depth=depth)
    else:
        raise ManifestInvalid(place, "is not plain JSON")


def _check_items(value: list[Any] | dict[str, Any], *, place: str, depth: int) -> None:
    if depth >= MAX_DEPTH or len(value) > MAX_ITEMS:
        raise ManifestInvalid(place, "is nested too deeply or too long")
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(value, dict):
            check_plain(key, place=f"{place} (key)")
        check_plain(item, place=f"{place}.{key}", depth=depth + 1)


def build(spec: NetworkSpec) -> torch.nn.Module:
    """The network with random weights. Raises ManifestInvalid when its arguments do not go together."""
    from monai.networks import nets

    from inference.models.brats17.network import MSNetCascade

    spec.check()
    makers: dict[str, Callable[..., torch.nn.Module]] = {
        "SegResNet": nets.SegResNet,
        "UNet": nets.UNet,
        "DynUNet": nets.DynUNet,
        "SwinUNETR": nets.SwinUNETR,
        "MSNetCascade": MSNetCascade.of,
    }
    try:
        network = makers[spec.name](**spec.arguments)
    except (TypeError, ValueError, AssertionError, KeyError, IndexError, RuntimeError) as error:
        raise ManifestInvalid("network", f"cannot be built from these arguments ({type(error).__name__})") from error
    return network
