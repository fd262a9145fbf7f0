"""Real patients from upload to mask through the real programs, judged by references: `make real-cases`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from inference.brain import find_brain
from inference.contract import Region, Sequence, Volume
from inference.scan import examine
from inference.volume import read_nifti, to_ras
from tests.atlas import carried, dice_by_region, to_scanner
from tests.real_data import case_dir, dicom_dir, model_dir
from tests.system.stack import Stack, by_sequence, ended, upload_resumably

pytestmark = [pytest.mark.system, pytest.mark.real_data, pytest.mark.campaign]

log = logging.getLogger(__name__)

PATIENT = "tcga_fg_6692"
LEAST_WHOLE_TUMOUR = 0.80
MOST_FALSE_ML = 1.0
JOB_SECONDS = 1800
MODELS = ("segwire-compact", "brats17")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server and a lab worker that has both models."""
    folder = tmp_path_factory.mktemp("real")
    with Stack(folder / "data", XDG_DATA_HOME=str(folder / "share")) as stack:
        _add_brats17(stack)
        stack.start_worker(stack.enrol_worker())
        yield stack


@pytest.fixture(scope="module")
def client(running: Stack) -> Iterator[httpx.Client]:
    with running.client() as speaking:
        yield speaking


@cache
def atlas_copy(name: str) -> Volume:
    """`t1ce` or `seg` of the patient in atlas space."""
    return to_ras(read_nifti(case_dir(f"{PATIENT}/sri24") / f"{name}.nii.gz"))


@cache
def way_to_scanner() -> np.ndarray:
    """From atlas space to the scanner's, by the two T1CE."""
    raw = to_ras(read_nifti(case_dir(f"{PATIENT}/raw") / "t1ce.nii.gz"))
    brain = find_brain([examine(Sequence.T1CE, {Sequence.T1CE: raw})], check=lambda: None)
    assert brain is not None
    return to_scanner(atlas_copy("t1ce"), Volume(np.where(brain.mask.voxels, raw.voxels, 0), raw.affine))


def analysed(client: httpx.Client, files: list[Path], *, model: str, folder: Path) -> tuple[dict[str, Any], Volume]:
    """Upload, click, wait: the snapshot and the mask."""
    study = upload_resumably(client, files)
    series = by_sequence(study)
    clicked = time.monotonic()
    answer = client.post(
        f"/api/mri/segmentation/series/{series['T1CE']}/segment/",
        json={"sequence_series_ids": [series[str(name)] for name in Sequence], "model": model},
    )
    snapshot = ended(client, answer.raise_for_status().json()["id"], seconds=JOB_SECONDS)
    log.warning("%s: %s after %.0f s", model, snapshot["state"], time.monotonic() - clicked)
    assert snapshot["state"] == "succeeded", snapshot["error"]
    file = folder / "mask.nii.gz"
    file.write_bytes(client.get(snapshot["result"]["mask_url"]).content)
    report = client.get(snapshot["result"]["report_url"]).json()
    log.warning(
        "%s", {key: report.get(key) for key in ("volumes_ml", "warnings", "alignment", "brain", "stage_seconds")}
    )
    return snapshot, to_ras(read_nifti(file))


def dicom_files() -> list[Path]:
    return sorted(file for file in dicom_dir(PATIENT).rglob("*") if file.is_file())


def nifti_files(case: str) -> list[Path]:
    return [case_dir(case) / f"{name.lower()}.nii.gz" for name in Sequence]


@pytest.mark.parametrize("model", MODELS)
def test_a_patient_as_scanned_is_segmented_as_in_atlas_space(client, tmp_path, model):
    """With skull, 5.5 mm slices, four grids, and a patient who turned by up to 14 degrees between the sequences."""
    _, mask = analysed(client, dicom_files(), model=model, folder=tmp_path)

    truth = atlas_copy("seg")
    scores = dice_by_region(carried(mask, way_to_scanner(), grid=truth.grid), truth.voxels)
    log.warning("%s raw: %s", model, {str(region): round(score, 3) for region, score in scores.items()})
    assert scores[Region.WT] >= LEAST_WHOLE_TUMOUR


@pytest.mark.parametrize("model", MODELS)
def test_the_patient_in_atlas_space_is_segmented(client, tmp_path, model):
    _, mask = analysed(client, nifti_files(f"{PATIENT}/sri24"), model=model, folder=tmp_path)

    scores = dice_by_region(mask.voxels, atlas_copy("seg").voxels)
    log.warning("%s sri24: %s", model, {str(region): round(score, 3) for region, score in scores.items()})
    assert scores[Region.WT] >= LEAST_WHOLE_TUMOUR


@pytest.mark.parametrize("model", MODELS)
def test_a_patient_without_a_tumour_gets_none(client, tmp_path, model):
    """Multiple sclerosis: its lesions are bright on FLAIR and no tumour."""
    snapshot, _ = analysed(client, nifti_files("open_ms_07"), model=model, folder=tmp_path)

    assert snapshot["result"]["volumes_ml"]["WT"] <= MOST_FALSE_ML


def _add_brats17(stack: Stack) -> None:
    import subprocess
    import sys

    originals = model_dir("brats17") / "original"
    command = [sys.executable, "-m", "inference", "models", "add", "brats17", "--from", str(originals)]
    done = subprocess.run(command, env=stack.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
