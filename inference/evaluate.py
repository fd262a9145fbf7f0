"""`python -m inference evaluate CASES --model NAME [--out DIR]`: how good a model is on cases whose truth is known.

A case is a folder with t1, t1ce, t2 and flair, and seg where there is a truth on the grid of t1ce (all .nii.gz, labels
as `inference.contract.Label`). CASES is such a folder, or any folder above some. Each case goes the whole way that a
user's goes, in the same isolated process, so the figures are what a user gets.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from inference.contract import Grid, InputFile, ModelRef, Order, Region, Sequence, Volume
from inference.errors import InferenceError, InputInvalid
from inference.isolate import Sandbox
from inference.models.registry import Registry
from inference.scores import RegionScore, scores
from inference.terminal import Display
from inference.volume import pack, read_nifti, to_ras, unpack

TRUTH = "seg.nii.gz"
CSV_NAME = "evaluation.csv"
_REFERENCE = Sequence.T1CE
_FAILED = 1
_NO_CASES = 3
_NO_MODEL = 4
_INTERRUPTED = 130


@dataclass(frozen=True)
class Judged:
    """One case: a score for each region and the seconds from packed scans to the mask, or why there is none."""

    name: str
    regions: tuple[RegionScore, ...] = ()
    seconds: float = 0.0
    failure: str = ""


def main(words: Several[str]) -> int:
    """Run the command; 0 when every case got a mask, 1 when one did not, 3 when there is none, 4 without the model."""
    options = _parser().parse_args(words)
    cases = case_folders(options.cases)
    if not cases:
        sys.stderr.write(f"{options.cases.name}: no folder with {', '.join(_file(one) for one in Sequence)}.\n")
        return _NO_CASES
    try:
        model = Registry(options.models_folder).find(options.model).ref
    except InferenceError as error:
        sys.stderr.write(f"{error} ({error.code})\n")
        return _NO_MODEL
    sandbox = Sandbox(device=options.device, models_folder=options.models_folder, threads=options.threads)
    try:
        judged = [_judge(case, options.cases, model, sandbox) for case in cases]
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        sandbox.close()
    _print(judged, model)
    if options.out is not None:
        sys.stdout.write(f"{write_csv(judged, options.out)}\n")
    return _FAILED if any(one.failure for one in judged) else 0


def case_folders(root: Path) -> list[Path]:
    """Every folder at or under `root` that holds the four sequences, in order of their names."""
    found = {path.parent for path in root.rglob(_file(_REFERENCE))}
    return sorted(folder for folder in found if all((folder / _file(one)).is_file() for one in Sequence))


def write_csv(judged: list[Judged], folder: Path) -> Path:
    """One line a case and region; empty fields where there is no figure. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CSV_NAME
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "region", *_FIGURES, "seconds", "failure"))
        for one in judged:
            if one.failure:
                writer.writerow((one.name, "", *("" for _ in _FIGURES), "", one.failure))
            for score in one.regions:
                figures = (getattr(score, name) for name in _FIGURES)
                written = ("" if value is None else f"{value:.4f}" for value in figures)
                writer.writerow((one.name, score.region, *written, f"{one.seconds:.2f}", ""))
    return path


_FIGURES = ("dice", "hd95_mm", "found_ml", "true_ml", "error_ml", "error_percent")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inference evaluate", description="Dice, HD95 and volume error of a model on labelled cases."
    )
    parser.add_argument("cases", type=Path, metavar="CASES", help="a case folder, or a folder above some")
    parser.add_argument("--model", metavar="NAME", help="a model of `models list` (default: the built-in one)")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {CSV_NAME} there")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--models-folder", type=Path, metavar="DIR", help="where added models lie")
    return parser


