"""Dice per region of a model on labelled cases, and false volume on cases without a tumour.

The way from files to mask is the product's own (`inference.pipeline`), so the figures are what a user gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.contract import Grid, Scans
from inference.models.registry import LoadedModel, ModelEntry
from inference.pipeline import segment
from inference.postprocess import finish, volumes_ml
from inference.predictors import predictor_of
from inference.preprocess import Prepared, prepare
from inference.scores import region_dice
from inference.training.anatomy import CASE_FILES
from inference.volume import read_nifti, to_ras
from inference.watch import Watch


@dataclass(frozen=True)
class Case:
    """A case read once: the network's input, the grid of the answer, and the true labels on it, if there are any."""

    name: str
    prepared: Prepared
    grid: Grid
    truth: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class Score:
    """Dice per region (None without labels) and the volumes found, in mL."""

    name: str
    dice: dict[str, float] | None
    found_ml: dict[str, float]

    def __str__(self) -> str:
        found = " ".join(f"{region} {ml:.1f}mL" for region, ml in self.found_ml.items())
        scores = " ".join(f"{region} {dice:.3f}" for region, dice in (self.dice or {}).items())
        return f"{self.name} {scores} ({found})"


def read_scans(folder: Path) -> Scans:
    """The four sequences of a case folder; the mask is to lie on the grid of T1CE, as in the viewer."""
    volumes = {sequence: to_ras(read_nifti(folder / file)) for sequence, file in CASE_FILES.items()}
    return Scans(volumes=volumes, grid=next(v for s, v in volumes.items() if s == "T1CE").grid)


def read_case(folder: Path, entry: ModelEntry) -> Case:
    """Read and prepare a case for this model; `seg.nii.gz`, where there is one, holds the truth on T1CE's grid."""
    scans = read_scans(folder)
    truth = None
    if (folder / "seg.nii.gz").exists():
        truth = to_ras(read_nifti(folder / "seg.nii.gz")).voxels.astype(np.uint8)
    name = f"{folder.parent.name}/{folder.name}"
    return Case(name, prepare(scans.volumes, scans.grid, entry), scans.grid, truth)


def evaluate(model: LoadedModel, case: Case) -> Score:
    """Score a model on a case, at the case's own resolution."""
    found = predictor_of(model.entry)(case.prepared, model=model, watch=Watch())
    labels = finish(found, case.prepared.grid, grid=case.grid, entry=model.entry)
    dice = None if case.truth is None else region_dice(labels, case.truth)
    return Score(case.name, dice, {str(region): ml for region, ml in volumes_ml(labels, case.grid).items()})


def evaluate_folder(model: LoadedModel, folder: Path) -> tuple[Score, dict[str, float]]:
    """Score a model on a case folder through the whole pipeline; also gives the seconds of each stage."""
    scans = read_scans(folder)
    outcome = segment(scans, model=model, watch=Watch())
    case = read_case(folder, model.entry)
    dice = None if case.truth is None else region_dice(outcome.labels, case.truth)
    seconds = {str(stage): spent for stage, spent in outcome.stage_seconds.items()}
    return Score(case.name, dice, {str(region): ml for region, ml in outcome.volumes_ml.items()}), seconds
