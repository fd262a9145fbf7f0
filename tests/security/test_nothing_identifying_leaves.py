"""Everything that leaves for a worker, searched for everything that says who the patient is.

A study that is marked in every element of the standard that holds words, days or UIDs goes through a real server and
two real workers, one by WebSocket and one by the HTTPS fall-back, behind proxies that keep every byte.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zstandard
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from tests.security.privacy.leaks import marks_in, unfolded
from tests.security.privacy.marks import NAME, SHAPE, MarkedStudy, marked_study
from tests.security.privacy.recording import Heard, RecordingProxy
from tests.system.stack import Stack, ended, wait_for

pytestmark = pytest.mark.system

WORKERS = {"socket": False, "https": True}
"""The workers, and whether their network refuses WebSockets."""
VOXELS_BYTES = int(np.prod(SHAPE)) * 2
JOBS = "/api/mri/segmentation/jobs/"


@dataclass(frozen=True)
class Journey:
    """What was heard on the way of the marked study, under the name of the place."""

    study: MarkedStudy
    doctor: list[bytes]
    workers: dict[str, list[bytes]]
    kept: dict[str, bytes]
    """Logs, and the files that the workers still have."""
    shown: dict[str, bytes]
    """What pages and programs see of jobs, workers and the service itself."""
    jobs: list[dict[str, Any]]

    def marks_in(self, blobs: list[bytes] | bytes) -> set[str]:
        """The marks in some bytes, digests of marked values among them."""
        several = [blobs] if isinstance(blobs, bytes) else blobs
        return {mark for blob in several for mark in marks_in(blob, digests=self.study.digests)}


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    """From the upload to the masks, once."""
    marked = marked_study()
    folder = tmp_path_factory.mktemp("privacy")
    with ExitStack() as open_things:
        stack = open_things.enter_context(Stack(folder / "data", LOG_LEVEL="DEBUG", OMP_NUM_THREADS="1"))
        ways = {
            name: open_things.enter_context(RecordingProxy(stack.port, refuses_websockets=refuses))
            for name, refuses in WORKERS.items()
        }
        desk = open_things.enter_context(RecordingProxy(stack.port))
        homes = {name: _started(stack, name, way) for name, way in ways.items()}
        doctor = open_things.enter_context(stack.client())
        doctor.base_url = httpx.URL(desk.url)
        study = _uploaded(doctor, marked)
        frames: list[bytes] = []
        jobs = _analysed(stack, doctor, study, marked, frames=frames)
        shown = {"browser socket": b"\n".join(frames), **_shown(doctor, stack, jobs)}
        for name in ways:
            stack.stop(name)
        kept = {
            **{f"{name}.log": (folder / f"{name}.log").read_bytes() for name in ("server", *ways)},
            **{f"{name}: {path}": path.read_bytes() for name, home in homes.items() for path in _files(home)},
            **{f"{name}: names": "\n".join(map(str, home.rglob("*"))).encode() for name, home in homes.items()},
        }
        workers = {name: way.streams() for name, way in ways.items()}
        yield Journey(marked, desk.streams(), workers, kept, shown, jobs)


def _started(stack: Stack, name: str, way: RecordingProxy) -> Path:
    """A worker that was enrolled and works through the proxy."""
    direct, stack.url = stack.url, way.url
    try:
        home = stack.enrol_worker(name)
    finally:
        stack.url = direct
    run = ("run", "--home", str(home), "--device", "cpu", "--fallback-after", "0" if WORKERS[name] else "60")
    stack._start(name, "worker_client", *run)
    return home


def _uploaded(doctor: httpx.Client, marked: MarkedStudy) -> dict[str, Any]:
    answer = doctor.post("/api/mri/uploads/", files=[("files", (marked.archive_name, marked.archive))])
    assert answer.status_code == 201, answer.text
    assert len(answer.json()["refused"]) + len(answer.json()["set_aside"]) == 3, answer.text
    return dict(answer.json()["studies"][0])


def _analysed(
    stack: Stack, doctor: httpx.Client, study: dict[str, Any], marked: MarkedStudy, *, frames: list[bytes]
) -> list[dict[str, Any]]:
    """One job for each worker, asked for by the scanner's own UIDs, and watched by a browser."""
    for name in WORKERS:
        wait_for(lambda name=name: "Ready for work" in stack.log_of(name), seconds=90, what=f"worker {name}")
    uids = [marked.series_uids[sequence] for sequence in ("T1", "T1CE", "T2", "FLAIR")]
    asked = [
        doctor.post(f"/api/mri/segmentation/series/{uid}/segment/", json={"sequence_series_ids": uids})
        for uid in uids[: len(WORKERS)]
    ]
    assert [answer.status_code for answer in asked] == [202] * len(WORKERS), [answer.text for answer in asked]
    opened = [answer.json() for answer in asked]
    watch = threading.Thread(target=_watch, args=(doctor, stack, study["id"], opened, frames))
    watch.start()
    jobs = [ended(doctor, job["id"]) for job in opened]
    watch.join()
    return jobs


