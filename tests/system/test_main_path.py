"""From the click to the mask, with the real programs on loopback."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest

from tests.real_data import case_dir
from tests.system.stack import Stack, by_sequence, click, demo_patient, ended, upload_resumably

pytestmark = pytest.mark.system

SNAPSHOT_FIELDS = {
    "id",
    "state",
    "route",
    "stage",
    "progress",
    "eta_seconds",
    "queue_position",
    "waiting_reason",
    "worker",
    "model",
    "attempt",
    "series_id",
    "sequence_series_ids",
    "created_at",
    "started_at",
    "finished_at",
    "error",
    "result",
    "epoch",
    "seq",
}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as speaking:
        yield speaking


@pytest.fixture(scope="module")
def study(stack: Stack) -> dict[str, Any]:
    return demo_patient(stack)


@pytest.fixture(scope="module")
def finished(client: httpx.Client, study: dict[str, Any]) -> dict[str, Any]:
    """The demo patient's analysis, done once."""
    return ended(client, click(client, study).raise_for_status().json()["id"])


def nifti(content: bytes, folder: Path) -> nib.Nifti1Image:
    file = folder / f"{hashlib.sha256(content).hexdigest()}.nii.gz"
    file.write_bytes(content)
    return nib.load(file)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * np.logical_and(one, other).sum() / max(1, one.sum() + other.sum())


def test_the_click_is_answered_with_the_snapshot_of_a_job(client: httpx.Client, study: dict[str, Any]) -> None:
    answer = click(client, study)

    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(f"/api/mri/segmentation/jobs/{answer.json()['id']}/")
    assert set(answer.json()) >= SNAPSHOT_FIELDS
    assert answer.json()["route"] == "lab"


def test_the_lesion_of_the_demo_patient_is_found(
    stack: Stack, client: httpx.Client, finished: dict[str, Any], tmp_path: Path
) -> None:
    mask = nifti(client.get(finished["result"]["mask_url"]).content, tmp_path)
    truth = nib.load(next((stack.data_dir / "demo").rglob("truth.nii.gz")))

    assert finished["state"] == "succeeded", finished["error"]
    assert np.allclose(mask.affine, truth.affine, atol=1e-3)
    assert dice(np.asarray(mask.dataobj) > 0, np.asarray(truth.dataobj) > 0) >= 0.8


def test_the_mask_lies_on_the_grid_of_the_reference(
    client: httpx.Client, study: dict[str, Any], finished: dict[str, Any], tmp_path: Path
) -> None:
    reference = by_sequence(study)["T1CE"]

    scan = nifti(client.get(f"/api/mri/series/{reference}/volume.nii.gz").content, tmp_path)
    mask = nifti(client.get(finished["result"]["mask_url"]).content, tmp_path)

    assert mask.shape == scan.shape
    assert np.allclose(mask.affine, scan.affine, atol=1e-3)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2, 3}


