"""The report beside a mask: what was measured, by which model, from which inputs. The same figures give the same bytes.

Flow: 8 mask
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.contract import REGION_LABELS, Grid, Label, ModelRef, Region, Sequence, Stage, Volume
from inference.export.measures import Measures, as_json, measure
from inference.postprocess import boxes_mm, volumes_ml
from inference.volume import to_ras

NOTICE = "Research use only. Not for clinical use."


def report(
    labels: npt.NDArray[np.uint8],
    grid: Grid,
    *,
    model: ModelRef,
    inputs: Mapping[Sequence, str],
    stage_seconds: Mapping[Stage, float],
    warnings: tuple[str, ...] = (),
    measures: Mapping[Region, Measures] | None = None,
) -> dict[str, object]:
    """The measurements of one mask as JSON values.

    `labels` (I, J, K) uint8 of `Label` on `grid`; `inputs` the sha256 (hex) of each sequence. Volumes in mL, boxes
    as lowest and highest corner in RAS+ mm of the world; diameters in mm. `measures`, where they are known already.
    """
    volumes, boxes = volumes_ml(labels, grid), boxes_mm(labels, grid)
    if measures is None:
        turned = to_ras(Volume(voxels=labels, affine=grid.affine))
        measures = measure(turned.voxels.astype(np.uint8), turned.grid)
    return {
        "notice": NOTICE,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
        "inputs": {str(sequence): inputs[sequence] for sequence in Sequence if sequence in inputs},
        "grid": {
            "shape": list(grid.shape),
            "spacing_mm": [round(edge, 6) for edge in grid.spacing_mm],
            "affine": np.asarray(grid.affine).round(6).tolist(),
        },
        "labels": {str(int(label)): label.name.lower() for label in Label},
        "regions": {str(region): [int(label) for label in REGION_LABELS[region]] for region in Region},
        "volumes_ml": {str(region): round(volumes[region], 3) for region in Region},
        "bounding_boxes_mm": {str(region): _box(boxes[region]) if region in boxes else None for region in Region},
        "measurements": as_json(measures),
        "stage_seconds": {str(stage): round(stage_seconds[stage], 3) for stage in Stage if stage in stage_seconds},
        "warnings": list(warnings),
    }


def write_report(content: Mapping[str, object], path: Path) -> None:
    """Write the report as JSON. The file appears under its name only when complete and on the disk."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as target:
        json.dump(content, target, indent=2, ensure_ascii=False)
        target.write("\n")
        target.flush()
        os.fsync(target.fileno())
    part.replace(path)


def _box(corners: tuple[tuple[float, ...], tuple[float, ...]]) -> dict[str, list[float]]:
    low, high = corners
    return {"min": [round(edge, 2) for edge in low], "max": [round(edge, 2) for edge in high]}
