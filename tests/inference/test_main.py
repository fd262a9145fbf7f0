"""`python -m inference`: files in, files out, exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import inference.__main__ as command
from inference.contract import Sequence, Volume
from inference.export.nifti import write_nifti
from inference.isolate import Sandbox
from inference.volume import read_nifti
from tests.inference import heads
from tests.real_data import dicom_dir

LAS = heads.grid((60, 70, 30), spacing_mm=(2.0, 2.0, 4.0), axes=np.diag([-1.0, 1.0, 1.0]))


class BrightSandbox(Sandbox):
    """A child whose model needs no training."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.inference.odd_child", "obedient"]


@pytest.fixture
def _bright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Sandbox", BrightSandbox)


def scans_in(folder: Path) -> list[str]:
    """Four NIfTI files of one head; T1CE on thick slices stored LAS."""
    paths = []
    for sequence in Sequence:
        grid = LAS if sequence is Sequence.T1CE else heads.grid()
        paths.append(str(folder / f"{sequence.lower()}.nii.gz"))
        write_nifti(heads.scan(sequence, grid), Path(paths[-1]))
    return paths


@pytest.mark.usefixtures("_bright")
def test_four_files_become_a_mask_and_a_report(tmp_path, capsys):
    status = command.main([*scans_in(tmp_path), "--out", str(tmp_path / "out")])

    mask = read_nifti(tmp_path / "out" / "mask.nii.gz")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    told = capsys.readouterr()
    assert status == 0
    assert mask.grid.is_close_to(LAS)
    assert heads.dice(mask.voxels > 0, heads.ball(LAS)) > 0.88
    assert content["model"]["name"] == "bright"
    assert len(content["inputs"]["FLAIR"]) == 64
    assert set(content["stage_seconds"]) == {"preprocess", "inference", "postprocess"}
    assert told.out.startswith("WT ")
    assert "Searching" in told.err


@pytest.mark.usefixtures("_bright")
def test_the_reference_may_be_another_input(tmp_path):
    status = command.main([*scans_in(tmp_path), "--out", str(tmp_path / "out"), "--reference", "FLAIR"])

    mask = read_nifti(tmp_path / "out" / "mask.nii.gz")
    assert status == 0
    assert mask.grid.is_close_to(heads.grid())


@pytest.mark.usefixtures("_bright")
def test_a_sequence_that_is_missing_needs_a_model_made_for_the_rest(tmp_path, capsys):
    t1, _, t2, flair = scans_in(tmp_path)

    status = command.main([t1, "-", t2, flair, "--out", str(tmp_path / "out")])

    assert status == 3
    assert "T1CE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["-", "-", "-", "-"], ["{}", "-", "{}", "{}", "--reference", "T1CE"]])
def test_what_is_not_there_is_said_before_anything_is_computed(tmp_path, capsys, words):
    given = iter(scans_in(tmp_path))
    named = [next(given) if word == "{}" else word for word in words]

    status = command.main([*named, "--out", str(tmp_path / "out")])

    assert status == 3
    assert "sequence_missing" in capsys.readouterr().err


@pytest.mark.usefixtures("_bright")
def test_files_in_the_wrong_order_are_remarked_on(tmp_path, capsys):
    t1, t1ce, t2, flair = scans_in(tmp_path)

    command.main([t1, t1ce, flair, t2, "--out", str(tmp_path / "out")])

    assert "given as T2 looks like FLAIR" in capsys.readouterr().err


@pytest.mark.usefixtures("_bright")
def test_scans_that_cannot_be_analysed_end_in_status_3_and_a_sentence(tmp_path, capsys):
    paths = scans_in(tmp_path)
    voxels = heads.scan(Sequence.T2, heads.grid()).voxels.astype(np.float32)
    voxels[30, 30, 30] = np.nan
    write_nifti(Volume(voxels, heads.grid().affine), Path(paths[2]))

    status = command.main([*paths, "--out", str(tmp_path / "out")])

    assert status == 3
    assert "t2.nii.gz: 1 of its voxels are not finite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("_bright")
def test_a_model_that_is_not_there_ends_in_status_4(tmp_path, capsys):
    status = command.main([*scans_in(tmp_path), "--out", str(tmp_path / "out"), "--model", "moonlight"])

    assert status == 4
    assert "moonlight" in capsys.readouterr().err


def test_a_device_that_is_not_there_ends_in_status_5(tmp_path, capsys):
    status = command.main([*scans_in(tmp_path), "--out", str(tmp_path / "out"), "--device", "cuda:99"])

    assert status == 5
    assert "cuda:99" in capsys.readouterr().err


def test_too_few_words_end_in_status_2(capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["one.nii.gz", "--out", "somewhere"])

    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_models_have_a_command_of_their_own(capsys):
    status = command.main(["models", "list"])

    assert status == 0
    assert "segwire-compact" in capsys.readouterr().out


@pytest.mark.real_data
@pytest.mark.usefixtures("_bright")
def test_dicom_folders_become_a_segmentation_object_as_well(tmp_path):
    folder = dicom_dir("tcga_fg_6692")

    status = command.main([*(str(folder / name) for name in ("t1", "t1c", "t2", "flair")), "--out", str(tmp_path)])

    assert status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.dcm", "mask.nii.gz", "report.json"]
    assert read_nifti(tmp_path / "mask.nii.gz").voxels.any()
