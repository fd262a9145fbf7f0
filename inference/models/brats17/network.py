"""The network of Wang et al. (arXiv:1709.00382): in-plane convolutions, and four along the slices.

Slices lie on the batch axis and channels last, so that every convolution is a two-dimensional one: on a CPU the
3x1x1 ones take a fifth of the time that torch's three-dimensional convolution needs for them (68 against 351 ms a slab
of 19 x 180 x 160), the others the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

STAGES = ("wt", "tc", "en")
VIEW_SUFFIXES = {"axial": "", "sagittal": "sg", "coronal": "cr"}
WIDTH = 32
CHANNELS = 4
CLASSES = 2
HALO = 4
"""Slices at either end of the input that have no slice in the output: one for each convolution along the slices."""
EPSILON = 1e-5
PIECE_VOXELS = 500_000
"""Convolved at a time. More costs memory, less costs calls."""

Tick = Callable[[float], None]


def _ignore(_share: float) -> None:
    """For a caller who does not wait."""


class MSNet(nn.Module):
    """One network of the cascade. `halves_early`: those for whole tumour and core halve the plane after two blocks.

    In: (B, 4, D, H, W) float32, D at least 9, H and W multiples of 4 (of 2 if not `halves_early`).
    Out: (B, 2, D - 8, H, W) logits of background and region. The axes are those of the view the network is for.
    """

    def __init__(self, *, halves_early: bool) -> None:
        super().__init__()
        self.halves_early = halves_early
        self.block1_1, self.block1_2 = Block(CHANNELS), Block()
        self.fuse1 = Unit(WIDTH, WIDTH, (3, 1, 1))
        if halves_early:
            self.downsample1 = Unit(WIDTH, WIDTH, (1, 3, 3), halves=True)
        self.block2_1, self.block2_2 = Block(), Block()
        self.fuse2 = Unit(WIDTH, WIDTH, (3, 1, 1))
        self.downsample2 = Unit(WIDTH, WIDTH, (1, 3, 3), halves=True)
        self.block3_1, self.block3_2, self.block3_3 = Block(), Block(dilation=2), Block(dilation=3)
        self.fuse3 = Unit(WIDTH, WIDTH, (3, 1, 1))
        self.block4_1, self.block4_2, self.block4_3 = Block(dilation=3), Block(dilation=2), Block()
        self.fuse4 = Unit(WIDTH, WIDTH, (3, 1, 1))
        self._make_heads()

    def _make_heads(self) -> None:
        if self.halves_early:
            self.pred_up1: nn.Module = Doubling(WIDTH, 2)
            self.pred_up2_2, self.pred_up3_2 = Doubling(4, 4), Doubling(8, 8)
        else:
            self.pred1 = Kernel(WIDTH, 2, (1, 3, 3))
        self.pred_up2_1, self.pred_up3_1 = Doubling(WIDTH, 4), Doubling(WIDTH, 8)
        self.final_pred = Kernel(14, CLASSES, (1, 3, 3))

    def forward(self, scans: torch.Tensor) -> torch.Tensor:
        """Logits, with the statistics that were stored."""
        return torch.stack([self.over(slices.transpose(0, 1)).transpose(0, 1) for slices in scans])

    def over(self, slices: torch.Tensor, *, counts: torch.Tensor | None = None, tick: Tick = _ignore) -> torch.Tensor:
        """Slices (D, 4, H, W) to logits (D - 8, 2, H, W); `tick` is told the share done, 0 to 1.

        `counts` (D,): normalise by the statistics of these slices, each counted so often; None: by the stored ones.
        """
        along = _Along(counts)
        shares = _Shares(tick, early=self.halves_early)
        x = slices.contiguous(memory_format=torch.channels_last)
        x = shares.after(self.block1_1(x, along))
        x = shares.after(self.block1_2(x, along))
        x = shares.after(self.fuse1(x, along))
        if self.halves_early:
            x = self.downsample1(x, along)
        x = self.block2_2(shares.after(self.block2_1(x, along)), along)
        first = shares.after(self.fuse2(x, along))
        x = self.downsample2(first, along)
        for block in (self.block3_1, self.block3_2, self.block3_3):
            x = block(x, along)
        second = shares.after(self.fuse3(x, along))
        x = second
        for block in (self.block4_1, self.block4_2, self.block4_3):
            # The blocks work in place, and `second` is needed again.
            x = block(x.clone(memory_format=torch.channels_last) if x is second else x, along)
        third = shares.after(self.fuse4(x, along))
        found = self._heads(first[2:-2], second[1:-1], third, along)
        return shares.after(found)

    def _heads(self, first: torch.Tensor, second: torch.Tensor, third: torch.Tensor, along: _Along) -> torch.Tensor:
        if self.halves_early:
            parts = (
                self.pred_up1(first, along),
                self.pred_up2_2(self.pred_up2_1(second, along), along),
                self.pred_up3_2(self.pred_up3_1(third, along), along),
            )
        else:
            parts = (self.pred1(first), self.pred_up2_1(second, along), self.pred_up3_1(third, along))
        return self.final_pred.in_pieces(torch.cat(parts, dim=1))


class MSNetCascade(nn.Module):
    """The nine networks: for each of three stages one a view. Named as their published files are: `wt32`, `tc32sg`."""

    def __init__(self) -> None:
        super().__init__()
        for stage in STAGES:
            for suffix in VIEW_SUFFIXES.values():
                self.add_module(f"{stage}32{suffix}", MSNet(halves_early=stage != "en"))

    @classmethod
    def of(cls, *, in_channels: int, out_channels: int, views: str) -> MSNetCascade:
        """As a description names it. Raises ValueError for other channels than the networks have."""
        if in_channels != CHANNELS or out_channels != len(STAGES) or not views:
            raise ValueError(f"{in_channels} to {out_channels} channels, {views}")
        return cls()

    def network(self, stage: str, view: str) -> MSNet:
        """`stage` wt, tc or en; `view` axial, sagittal or coronal."""
        found = self.get_submodule(f"{stage}32{VIEW_SUFFIXES[view]}")
        if not isinstance(found, MSNet):
            raise TypeError(stage)
        return found


class _Along:
    """What the layers share on the way through one call: how often each slice counts, if statistics are its own."""

    def __init__(self, counts: torch.Tensor | None) -> None:
        self._counts = counts

    def counts(self, slices: int) -> torch.Tensor | None:
        """For a layer with so many slices.

        A slab of 19 slices has lost one at either end after each fusion, so the counts are those of shorter slabs.
        """
        if self._counts is None:
            return None
        lost = (len(self._counts) - slices) // 2
        return slab_counts(len(self._counts), lost=lost).to(self._counts)


def slab_counts(slices: int, *, lost: int = 0, answered: int = 11) -> torch.Tensor:
    """In how many slabs each slice lies, when slabs of `answered` output slices cover them end to end.

    `slices`: of the input, 8 more than a multiple of `answered`. `lost`: fusions passed, each of which takes a slice
    from either end of every slab.
    """
    counts = torch.zeros(slices - 2 * lost)
    for start in range(0, slices - 2 * HALO, answered):
        counts[start : start + answered + 2 * (HALO - lost)] += 1
    return counts


class _Shares:
    """Tells how far a call is, each part weighted by the seconds it took when measured."""

    _PARTS = {True: (0.5, 0.6, 0.3, 0.3, 0.2, 0.1, 0.1, 0.1), False: (0.4, 0.5, 0.2, 0.5, 0.7, 0.4, 0.2, 0.1)}

    def __init__(self, tick: Tick, *, early: bool) -> None:
        self._tick = tick
        self._left = list(self._PARTS[early])
        self._whole = sum(self._left)

    def after(self, x: torch.Tensor) -> torch.Tensor:
        self._left.pop(0)
        self._tick(1.0 - sum(self._left) / self._whole)
        return x


class Norm(nn.Module):
    """Batch normalisation by stored statistics or by those of the input itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mean: torch.Tensor
        self.variance: torch.Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def statistics(self, x: torch.Tensor, along: _Along) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance, a channel each."""
        counts = along.counts(len(x))
        return (self.mean, self.variance) if counts is None else weighted_statistics(x, counts)

    def forward(self, x: torch.Tensor, statistics: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return F.batch_norm(x, *statistics, self.gamma, self.beta, training=False, eps=EPSILON)


def weighted_statistics(x: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (C,) of (S, C, H, W), each slice counted as often as `counts` (S,) says; summed in float64.

    A product with ones sums thirty times faster over channels-last voxels than torch's own reduction.
    """
    _, channels, height, width = x.shape
    ones = x.new_ones(1, height * width)
    sums = torch.zeros(2, channels, dtype=torch.float64, device=x.device)
    for part, weights in zip(_pieces(x), torch.split(counts.double(), _slices_a_piece(x)), strict=True):
        flat = part.permute(0, 2, 3, 1).reshape(len(part), height * width, channels)
        sums[0] += weights @ (ones @ flat)[:, 0].double()
        sums[1] += weights @ (ones @ (flat * flat))[:, 0].double()
    mean, square = sums / (counts.double().sum() * height * width)
    return mean.float(), (square - mean * mean).clamp(min=0.0).float()