def _watch(doctor: httpx.Client, stack: Stack, study: str, jobs: list[dict[str, Any]], frames: list[bytes]) -> None:
    """Every frame of a browser's socket until the masks have come."""
    ticket = doctor.post("/api/ws-ticket/").json()["ticket"]
    with connect(stack.url.replace("http", "ws") + "/ws/segmentation/", max_size=None) as socket:
        socket.send(json.dumps({"t": "auth", "ticket": ticket}))
        for topic in (f"study:{study}", "workers", *(f"job:{job['id']}" for job in jobs)):
            socket.send(json.dumps({"t": "sub", "topic": topic}))
        missing = len(jobs)
        while missing:
            frame = socket.recv(timeout=120)
            frames.append(frame.encode() if isinstance(frame, str) else frame)
            missing -= '"mask.end"' in str(frame)


def _shown(doctor: httpx.Client, stack: Stack, jobs: list[dict[str, Any]]) -> dict[str, bytes]:
    paths = ["/metrics", "/healthz", "/readyz", "/api/mri/segmentation/pending-requests/", JOBS]
    paths += [f"{JOBS}{job['id']}/{last}" for job in jobs for last in ("", "events?since=0&wait=0", "report.json")]
    # Past the recording: these are the doctor's own.
    with httpx.Client(base_url=stack.url, headers=doctor.headers) as direct:
        return {path: direct.get(path).raise_for_status().content for path in paths}


def _files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def test_both_workers_did_an_analysis_of_the_marked_study(journey: Journey) -> None:
    said = {name: b"\n".join(streams) for name, streams in journey.workers.items()}

    assert [job["state"] for job in journey.jobs] == ["succeeded"] * len(WORKERS), journey.jobs
    assert sorted(job["worker"] for job in journey.jobs) == sorted(WORKERS)
    assert b'"t":"job.offer"' in said["socket"], "frames are read without their masks"
    assert b'"t":"job.result"' in said["socket"]
    assert b"POST /api/worker/sync/" in said["https"]
    assert all(b"GET /api/worker/artifacts/" in one for one in said.values()), "the voxels went through the proxy too"
    assert all(b"PATCH " in one for one in said.values()), "and so did the masks"
    assert all(VOXELS_BYTES in map(len, unfolded(one)) for one in said.values()), "and were unpacked"


def test_nothing_that_leaves_for_a_worker_says_who_the_patient_is(journey: Journey) -> None:
    found = {name: journey.marks_in(streams) for name, streams in journey.workers.items()}

    assert found == {name: set() for name in WORKERS}


def test_no_log_and_no_file_of_a_worker_keeps_who_the_patient_is(journey: Journey) -> None:
    found = {place: marks for place, content in journey.kept.items() if (marks := journey.marks_in(content))}

    assert found == {}
    assert all(b"A job is computed" in journey.kept[f"{name}.log"] for name in WORKERS)
    assert b"audit" in journey.kept["server.log"]


