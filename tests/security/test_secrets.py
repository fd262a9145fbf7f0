"""No secret and nothing of a patient in any log line, address or audit entry, on the whole way of a study."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from inference.contract import ModelRef, Sequence
from inference.volume import pack_mask
from server.accounts import tickets
from server.accounts.services import issue_api_token
from server.audit.models import Entry
from server.core.reconcile import Hold
from server.dispatch import keys
from server.dispatch.deliveries import Delivery, Outcome, settle
from server.dispatch.enrolment import issue_enrol_token
from server.imaging import selectors
from server.imaging.models import Series, Upload
from server.jobs.models import Job
from tests.inference.dicom import images
from tests.security.scene import data_token
from tests.server.dispatch.fakes import Machine
from tests.server.dispatch.scenes import RUN, a_worker, running

pytestmark = pytest.mark.django_db
PASSWORD = "hunter2-hunter2"
PATIENT = {
    "PatientName": "MARKEDNAME^GIVEN",
    "PatientID": "MARKEDID77",
    "StudyDate": "19630517",
    "StudyDescription": "MARKEDSTUDY",
    "PatientBirthDate": "19310203",
    "AccessionNumber": "MARKEDACC",
}
MARKS = ("MARKED", "19630517", "1963-05-17", "19310203")


class Everything(logging.Handler):
    """Keeps each line as it would be written without the second door, and the raw record beside it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        chain = [structlog.stdlib.ExtraAdder()]
        renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        cleaned = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        self.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=chain, processors=[cleaned, renderer]))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.lines.append(f"{record.msg} {record.args}")


@pytest.fixture
def log() -> Iterator[Everything]:
    """Every line of every library at DEBUG, the database's statements apart: they hold all that is stored."""
    everything, root = Everything(), logging.getLogger()
    before = root.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    yield everything
    root.setLevel(before)
    root.removeHandler(everything)


@pytest.fixture
def doctor() -> User:
    return User.objects.create_user("doctor", password=PASSWORD)


def leaks(log: Everything, *secrets: str) -> list[str]:
    """Lines and audit entries that hold a secret."""
    audit = [str(entry) for entry in Entry.objects.values()]
    return [line for line in (*log.lines, *audit) for secret in secrets if secret in line]


