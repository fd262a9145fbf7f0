"""Train the compact network: `python -m inference.training.train --out DIR --minutes 60 …`.

Two CPU cores are enough: bfloat16 where the processor has it, one process that simulates, one that learns. The
learning rate follows the clock, so the run ends when it was asked to, annealed.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from inference.contract import Sequence
from inference.models.networks import NetworkSpec, build
from inference.models.registry import LoadedModel, ModelEntry
from inference.training.dataset import SPACING_MM, WINDOW, Examples, Sources
from inference.training.evaluate import Case, evaluate, read_case

log = logging.getLogger(__name__)

NETWORK = NetworkSpec(
    "SegResNet",
    {
        "spatial_dims": 3,
        "in_channels": 4,
        "out_channels": 3,
        "init_filters": 12,
        "blocks_down": [1, 2, 2, 4],
        "blocks_up": [1, 1, 1],
        "norm": ["GROUP", {"num_groups": 4}],
    },
)

UNPUBLISHED = ModelEntry(
    name="segwire-compact",
    version="1.0.0",
    sha256="0" * 64,
    sequences=tuple(Sequence),
    spacing_mm=SPACING_MM[0],
    output="regions",
    channels=("WT", "TC", "ET"),
    window=WINDOW,
    overlap=0.5,
    normalisation="zscore_nonzero",
    memory_mb=1500,
    intended_use="Research and demonstration; not for clinical use.",
    licence="As the project; trained on openly licensed cases, templates and simulation (see the model card).",
    network=NETWORK,
    weights=Path("segwire-compact.safetensors"),
)
"""What the trained network will be called and how it wants its input; digest and weights follow on publication."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    minutes: float
    peak_rate: float = 1e-3
    warmup: float = 0.02
    averaging: float = 0.99

    def rate(self, fraction: float) -> float:
        """Learning rate after this fraction of the time: linear warm-up, then a cosine down to 1 % of the peak."""
        if fraction < self.warmup:
            return self.peak_rate * (0.05 + 0.95 * fraction / self.warmup)
        turn = min((fraction - self.warmup) / (1 - self.warmup), 1.0)
        return self.peak_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn)))


def region_loss(logits: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Soft Dice plus cross-entropy, mean over WT, TC, ET. Both (B, 3, X, Y, Z)."""
    logits = logits.float()
    chance = torch.sigmoid(logits)
    axes = (2, 3, 4)
    overlap = (chance * regions).sum(axes)
    dice = 1 - (2 * overlap + 20.0) / (chance.sum(axes) + regions.sum(axes) + 20.0)
    entropy = functional.binary_cross_entropy_with_logits(logits, regions, reduction="none").mean(axes)
    return (dice + 5.0 * entropy).mean()


def train(
    network: torch.nn.Module,
    examples: DataLoader[tuple[torch.Tensor, torch.Tensor]],
    *,
    schedule: Schedule,
    on_check: Callable[[int, torch.nn.Module], None],
    check_every: int = 400,
) -> torch.nn.Module:
    """Learn until the time is up; returns the running average of the weights, which is what to keep."""
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.peak_rate, weight_decay=1e-4)
    began, recent, step = time.monotonic(), 0.0, 0
    for image, regions in examples:
        fraction = (time.monotonic() - began) / (schedule.minutes * 60)
        if fraction >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(fraction)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
        loss = region_loss(logits, regions)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        step += 1
        _follow(average, network, keep=min(schedule.averaging, step / (step + 10)))
        recent = loss.item() if step == 1 else 0.98 * recent + 0.02 * loss.item()
        if step % 100 == 0:
            log.info("step %d loss %.4f elapsed %.0f s", step, recent, time.monotonic() - began)
        if step % check_every == 0:
            on_check(step, average)
    on_check(step, average)
    return average


@torch.no_grad()
def _follow(average: torch.nn.Module, network: torch.nn.Module, *, keep: float) -> None:
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)


def main(argv: list[str] | None = None) -> int:
    """Train, check on validation cases as it goes, and leave `last.pt` and `log.jsonl` in the output folder."""
    parser = argparse.ArgumentParser(prog="inference.training.train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--labelled", type=Path, nargs="*", default=[], help="case folders with seg.nii.gz")
    parser.add_argument("--tumour-free", type=Path, nargs="*", default=[], help="case folders without a tumour")
    parser.add_argument("--t1-only", type=Path, nargs="*", default=[], help="skull-stripped T1 templates")
    parser.add_argument("--validation", type=Path, nargs="*", default=[])
    parser.add_argument("--resume", type=Path, help="weights to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3)
    chosen = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    cases = [read_case(folder, UNPUBLISHED) for folder in chosen.validation]
    network = build(NETWORK)
    if chosen.resume is not None:
        network.load_state_dict(torch.load(chosen.resume, weights_only=True))
    sources = Sources(tuple(chosen.labelled), tuple(chosen.tumour_free), tuple(chosen.t1_only))
    examples = DataLoader(Examples(sources, seed=chosen.seed), batch_size=1, num_workers=1, prefetch_factor=24)
    schedule = Schedule(minutes=chosen.minutes, peak_rate=chosen.rate)
    train(network, examples, schedule=schedule, on_check=_keeper(chosen.out, cases))
    return 0


def _keeper(folder: Path, cases: list[Case]) -> Callable[[int, torch.nn.Module], None]:
    """What to do at a check: store the weights and note the scores."""

    def check(step: int, network: torch.nn.Module) -> None:
        torch.save(network.state_dict(), folder / "last.pt")
        torch.save(network.state_dict(), folder / f"step{step:05d}.pt")
        # A copy: prediction changes the memory format, and training goes on in its own.
        model = LoadedModel(UNPUBLISHED, copy.deepcopy(network), "cpu")
        scores = [evaluate(model, case) for case in cases]
        log.info("check at step %d: %s", step, "; ".join(str(score) for score in scores))
        with (folder / "log.jsonl").open("a") as lines:
            lines.write(json.dumps({"step": step, "scores": [vars(score) for score in scores]}) + "\n")

    return check


if __name__ == "__main__":
    raise SystemExit(main())