def test_jobs_workers_and_figures_are_shown_without_the_patient(journey: Journey) -> None:
    found = {place: marks for place, content in journey.shown.items() if (marks := journey.marks_in(content))}

    assert found == {}
    assert b'"mask.end"' in journey.shown["browser socket"]


def test_the_same_ears_and_eyes_find_the_patient_where_the_doctor_sent_and_saw_it(journey: Journey) -> None:
    sent = {mark for stream in journey.doctor for mark in journey.marks_in(stream)}

    assert NAME in sent
    assert {"zq00000xk", "19071121", "19070203"} <= sent
    assert len(sent) > 1000, "the upload holds thousands"


def test_a_mark_planted_between_real_frames_is_found(journey: Journey) -> None:
    leak = {"t": "job.offer", "trace": base64.b64encode(zlib.compress(b'{"of":"ZQ00417XK"}')).decode()}
    planted = Heard()
    for stream in journey.workers["socket"]:
        planted.down += Frame(Opcode.BINARY, stream).serialize(mask=True)
    planted.down = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n" + planted.down
    planted.down += Frame(Opcode.TEXT, json.dumps(leak).encode()).serialize(mask=True)

    assert journey.marks_in(list(planted.streams())) == {"zq00417xk"}


PACKED = zstandard.ZstdCompressor().compress
SPELLINGS = {
    "as it is": b"who=ZQ00417XK",
    "small": b"who=zq00417xk",
    "in chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nZQ004\r\n4\r\n17XK\r\n0\r\n\r\n",
    "in a packed volume": b"HTTP/1.1 200 OK\r\n\r\n" + PACKED(bytes(4000) + b"ZQ00417XK"),
    "packed twice": gzip.compress(b"x" * 99 + zlib.compress(b"ZQ00417XK")),
    "in base64": b'{"labels":"' + base64.b64encode(b"\0\1ZQ00417XK") + b'"}',
    "in base64 after a word": b"/path" + base64.urlsafe_b64encode(zlib.compress(b"ZQ00417XK is ill")),
    "in hexadecimal": b"00ff" + b"ZQ00417XK".hex().encode(),
    "in UTF-16": b"\xff\xfe" + "ZQ00417XK".encode("utf-16-le"),
    "in an address": b"GET /x?name=%5AQ00417XK HTTP/1.1",
}


@pytest.mark.parametrize("wrapped", SPELLINGS.values(), ids=SPELLINGS)
def test_a_mark_is_found_below_every_wrapping(wrapped: bytes) -> None:
    assert "zq00417xk" in marks_in(wrapped)


@pytest.mark.parametrize(
    "written",
    [
        "표식환자".encode(),
        "표식환자".encode("euc-kr"),
        json.dumps("표식환자").encode(),
        b"born 1907-11-21",
        b'"StudyDate": "19071121"',
        b"21.11.1907",
        b"11/21/1907",
        b"Nov 21, 1907",
        b"2.25.77319000000000042",
        b"at 13:17:19.770042",
        b'"weight_kg": 73.190428',
        b'"age": "113Y"',
    ],
)
def test_a_name_a_day_and_a_uid_are_found_in_other_spellings_too(written: bytes) -> None:
    assert marks_in(b"{" + written + b"}")


def test_an_id_that_was_only_hashed_is_found() -> None:
    whole = hashlib.sha256(b"ZQ00417XK").hexdigest()

    assert marks_in(f'"{whole[:24]}"'.encode(), digests=frozenset({whole[:16]})) == {f"digest {whole[:16]}"}


def test_what_is_no_mark_is_not_taken_for_one() -> None:
    harmless = (
        b'{"at":"2026-11-21T13:17:19.123Z","size":19071,"affine":[1.19071121,0.0],"sha256":"' + b"a1" * 32 + b'"}'
    )

    assert marks_in(harmless, digests=frozenset({"0" * 16})) == set()