def test_the_answer_names_digest_and_volumes(client: httpx.Client, finished: dict[str, Any], tmp_path: Path) -> None:
    content = client.get(finished["result"]["mask_url"]).content
    mask = nifti(content, tmp_path)

    millilitres = np.count_nonzero(np.asarray(mask.dataobj)) * abs(np.linalg.det(mask.affine[:3, :3])) / 1000

    assert finished["result"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert finished["result"]["volumes_ml"]["WT"] == pytest.approx(millilitres, rel=0.01)
    assert finished["progress"] == 1


def test_the_report_says_what_was_computed_on_what(client: httpx.Client, finished: dict[str, Any]) -> None:
    report = client.get(finished["result"]["report_url"]).json()

    text = json.dumps(report)
    assert report["model"]["name"]
    assert len(report["model"]["sha256"]) == 64
    assert set(report["stage_seconds"]) >= {"preprocess", "inference", "postprocess"}
    assert report["volumes_ml"].keys() >= {"WT", "TC", "ET"}
    assert "SIMULATED" not in text, "no patient's name in the report"


def test_every_step_is_in_the_log_without_a_gap(client: httpx.Client, finished: dict[str, Any]) -> None:
    answer = client.get(f"/api/mri/segmentation/jobs/{finished['id']}/events", params={"since": 0, "wait": 0}).json()

    numbers = [event["seq"] for event in answer["events"]]
    assert numbers == list(range(1, finished["seq"] + 1))
    assert answer["events"][-1]["job"]["state"] == "succeeded"


def test_a_client_of_the_old_blocking_answer_gets_the_finished_job(client: httpx.Client, study: dict[str, Any]) -> None:
    client.headers["Prefer"] = "wait=60"

    answer = click(client, study)
    del client.headers["Prefer"]

    assert answer.status_code == 200
    assert answer.json()["state"] == "succeeded"


def test_a_double_click_is_one_job(client: httpx.Client, study: dict[str, Any]) -> None:
    first, second = click(client, study).json(), click(client, study).json()

    assert first["id"] == second["id"]
    assert ended(client, first["id"])["state"] == "succeeded"


def test_a_cancelled_job_ends_and_leaves_the_worker_free(client: httpx.Client, study: dict[str, Any]) -> None:
    job = click(client, study).json()

    answer = client.post(f"/api/mri/segmentation/jobs/{job['id']}/cancel/")
    state = ended(client, job["id"])["state"]
    after = ended(client, click(client, study).json()["id"])

    assert answer.status_code == 202
    assert state == "cancelled"
    assert after["state"] == "succeeded"


def test_an_anonymous_visitor_sees_nothing(stack: Stack, finished: dict[str, Any]) -> None:
    paths = (finished["result"]["mask_url"], "/api/mri/studies/")

    codes = {httpx.get(stack.url + path).status_code for path in paths}

    assert codes == {401}


def test_another_doctor_sees_nothing(stack: Stack, finished: dict[str, Any]) -> None:
    stack.add_user("stranger")
    with stack.client("stranger") as stranger:
        answers = [
            stranger.get(f"/api/mri/segmentation/jobs/{finished['id']}/").status_code,
            stranger.get(finished["result"]["mask_url"]).status_code,
            stranger.get("/api/mri/studies/").json(),
        ]

    assert answers[:2] == [404, 404]
    assert not answers[2]["studies"]


def test_a_body_over_the_limit_is_refused_while_it_arrives(stack: Stack) -> None:
    """Stock Daphne takes any body into memory before it asks who sends it."""
    answer = httpx.post(f"{stack.url}/nowhere", content=b"x" * (9 * 1024 * 1024), timeout=30)

    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_the_server_is_alive_ready_and_described(client: httpx.Client) -> None:
    alive, ready, schema = (client.get(path) for path in ("/healthz", "/readyz", "/api/schema/"))

    assert alive.status_code == 200
    assert ready.json()["checks"] == {"database": "ok", "layer": "ok", "storage": "ok", "dispatcher": "ok"}
    assert "/api/mri/segmentation/series/{series_id}/segment/" in schema.json()["paths"]


@pytest.mark.real_data
@pytest.mark.parametrize(("case", "least"), [("modelhub_brats18_p1", 0.7), ("tcga_fg_6692/sri24", 0.7)])
def test_a_real_case_goes_from_upload_to_mask(client: httpx.Client, case: str, least: float, tmp_path: Path) -> None:
    folder = case_dir(case)
    study = upload_resumably(client, [folder / f"{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair")])

    done = ended(client, click(client, study).raise_for_status().json()["id"])
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(client.get(done["result"]["mask_url"]).content))
    truth = nib.load(folder / "seg.nii.gz")

    assert done["state"] == "succeeded", done["error"]
    assert np.allclose(mask.affine, truth.affine, atol=1e-3)
    assert dice(np.asarray(mask.dataobj) > 0, np.asarray(truth.dataobj) > 0) >= least