def test_signing_in_tells_no_log_how(log: Everything, doctor: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    form = str(browser.get("/login/").context["csrf_token"])
    for password in ("wrong-" + PASSWORD, PASSWORD):
        browser.post("/login/", {"username": "doctor", "password": password, "csrfmiddlewaretoken": form})
    page = str(browser.get("/").context["csrf_token"])
    answer = browser.post("/api/ws-ticket/", headers={"X-CSRFToken": page})
    ticket = answer.json()["ticket"]
    tickets.redeem(ticket)
    tickets.redeem(ticket)
    browser.post("/logout/", {"csrfmiddlewaretoken": page})

    cookies = [morsel.value for morsel in browser.cookies.values() if morsel.value]
    assert len(log.lines) > 4
    assert leaks(log, PASSWORD, form, page, ticket, *cookies) == []


def test_programs_and_workers_tell_no_log_their_tokens(log: Everything, doctor: User) -> None:
    machine, client = Machine(), Client()
    api, enrol, wrong = issue_api_token(user=doctor), issue_enrol_token(name="lab-1"), keys.new_enrol_token()
    bearer = {"Authorization": f"Bearer {api}"}
    for token in (enrol, enrol, wrong):
        client.post("/api/worker/enrol/", json.dumps(machine.application(token)), content_type="application/json")
    client.get("/api/mri/studies/", headers=bearer)
    client.get("/api/nothing/", headers=bearer)
    client.post("/api/mri/segmentation/series/x/segment/", "{", content_type="application/json", headers=bearer)
    client.get("/api/mri/studies/", headers={"Authorization": f"Bearer {api}x"})
    client.get("/api/worker/artifacts/x", headers=bearer)

    assert len(log.lines) > 4
    assert leaks(log, api, enrol, wrong) == []


def test_a_failure_nobody_foresaw_tells_neither(log: Everything, doctor: User, monkeypatch: pytest.MonkeyPatch) -> None:
    api = issue_api_token(user=doctor)
    client = Client(raise_request_exception=False)

    def fails(user: Any, *, uid: str | None = None) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("server.imaging.selectors.studies_for", fails)
    answer = client.get("/api/mri/studies/?patient=MARKED", headers={"Authorization": f"Bearer {api}"})

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_server_error")
    assert "luck" not in answer.content.decode()
    assert any("RuntimeError: out of luck" in line for line in log.lines)
    assert leaks(log, api) == []


def the_study(folder: Path, client: Client) -> list[Series]:
    """Four marked series, uploaded under marked file names."""
    files = []
    for number, sequence in enumerate(Sequence, start=1):
        uid = f"1.2.1.{number}"
        header = {
            **PATIENT,
            "SeriesInstanceUID": uid,
            "SeriesDescription": f"MARKED {sequence}",
            "SeriesNumber": number,
        }
        series = folder / sequence
        images.series(series, box=images.voxels() * number, **header)
        for place, path in enumerate(sorted(series.iterdir())):
            files.append(SimpleUploadedFile(f"MARKED-{sequence}-{place}.dcm", _own(path, f"{uid}.{place + 1}")))
    answer = client.post("/api/mri/uploads/", {"files": files})
    assert answer.status_code == 201, answer.content
    for number, sequence in enumerate(Sequence, start=1):
        Series.objects.filter(uid=f"1.2.1.{number}").update(sequence=sequence)
    return [Series.objects.get(uid=f"1.2.1.{number}") for number in (1, 2, 3, 4)]


def _own(path: Path, uid: str) -> bytes:
    from pydicom import dcmread

    image = dcmread(path)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid
    image.save_as(path)
    return path.read_bytes()


def the_mask(client: Client, hold: Hold, bearer: dict[str, str], series: Series, folder: Path) -> Delivery:
    """A worker's result, sent up as a worker sends it."""
    grid = selectors.grid_of(series)
    labels = np.random.default_rng(5).integers(0, 4, grid.shape).astype(np.uint8)
    packed = pack_mask(labels, folder / "mask", affine=grid.affine)
    content = (folder / "mask").read_bytes()
    told = {"job": hold.job_id, "fence": str(hold.fence), "role": "mask", "sha256": hashlib.sha256(content).hexdigest()}
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())
    headers = {**bearer, "Upload-Length": str(len(content)), "Upload-Metadata": metadata}
    begun = client.post("/api/worker/uploads/", headers=headers)
    client.patch(
        begun["Location"],
        content,
        content_type="application/offset+octet-stream",
        headers={**bearer, "Upload-Offset": "0"},
    )
    return Delivery(
        worker_id=Job.objects.get(pk=hold.job_id).worker_id,
        hold=hold,
        result_id="r1",
        artifact_id=Upload.objects.get(job_id=hold.job_id).pk,
        packed=packed,
        model=ModelRef(**RUN),
        metrics={"stage_seconds": {"inference": 1.0}},
    )


def test_a_patient_leaves_no_trace_on_the_way_from_the_upload_to_the_seg(
    log: Everything, doctor: User, tmp_path: Path
) -> None:
    client = Client()
    client.force_login(doctor)
    four = the_study(tmp_path, client)
    body = json.dumps({"sequence_series_ids": [one.pk for one in four]})
    asked = client.post(
        f"/api/mri/segmentation/series/{four[1].pk}/segment/?use_local=true", body, content_type="application/json"
    ).json()
    worker = a_worker(credits=0)
    hold = running(Job.objects.get(pk=asked["id"]), worker)
    token = data_token(hold, worker)
    bearer = {"Authorization": f"Bearer {token}"}
    client.get(f"/api/worker/artifacts/{four[0].artifact_id}", headers=bearer)

    outcome = settle(the_mask(client, hold, bearer, four[1], tmp_path))

    assert outcome is Outcome.SETTLED
    job = f"/api/mri/segmentation/jobs/{asked['id']}/"
    seg = client.get(job + "mask.dcm")
    assert (seg.status_code, b"MARKEDNAME" in seg.content) == (200, True)  # the viewer's copy is the patient's own
    report = client.get(job + "report.json").content.decode()
    assert not any(mark in report + json.dumps(asked) for mark in MARKS)
    assert leaks(log, token, *MARKS) == []
