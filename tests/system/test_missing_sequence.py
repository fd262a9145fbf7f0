"""Three sequences from upload to mask: a real server, a real worker, and a small model declared for the three."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import torch

from inference.contract import Sequence
from inference.export.nifti import write_nifti
from inference.models.bundle import BundleChoices, add_bundle
from inference.models.networks import NetworkSpec, build
from tests.inference import heads
from tests.inference.models.bundles import SMALL_SEGRESNET, inference_json
from tests.system.stack import Stack, ended, upload

pytestmark = pytest.mark.system

THREE = (Sequence.T1, Sequence.T2, Sequence.FLAIR)


def a_model_for_three(folder: Path, *, into: Path) -> None:
    """Register a network with random weights and three inputs."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = inference_json(in_channels=len(THREE))
    (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    network = build(NetworkSpec("SegResNet", {**SMALL_SEGRESNET, "in_channels": len(THREE)}))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    choices = BundleChoices(name="without-t1ce", sequences=THREE, channels=("WT", "TC", "ET"), spacing_mm=4.0)
    add_bundle(folder, into=into, choices=choices)


def three_scans(folder: Path) -> list[Path]:
    """NIfTI files of a small head."""
    paths = [folder / f"{sequence.lower()}.nii.gz" for sequence in THREE]
    for sequence, path in zip(THREE, paths, strict=True):
        write_nifti(heads.scan(sequence, heads.grid()), path)
    return paths


def click(client: httpx.Client, series: dict[str, str], *, model: str | None = None) -> httpx.Response:
    """What the button posts for a study without T1CE."""
    body = {"sequence_series_ids": list(series.values()), "model": model}
    return client.post(f"/api/mri/segmentation/series/{series['FLAIR']}/segment/", json=body)


def test_a_study_without_t1ce_is_analysed_by_the_model_declared_for_the_rest(tmp_path: Path) -> None:
    a_model_for_three(tmp_path / "bundle", into=tmp_path / "models")
    with Stack(tmp_path / "data", MODELS_DIR=str(tmp_path / "models")) as stack, stack.client() as client:
        study = upload(client, three_scans(tmp_path))
        series = {one["sequence"]: one["id"] for one in study["series"]}
        refused = click(client, series)
        stack.start_worker(stack.enrol_worker())
        done = ended(client, click(client, series).json()["id"])
        report = client.get(done["result"]["report_url"]).json()

    assert study["proposal"]["missing"] == ["T1CE"]
    assert (refused.status_code, refused.json()["code"]) == (422, "sequence_missing")
    assert refused.json()["missing"] == ["T1CE"]
    assert (done["state"], done["model"], done["missing_sequences"]) == ("succeeded", "without-t1ce", ["T1CE"])
    assert sorted(report["inputs"]) == ["FLAIR", "T1", "T2"]
    assert "Analysed without T1CE, by a model made for that." in report["warnings"]
