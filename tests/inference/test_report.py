"""The report beside a mask."""

from __future__ import annotations

import json

import numpy as np

from inference.contract import Label, ModelRef, Sequence, Stage
from inference.export.report import report, write_report
from tests.inference import heads

MODEL = ModelRef(name="bright", version="1.0", sha256="ab" * 32)


def made(labels: np.ndarray) -> dict[str, object]:
    return report(
        labels,
        heads.grid((10, 10, 10)),
        model=MODEL,
        inputs={Sequence.T2: "22", Sequence.T1: "11"},
        stage_seconds={Stage.INFERENCE: 1.23456},
        warnings=("T1 and T2 are the same images.",),
    )


def test_a_report_says_what_was_measured_by_whom_from_what():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[4:6, 4:6, 4:6] = Label.OEDEMA

    content = made(labels)

    assert content["volumes_ml"] == {"WT": 0.064, "TC": 0.0, "ET": 0.0}
    assert content["bounding_boxes_mm"] == {"WT": {"min": [-2.0] * 3, "max": [2.0] * 3}, "TC": None, "ET": None}
    assert content["model"] == {"name": "bright", "version": "1.0", "sha256": "ab" * 32}
    assert content["inputs"] == {"T1": "11", "T2": "22"}
    assert content["stage_seconds"] == {"inference": 1.235}
    assert content["warnings"] == ["T1 and T2 are the same images."]


def test_a_report_is_plain_json(tmp_path):
    content = made(np.zeros((10, 10, 10), np.uint8))

    write_report(content, tmp_path / "report.json")

    assert json.loads((tmp_path / "report.json").read_text()) == content
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
