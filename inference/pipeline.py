"""The whole analysis, one line a stage.

Flow: 6 run
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inference.contract import ModelRef, Scans, Segmentation, Stage
from inference.postprocess import finish, volumes_ml
from inference.predictors import predictor_of
from inference.space import bring_together
from inference.watch import Watch

if TYPE_CHECKING:
    from inference.models.registry import LoadedModel


def segment(scans: Scans, *, model: LoadedModel, watch: Watch) -> Segmentation:
    """Find the tumour in four sequences of one patient. The mask lies exactly on `scans.grid`.

    Raises InputInvalid, ModelFailed, OutOfMemory, Cancelled.
    """
    entry = model.entry
    ready = watch.stage(Stage.PREPROCESS, bring_together, scans, entry, watch=watch)
    prepared = ready.prepared
    found = watch.stage(Stage.INFERENCE, predictor_of(entry), prepared, model=model, watch=watch)
    labels = watch.stage(Stage.POSTPROCESS, finish, found, prepared.grid, grid=scans.grid, entry=entry)
    return Segmentation(
        labels=labels,
        grid=scans.grid,
        model=ModelRef(name=entry.name, version=entry.version, sha256=entry.sha256),
        volumes_ml=volumes_ml(labels, scans.grid),
        stage_seconds=dict(watch.stage_seconds),
        warnings=ready.warnings,
        alignment=ready.alignment,
        brain=ready.brain,
    )