class Slope(nn.Module):
    """PReLU with a slope a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.prelu(x, self.alpha)


class Kernel(nn.Module):
    """A convolution without bias. `weight` (out, in, D, H, W), with one slice or with one voxel in the plane."""

    def __init__(
        self, channels: int, found: int, size: tuple[int, int, int], *, dilation: int = 1, halves: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(found, channels, *size))
        self._dilation = dilation
        self._halves = halves

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(S, C, H, W) channels last; S is two less after a convolution along the slices."""
        if self.weight.shape[2] == 3:
            return self._along_slices(x)
        weight = self.weight[:, :, 0].contiguous(memory_format=torch.channels_last)
        if self._halves:
            # TensorFlow's SAME with stride 2 on an even length pads at the far end only.
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2)
        return F.conv2d(x, weight, padding=self._dilation, dilation=self._dilation)

    def _along_slices(self, x: torch.Tensor) -> torch.Tensor:
        slices, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(1, slices, height * width, channels).permute(0, 3, 1, 2)
        weight = self.weight[..., 0].contiguous(memory_format=torch.channels_last)
        found = F.conv2d(rows, weight).permute(0, 2, 3, 1)
        return found.reshape(slices - 2, height, width, -1).permute(0, 3, 1, 2)

    def in_pieces(self, x: torch.Tensor) -> torch.Tensor:
        """The same over few slices at a time, in the plane only."""
        return torch.cat([self(part) for part in _pieces(x)])