def _judge(folder: Path, root: Path, model: ModelRef, sandbox: Sandbox) -> Judged:
    name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
    sys.stderr.write(f"{name}\n")
    try:
        with Display(sys.stderr) as display, tempfile.TemporaryDirectory(prefix="segwire-") as workshop:
            order, truth = _order_of(folder, model, workshop=Path(workshop), display=display)
            display.show("start", 0.0)
            sandbox.start()
            started = time.monotonic()
            outcome = sandbox.segment(order, display.news)
            seconds = time.monotonic() - started
            found = unpack(order.output, outcome.mask).voxels.astype(np.uint8)
            return Judged(name, tuple(scores(found, truth, order.grid)), seconds)
    except InferenceError as error:
        sys.stderr.write(f"{error} ({error.code})\n")
        return Judged(name, failure=f"{error} ({error.code})")


def _order_of(
    folder: Path, model: ModelRef, *, workshop: Path, display: Display
) -> tuple[Order, npt.NDArray[np.uint8] | None]:
    inputs, grid = [], None
    for index, sequence in enumerate(Sequence):
        display.show("read", index / len(Sequence))
        volume = read_nifti(folder / _file(sequence))
        packed = pack(volume, workshop / f"{sequence}.zst")
        inputs.append(InputFile(role=sequence, path=workshop / f"{sequence}.zst", packed=packed))
        grid = to_ras(volume).grid if sequence is _REFERENCE else grid
    if grid is None:
        raise InputInvalid("sequence_missing", "The mask lies on its grid.", subject=str(_REFERENCE))
    truth = _truth(to_ras(read_nifti(folder / TRUTH)), grid) if (folder / TRUTH).is_file() else None
    order = Order(id=folder.name, inputs=tuple(inputs), grid=grid, model=model, output=workshop / "mask.zst")
    return order, truth


def _truth(truth: Volume, grid: Grid) -> npt.NDArray[np.uint8]:
    if not truth.grid.is_close_to(grid, tolerance_mm=0.01):
        raise InputInvalid("size_mismatch", f"It does not lie on the grid of {_REFERENCE}.", subject=TRUTH)
    return truth.voxels.astype(np.uint8)


def _print(judged: list[Judged], model: ModelRef) -> None:
    table = Table(title=f"{model.name} {model.version}, weights {model.sha256[:12]}", title_justify="left")
    table.add_column("case")
    table.add_column("region")
    for heading in ("Dice", "HD95 mm", "found mL", "true mL", "error mL", "error %", "s"):
        table.add_column(heading, justify="right")
    for one in judged:
        if one.failure:
            table.add_row(one.name, one.failure)
        for index, score in enumerate(one.regions):
            first = (one.name, f"{one.seconds:.1f}") if index == 0 else ("", "")
            table.add_row(first[0], score.region, *_cells(score), first[1], end_section=index == len(one.regions) - 1)
    for region, dice, hd95 in _means(judged):
        table.add_row("mean", region, dice, hd95)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120).print(table)


def _cells(score: RegionScore) -> tuple[str, ...]:
    figures = (
        (score.dice, ".3f"),
        (score.hd95_mm, ".1f"),
        (score.found_ml, ".1f"),
        (score.true_ml, ".1f"),
        (score.error_ml, "+.1f"),
        (score.error_percent, "+.0f"),
    )
    return tuple("-" if value is None else format(value, style) for value, style in figures)


def _means(judged: list[Judged]) -> list[tuple[str, str, str]]:
    """Over the cases with a truth; a distance that does not exist is left out of its mean."""
    rows = []
    for region in Region:
        known = [score for one in judged for score in one.regions if score.region is region and score.dice is not None]
        if len(known) > 1:
            far = [score.hd95_mm for score in known if score.hd95_mm is not None]
            dice = float(np.mean([score.dice for score in known]))
            rows.append((str(region), f"{dice:.3f}", f"{np.mean(far):.1f}" if far else "-"))
    return rows


def _file(sequence: Sequence) -> str:
    return f"{sequence.lower()}.nii.gz"
