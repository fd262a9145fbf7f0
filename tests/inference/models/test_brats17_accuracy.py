"""What the published networks reach on real cases, the whole way from files to mask. Minutes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from inference import evaluate
from inference.models.brats17.add import add_brats17
from inference.models.networks import DEFAULT_VIEWS
from tests.real_data import case_dir, model_dir

pytestmark = [pytest.mark.real_data, pytest.mark.campaign]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    originals = str(model_dir("brats17") / "original")
    add_brats17(originals, into=folder, views=DEFAULT_VIEWS, tell=lambda _stage, _share: None)
    return folder


def figures(case: str, *, models: Path, out: Path) -> dict[str, dict[str, str]]:
    words = [str(case_dir(case)), "--model", "brats17", "--models-folder", str(models), "--device", "cpu"]
    assert evaluate.main([*words, "--out", str(out)]) == 0
    with (out / evaluate.CSV_NAME).open(newline="") as file:
        return {row["region"]: row for row in csv.DictReader(file)}


def test_a_glioma_is_found_as_well_as_published(models: Path, tmp_path: Path):
    found = figures("tcga_fg_6692/sri24", models=models, out=tmp_path)

    dice = {region: float(row["dice"]) for region, row in found.items()}
    assert dice["WT"] >= 0.91
    assert dice["TC"] >= 0.95
    assert dice["ET"] >= 0.95


def test_multiple_sclerosis_is_not_taken_for_a_tumour(models: Path, tmp_path: Path):
    found = figures("open_ms_07", models=models, out=tmp_path)

    assert {row["found_ml"] for row in found.values()} == {"0.0000"}