class Block(nn.Module):
    """Two times normalisation, slope and convolution, added to the input (the input's channels in the middle)."""

    def __init__(self, channels: int = WIDTH, *, dilation: int = 1) -> None:
        super().__init__()
        self.norm_0, self.slope_0 = Norm(channels), Slope(channels)
        self.conv_0 = Kernel(channels, WIDTH, (1, 3, 3), dilation=dilation)
        self.norm_1, self.slope_1 = Norm(WIDTH), Slope(WIDTH)
        self.conv_1 = Kernel(WIDTH, WIDTH, (1, 3, 3), dilation=dilation)

    def forward(self, x: torch.Tensor, along: _Along) -> torch.Tensor:
        """(S, C, H, W) to (S, 32, H, W); writes into its input where that has as many channels."""
        statistics = self.norm_0.statistics(x, along)
        inner = x.new_empty((len(x), WIDTH, *x.shape[2:])).contiguous(memory_format=torch.channels_last)
        for piece, part in zip(_pieces(inner), _pieces(x, like=inner), strict=True):
            piece.copy_(self.conv_0(self.slope_0(self.norm_0(part, statistics))))
        statistics = self.norm_1.statistics(inner, along)
        x = _widened(x)
        for piece, part in zip(_pieces(x), _pieces(inner), strict=True):
            piece.add_(self.conv_1(self.slope_1(self.norm_1(part, statistics))))
        return x


class Unit(nn.Module):
    """Convolution, normalisation, slope."""

    def __init__(self, channels: int, found: int, size: tuple[int, int, int], *, halves: bool = False) -> None:
        super().__init__()
        self.conv = Kernel(channels, found, size, halves=halves)
        self.norm, self.slope = Norm(found), Slope(found)

    def forward(self, x: torch.Tensor, along: _Along) -> torch.Tensor:
        return _settled(self.conv(x), self.norm, self.slope, along)


class Doubling(nn.Module):
    """Transposed convolution that doubles the plane, normalisation, slope. `conv.weight` (in, out, 1, 3, 3)."""

    def __init__(self, channels: int, found: int) -> None:
        super().__init__()
        self.conv = Kernel(found, channels, (1, 3, 3))
        self.norm, self.slope = Norm(found), Slope(found)

    def forward(self, x: torch.Tensor, along: _Along) -> torch.Tensor:
        height, width = x.shape[2:]
        # TensorFlow's SAME cuts the far end; torch without padding has one voxel more.
        parts = [
            F.conv_transpose2d(part, self.conv.weight[:, :, 0], stride=2)[..., : 2 * height, : 2 * width]
            for part in _pieces(x)
        ]
        return _settled(torch.cat(parts).contiguous(memory_format=torch.channels_last), self.norm, self.slope, along)


def _settled(x: torch.Tensor, norm: Norm, slope: Slope, along: _Along) -> torch.Tensor:
    statistics = norm.statistics(x, along)
    for piece in _pieces(x):
        piece.copy_(slope(norm(piece, statistics)))
    return x


def _widened(x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] == WIDTH:
        return x
    side = (WIDTH - x.shape[1]) // 2
    return F.pad(x, (0, 0, 0, 0, side, side)).contiguous(memory_format=torch.channels_last)


def _slices_a_piece(x: torch.Tensor) -> int:
    return max(1, PIECE_VOXELS // (x.shape[2] * x.shape[3]))


def _pieces(x: torch.Tensor, *, like: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
    """A few slices at a time, as views."""
    return iter(torch.split(x, _slices_a_piece(x if like is None else like)))
