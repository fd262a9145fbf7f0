"""With a real Orthanc: a study is searched, fetched, analysed, and what was found arrives there, whatever is away."""

from __future__ import annotations

import io
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from tests.server.pacs.patients import dicom_patient
from tests.system.orthanc import Orthanc, orthanc
from tests.system.stack import ROOT, Stack, ended, free_port, wait_for

pytestmark = pytest.mark.system

LISTENER_AET = "SEGWIRE"
TODAY = datetime.now(tz=UTC).strftime("%Y%m%d")


@pytest.fixture(scope="module")
def listener_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, listener_port: int) -> Iterator[Orthanc]:
    modalities = {"segwire": [LISTENER_AET, "127.0.0.1", listener_port]}
    with orthanc(tmp_path_factory.mktemp("orthanc"), has_dicom=True, modalities=modalities) as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, archive: Orthanc) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack") / "data", DICOMWEB_URL=archive.dicomweb_url) as running:
        running.manage("shell", "--verbosity", "0", "-c", SET_UP.format(port=archive.dicom_port))
        running.start_worker(running.enrol_worker())
        yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as speaking:
        yield speaking


def pulled(client: httpx.Client, uid: str) -> dict[str, Any]:
    """The study once it is here."""
    asked = client.post(f"/api/pacs/default/studies/{uid}/pull/").raise_for_status().json()

    def ask() -> dict[str, Any] | None:
        standing = client.get(f"/api/pacs/pulls/{asked['id']}/").json()
        return standing if standing["state"] in ("done", "failed") else None

    done = wait_for(ask, seconds=60, what="pulled study")
    assert done["state"] == "done", done
    return dict(client.get(f"/api/mri/studies/{done['study']}/").json())


def analysed(client: httpx.Client, study: dict[str, Any]) -> dict[str, Any]:
    """A job for what is proposed."""
    proposed = study["proposal"]["series"]
    answer = client.post(
        f"/api/mri/segmentation/series/{proposed['T1CE']}/segment/",
        json={"sequence_series_ids": list(proposed.values())},
    )
    return dict(answer.raise_for_status().json())


