"""Two servers behind nginx on one PostgreSQL and one Redis, while one after the other of them goes away."""

from __future__ import annotations

import base64
import hashlib
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.config.limits import Limits
from tests.system.cluster import FINAL, NODES, Cluster, Viewer, a_study, held_at_work, running_cluster
from tests.system.faults.patients import make_patient
from tests.system.stack import click, ended, wait_for
from worker_client.protocol.identity import LINK_HEADER, SYNC_PATH

pytestmark = pytest.mark.system

JOBS = "/api/mri/segmentation/jobs"
_seeds = count(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scaled")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    """Two servers, and one worker that came in through nginx."""
    with running_cluster(folder) as running:
        running.start_worker(running.enrol_worker())
        yield running


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    """A doctor who comes in through nginx."""
    with cluster.client() as speaking:
        yield speaking


@pytest.fixture
def study(client: httpx.Client, folder: Path) -> dict[str, Any]:
    """A patient whom no other test asks about."""
    return a_study(client, folder, seed=next(_seeds))


def url_of(cluster: Cluster, node: str) -> str:
    return f"http://127.0.0.1:{cluster.ports[node]}"


def readiness(cluster: Cluster, node: str) -> dict[str, str]:
    return dict(httpx.get(f"{url_of(cluster, node)}/readyz", timeout=10).json()["checks"])


def is_ready(cluster: Cluster, node: str) -> bool:
    return set(readiness(cluster, node).values()) == {"ok"}


def numbers(client: httpx.Client, job_id: str) -> list[int]:
    answer = client.get(f"{JOBS}/{job_id}/events", params={"since": 0, "wait": 0}).json()
    return [event["seq"] for event in answer["events"]]


def test_a_click_on_either_node_reaches_the_worker_and_a_browser_on_the_other(
    cluster: Cluster, client: httpx.Client, study: dict[str, Any]
) -> None:
    with cluster.at("server", client) as here, cluster.at("server-2", client) as there:
        job = click(here, study).raise_for_status().json()
        again = click(there, study).json()
        with Viewer(url_of(cluster, "server-2"), client, job["id"]) as viewer:
            done = viewer.wait_for_end()
        mask = there.get(done["result"]["mask_url"])
        volume = f"/api/mri/series/{study['series'][0]['id']}/volume.nii.gz"
        by_node, by_nginx = there.get(volume), client.get(volume)

    assert again["id"] == job["id"]
    assert viewer.has_no_gap
    assert viewer.masks == 1
    assert by_node.headers["X-Accel-Redirect"].startswith("/stored/")
    assert by_nginx.headers["ETag"] == f'"{hashlib.sha256(by_nginx.content).hexdigest()}"'
    assert hashlib.sha256(mask.content).hexdigest() == done["result"]["sha256"]
    assert numbers(client, job["id"]) == list(range(1, done["seq"] + 1))


def test_a_cancel_on_one_node_stops_the_worker_wherever_it_is(
    cluster: Cluster, client: httpx.Client, study: dict[str, Any]
) -> None:
    states = []
    for node in NODES:
        job = click(client, study).json()
        with cluster.at(node, client) as speaking:
            answer = speaking.post(f"{JOBS}/{job['id']}/cancel/")
        states.append((answer.status_code, ended(client, job["id"])["state"]))

    assert states == [(202, "cancelled")] * 2


def test_the_pieces_of_one_upload_may_reach_different_nodes(
    cluster: Cluster, client: httpx.Client, folder: Path
) -> None:
    files = make_patient(folder / "resumable", seed=500)
    version, batch = {"Tus-Resumable": "1.0.0"}, str(uuid.uuid4())
    with cluster.at("server", client) as here, cluster.at("server-2", client) as there:
        for file in files:
            content = file.read_bytes()
            told = {"filename": file.name, "batch": batch, "batch_count": "4"}
            metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in told.items())
            made = here.post(
                "/api/mri/uploads/tus/",
                headers={**version, "Upload-Length": str(len(content)), "Upload-Metadata": metadata},
            ).raise_for_status()
            path = httpx.URL(made.headers["Location"]).path
            half = len(content) // 2
            kind = {"Content-Type": "application/offset+octet-stream"}
            for speaking, offset, piece in ((there, 0, content[:half]), (here, half, content[half:])):
                headers = {**version, **kind, "Upload-Offset": str(offset)}
                speaking.patch(path, headers=headers, content=piece).raise_for_status()
        done = wait_for(lambda: _ingested(there, batch), seconds=60, what="batch")

    assert (done["state"], len(done["studies"][0]["series"])) == ("done", 4)


def _ingested(client: httpx.Client, batch: str) -> dict[str, Any] | None:
    answer = client.get(f"/api/mri/uploads/batches/{batch}/").json()
    return answer if answer["state"] in ("done", "failed") else None


@pytest.mark.parametrize("node", [NODES[0], pytest.param(NODES[1], marks=pytest.mark.faults)])
def test_a_node_that_is_killed_in_the_middle_of_a_job_costs_nothing(
    cluster: Cluster, client: httpx.Client, study: dict[str, Any], node: str
) -> None:
    """One of the two has the worker's socket and one the browser's; the worker keeps computing either way."""
    job = click(client, study).json()
    with Viewer(cluster.nginx.url, client, job["id"]) as viewer:
        viewer.wait_for_state("running")
        with held_at_work(cluster):
            cluster.stop(node, signal.SIGKILL)
        done = viewer.wait_for_end()
    cluster.bring_back(node)

    assert (done["state"], done["attempt"]) == ("succeeded", 1)
    assert viewer.has_no_gap
    assert viewer.states.count("succeeded") <= 1
    assert numbers(client, job["id"]) == list(range(1, done["seq"] + 1))


@pytest.mark.faults
def test_nodes_that_are_restarted_one_after_the_other_say_goodbye_and_lose_no_attempt(
    cluster: Cluster, client: httpx.Client, study: dict[str, Any]
) -> None:
    job = click(client, study).json()
    with Viewer(cluster.nginx.url, client, job["id"]) as viewer:
        viewer.wait_for_state("running")
        codes = []
        for node in NODES:
            codes.append(cluster.stop(node))
            cluster.bring_back(node)
        done = viewer.wait_for_end()

    assert codes == [0, 0]
    assert (done["state"], done["attempt"]) == ("succeeded", 1)
    assert viewer.has_no_gap
    assert {bye["code"] for bye in viewer.byes} == {4000}
    assert all(bye["reconnect"] for bye in viewer.byes)


def test_redis_may_freeze_go_and_come_back_while_a_job_runs(
    cluster: Cluster, client: httpx.Client, study: dict[str, Any]
) -> None:
    """Events are found by the position check, and clicks are answered as ever."""
    with cluster.redis.frozen():
        job = click(client, study)
    cluster.redis.stop(signal.SIGKILL)
    again = click(client, study)
    away = readiness(cluster, "server")
    with Viewer(cluster.nginx.url, client, job.json()["id"]) as viewer:
        done = viewer.wait_for_end()
        connections = viewer.connections
    cluster.redis.start()
    back = [wait_for(lambda at=node: is_ready(cluster, at), seconds=30, what="layer") for node in NODES]

    assert (job.status_code, again.status_code) == (202, 202)
    assert {name for name, check in away.items() if check != "ok"} == {"layer"}
    assert (done["state"], done["attempt"], connections) == ("succeeded", 1, 1)
    assert viewer.has_no_gap
    assert back == [True, True]


@pytest.mark.faults
def test_postgresql_may_go_and_come_back_while_a_job_runs(
    cluster: Cluster, client: httpx.Client, study: dict[str, Any]
) -> None:
    job = click(client, study).json()
    with Viewer(cluster.nginx.url, client, job["id"]) as viewer:
        viewer.wait_for_state("running")
        with held_at_work(cluster):
            cluster.postgres.stop(signal.SIGKILL)
            refused = client.get(f"{JOBS}/{job['id']}/")
            away = readiness(cluster, "server")
            cluster.postgres.start()
        done = viewer.wait_for_end()
    back = [wait_for(lambda at=node: is_ready(cluster, at), seconds=20, what="database") for node in NODES]

    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert away["database"] != "ok"
    assert (done["state"], done["attempt"]) == ("succeeded", 1)
    assert viewer.has_no_gap
    assert back == [True, True]


@pytest.mark.faults
def test_connections_that_are_cut_again_and_again_lose_nothing(
    cluster: Cluster, client: httpx.Client, study: dict[str, Any]
) -> None:
    """Between UPDATE and COMMIT, and between COMMIT and the acknowledgement: wherever it strikes."""
    codes = set()
    for _ in range(5):
        codes.add(click(client, study).status_code)
        cluster.postgres.cut_connections()
    job = wait_for(lambda: _accepted(click(client, study)), seconds=30, what="accepted click")
    for _ in range(6):
        cluster.postgres.cut_connections()
        time.sleep(0.7)
    wait_for(lambda: _state(client, job["id"]) in FINAL, seconds=90, what="end of the job")
    done = ended(client, job["id"])

    assert codes <= {202, 503}
    assert done["state"] == "succeeded"
    assert numbers(client, job["id"]) == list(range(1, done["seq"] + 1))


def _accepted(answer: httpx.Response) -> dict[str, Any] | None:
    return answer.json() if answer.status_code == 202 else None


def _state(client: httpx.Client, job_id: str) -> str:
    answer = client.get(f"{JOBS}/{job_id}/")
    return str(answer.json()["state"]) if answer.status_code == 200 else "unknown"


def test_the_requests_of_one_link_reach_one_node(cluster: Cluster, client: httpx.Client) -> None:
    """A worker behind a proxy that blocks WebSocket: nginx keeps its requests together by their header."""
    for _ in range(4):
        link = {LINK_HEADER: uuid.uuid4().hex}
        first = client.post(SYNC_PATH, json={"session": None, "frames": []}, headers=link).json()
        said = {"session": first["session"], "frames": [{"t": "ping", "id": 1}]}
        second = client.post(SYNC_PATH, json=said, headers=link).json()

        assert [frame["t"] for frame in first["frames"]] == ["challenge"]
        assert second["session"] == first["session"], "another node does not know the link"


def test_nginx_takes_what_a_server_takes_and_refuses_the_rest_in_the_same_words(
    cluster: Cluster, client: httpx.Client
) -> None:
    refused = client.post("/api/mri/uploads/", content=b"x" * (9 * 1024 * 1024))
    taken = client.post("/api/mri/uploads/", files={"files": ("scan.nii", b"x" * (8 * 1024 * 1024 - 1024))})

    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert taken.status_code == 422


@pytest.mark.faults
def test_who_never_finishes_the_headers_is_hung_up_on(cluster: Cluster) -> None:
    """Every byte began the time-out anew, so that a few hundred lines a minute could hold any number of sockets."""
    address = ("127.0.0.1", cluster.ports["server"])
    with socket.create_connection(address) as silent, socket.create_connection(address) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        deadline = time.monotonic() + 40
        is_cut = False
        while not is_cut and time.monotonic() < deadline:
            is_cut = _is_cut(slow, b"X-Slow: a\r\n")
            time.sleep(0.5)

        silent.settimeout(20)
        assert is_cut
        assert _is_closed(silent)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _is_cut(connection: socket.socket, line: bytes) -> bool:
    connection.settimeout(0.05)
    try:
        connection.sendall(line)
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_no_node_keeps_more_connections_to_the_database_than_it_may(cluster: Cluster, client: httpx.Client) -> None:
    assert cluster.postgres.count_connections() <= Limits().database_connections * len(NODES)
