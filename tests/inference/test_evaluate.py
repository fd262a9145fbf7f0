"""`python -m inference evaluate`: case folders in, a table and a CSV file out."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from inference import __main__ as command
from inference import evaluate
from inference.contract import Sequence, Volume
from inference.export.nifti import write_nifti
from inference.isolate import Sandbox
from tests.inference import heads


class BrightSandbox(Sandbox):
    """A child whose model needs no training."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.inference.odd_child", "obedient"]


@pytest.fixture(autouse=True)
def _bright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "Sandbox", BrightSandbox)


def write_case(folder: Path, *, with_truth: bool = True) -> None:
    """A head with a ball of tumour, and the ball as the truth."""
    folder.mkdir(parents=True)
    grid = heads.grid()
    for sequence in Sequence:
        write_nifti(heads.scan(sequence, grid), folder / f"{sequence.lower()}.nii.gz")
    if with_truth:
        labels = np.where(heads.ball(grid), 2, 0) - np.where(heads.ball(grid, heads.CORE_RADIUS_MM), 1, 0)
        write_nifti(Volume(labels.astype(np.uint8), grid.affine), folder / evaluate.TRUTH, labels=True)


def test_cases_are_judged_one_by_one_on_the_terminal_and_in_a_file(tmp_path: Path, capsys):
    """The second has no truth, the third cannot be analysed: neither takes the figures of the others away."""
    write_case(tmp_path / "cases" / "a")
    write_case(tmp_path / "cases" / "deeper" / "b", with_truth=False)
    write_case(tmp_path / "cases" / "c")
    write_nifti(Volume(np.zeros((40, 40, 40), np.int16), np.eye(4)), tmp_path / "cases" / "c" / "t2.nii.gz")

    status = command.main(["evaluate", str(tmp_path / "cases"), "--out", str(tmp_path / "out")])

    told = capsys.readouterr()
    with (tmp_path / "out" / evaluate.CSV_NAME).open(newline="") as file:
        rows = {(row["case"], row["region"]): row for row in csv.DictReader(file)}
    assert status == 1
    assert float(rows["a", "WT"]["dice"]) > 0.9
    assert abs(float(rows["a", "WT"]["error_percent"])) < 15
    assert rows["deeper/b", "WT"]["dice"] == ""
    assert float(rows["deeper/b", "WT"]["found_ml"]) == float(rows["a", "WT"]["found_ml"])
    assert "T2" in rows["c", ""]["failure"]
    assert "HD95" in told.out
    assert "Searching" in told.err


def test_a_truth_on_another_grid_is_refused_by_name(tmp_path: Path, capsys):
    write_case(tmp_path / "a", with_truth=False)
    write_nifti(Volume(np.zeros((9, 9, 9), np.uint8), np.eye(4)), tmp_path / "a" / evaluate.TRUTH, labels=True)

    status = command.main(["evaluate", str(tmp_path / "a")])

    assert status == 1
    assert evaluate.TRUTH in capsys.readouterr().err


def test_a_folder_without_a_case_says_what_one_holds(tmp_path: Path, capsys):
    assert command.main(["evaluate", str(tmp_path)]) == 3
    assert "t1ce.nii.gz" in capsys.readouterr().err


def test_a_model_that_is_not_here_is_named(tmp_path: Path, capsys):
    write_case(tmp_path / "a", with_truth=False)

    assert command.main(["evaluate", str(tmp_path), "--model", "nobody", "--models-folder", str(tmp_path)]) == 4
    assert "nobody" in capsys.readouterr().err