def deliveries(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    return list(client.get("/api/pacs/deliveries/", params={"job": job_id}).raise_for_status().json()["deliveries"])


def all_sent(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """The deliveries of a job once every one of them was sent."""

    def ask() -> list[dict[str, Any]] | None:
        found = deliveries(client, job_id)
        return found if found and all(one["state"] == "sent" for one in found) else None

    return wait_for(ask, seconds=90, what=f"arrival of the results of {job_id}")


def objects_of(archive: Orthanc, uid: str) -> dict[str, int]:
    """How many objects of each modality a study has in the archive."""
    found = archive.tell("/tools/find", {"Level": "Series", "Expand": True, "Query": {"StudyInstanceUID": uid}})
    counts: dict[str, int] = {}
    for series in found:
        modality = series["MainDicomTags"]["Modality"]
        counts[modality] = counts.get(modality, 0) + len(series["Instances"])
    return counts


def test_a_study_is_found_fetched_and_analysed_and_its_results_arrive_though_the_archive_was_away(
    archive: Orthanc, stack: Stack, client: httpx.Client, tmp_path: Path
) -> None:
    """The archive is down when the job ends; each object arrives once it is back, and exactly once."""
    archive.put(dicom_patient(tmp_path / "study", uid="1.2.826.1", AccessionNumber="A-77"))
    found = client.get("/api/pacs/default/studies/", params={"accession": "A-77"}).raise_for_status().json()
    assert [(one["uid"], one["series_count"], one["study"]) for one in found["studies"]] == [("1.2.826.1", 4, None)]
    study = pulled(client, "1.2.826.1")
    archive.stop()

    job = ended(client, analysed(client, study)["id"])
    waiting = wait_for(
        lambda: [one for one in deliveries(client, job["id"]) if one["error"]], seconds=30, what="failed try"
    )
    archive.start()
    sent = all_sent(client, job["id"])

    assert job["state"] == "succeeded", job
    assert {one["error"]["code"] for one in waiting} == {"archive_away"}
    assert {one["state"] for one in waiting} == {"waiting"}
    stored = objects_of(archive, "1.2.826.1")
    assert stored.pop("MR") == 96
    assert sum(stored.values()) == len(sent)
    assert stored["SEG"] == 1
    seg = pydicom.dcmread(io.BytesIO(archive.file_of(archive.sop_instances(modality="SEG", study="1.2.826.1")[0])))
    assert seg.StudyInstanceUID == "1.2.826.1"
    assert pulled(client, "1.2.826.1")["id"] == study["id"]
    again = client.post(f"/api/pacs/default/jobs/{job['id']}/send/").raise_for_status().json()["deliveries"]
    assert {one["state"] for one in again} == {"sent"}


def test_a_new_study_that_a_rule_fits_is_analysed_by_itself(
    archive: Orthanc, stack: Stack, client: httpx.Client, tmp_path: Path
) -> None:
    wait_for(lambda: told(stack, "SELECT 1 FROM pacs_server WHERE watched_since IS NOT NULL"), seconds=30, what="look")
    fitting = {"StudyDate": TODAY, "StudyDescription": "BRAIN TUMOUR PROTOCOL"}
    archive.put(dicom_patient(tmp_path / "one", uid="1.2.826.2", seed=2, **fitting))
    archive.put(dicom_patient(tmp_path / "other", uid="1.2.826.3", seed=3, sequences=("t1",), StudyDate=TODAY))

    def ask() -> dict[str, Any] | None:
        jobs = client.get("/api/mri/segmentation/jobs/").json()["jobs"]
        return next((one for one in jobs if one["series_id"] in series_of(client, "1.2.826.2")), None)

    job = ended(client, wait_for(ask, seconds=60, what="job by a rule")["id"])

    assert job["state"] == "succeeded", job
    assert {one["kind"] for one in all_sent(client, job["id"])} >= {"seg"}
    assert "No rule fits (brain: study description)." in wait_for(
        lambda: told(stack, PASSED), seconds=20, what="reason"
    )
    assert series_of(client, "1.2.826.3") == set()


def test_a_study_is_received_by_c_store(
    archive: Orthanc, stack: Stack, client: httpx.Client, tmp_path: Path, listener_port: int
) -> None:
    archive.put(dicom_patient(tmp_path / "study", uid="1.2.826.4", seed=4))

    with listening(stack, listener_port) as listener:
        archive.tell("/modalities/segwire/echo", {})
        archive.tell("/modalities/segwire/store", [archive.path_of("1.2.826.4").rpartition("/")[2]])
        wait_for(lambda: len(series_of(client, "1.2.826.4")) == 4, seconds=60, what="received study")

    assert listener.returncode == 0
    wait_for(lambda: "There is no rule for it." in told(stack, PASSED), seconds=20, what="reason")


def test_a_result_is_sent_by_c_store(archive: Orthanc, stack: Stack, client: httpx.Client) -> None:
    job = next(one for one in client.get("/api/mri/segmentation/jobs/").json()["jobs"] if one["state"] == "succeeded")
    all_sent(client, job["id"])
    uid = client.get(f"/api/mri/series/{job['series_id']}/").json()["uid"].rpartition(".")[0]
    [seg] = archive.sop_instances(modality="SEG", study=uid)
    archive.forget(seg)

    client.post(f"/api/pacs/by-dicom/jobs/{job['id']}/send/").raise_for_status()
    sent = all_sent(client, job["id"])

    assert {one["server"] for one in sent} == {"default", "by-dicom"}
    assert archive.sop_instances(modality="SEG", study=uid) == [seg]


SET_UP = """
from django.contrib.auth.models import User
from server.pacs import services
from server.pacs.models import Rule, Server
services.know_default()
Server.objects.update(watches_for_new=True, poll_seconds=1, stable_seconds=1)
Rule.objects.create(name="brain", server=Server.objects.get(), owner=User.objects.get(), study_description="brain")
Server.objects.create(name="by-dicom", url="dicom://ORTHANC@127.0.0.1:{port}", can_search=False)
"""
PASSED = "SELECT reason FROM pacs_sighting WHERE state = 'passed' AND reason <> ''"


def told(stack: Stack, query: str) -> list[str]:
    """What the rows say; to be asked often, so not by a process of its own."""
    with closing(sqlite3.connect(stack.data_dir / "segwire.sqlite3", timeout=10)) as database:
        return [str(row[0]) for row in database.execute(query)]


def series_of(client: httpx.Client, study_uid: str) -> set[str]:
    """Our ids of a study's series; none when it is not here."""
    studies = client.get("/api/mri/studies/").json()["studies"]
    return {series["id"] for study in studies if study["uid"] == study_uid for series in study["series"]}


@contextmanager
def listening(stack: Stack, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`manage.py dicom_listen` as a process of its own, ended by SIGTERM."""
    options = ("--port", str(port), "--aet", LISTENER_AET, "--allow", "ORTHANC@127.0.0.1", "--stable-seconds", "1")
    with (stack.data_dir.parent / "listener.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "dicom_listen", *options, "--owner", "doctor"],
            cwd=ROOT,
            env=stack.env,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: "listens on" in stack.log_of("listener"), seconds=30, what="listener")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
