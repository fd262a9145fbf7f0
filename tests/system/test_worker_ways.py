"""A lab whose network lets no WebSocket out, and what is left of a job that was cancelled: the real programs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.system.stack import Stack, click, demo_patient, ended, free_port, wait_for

pytestmark = pytest.mark.system

MB = 1 << 20
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def a_proxy_without_websockets(target_port: int) -> Iterator[int]:
    """Passes HTTP on to a port of this machine, and refuses every upgrade; its own port."""
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        thread = threading.Thread(target=_accept, args=(listening, target_port), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def _accept(listening: socket.socket, target_port: int) -> None:
    with suppress(OSError):
        while True:
            near, _ = listening.accept()
            threading.Thread(target=_serve, args=(near, target_port), daemon=True).start()


def _serve(near: socket.socket, target_port: int) -> None:
    with near, suppress(OSError):
        head = near.recv(65536)
        if b"upgrade: websocket" in head.lower():
            near.sendall(REFUSAL)
            return
        with socket.create_connection(("127.0.0.1", target_port)) as far:
            far.sendall(head)
            threading.Thread(target=_pass_on, args=(far, near), daemon=True).start()
            _pass_on(near, far)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def resident_mb(process: psutil.Process) -> float:
    """What a process and its children hold."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total / MB


def is_stopped_in_the_log(stack: Stack) -> bool:
    return "A job was stopped" in stack.log_of("behind")


def enrolled_through(stack: Stack, port: int) -> Path:
    """A worker that knows the server by the proxy's address."""
    direct, stack.url = stack.url, f"http://127.0.0.1:{port}"
    try:
        return stack.enrol_worker("behind")
    finally:
        stack.url = direct


def test_a_worker_behind_a_proxy_without_websockets_works_and_a_cancel_gives_its_memory_back(bare_stack: Stack) -> None:
    study = demo_patient(bare_stack)
    with a_proxy_without_websockets(bare_stack.port) as port, bare_stack.client() as client:
        home = enrolled_through(bare_stack, port)
        bare_stack._start(
            "behind", "worker_client", "run", "--home", str(home), "--device", "cpu", "--fallback-after", "0"
        )
        wait_for(lambda: bare_stack.connected_workers() == 1, seconds=60, what="worker behind the proxy")
        worker = psutil.Process(bare_stack.processes["behind"].pid)
        wait_for(lambda: "Ready for work" in bare_stack.log_of("behind"), seconds=60, what="warm worker")
        idle = resident_mb(worker)
        job = click(client, study).json()

        def is_computing() -> bool:
            return bool(client.get(f"/api/mri/segmentation/jobs/{job['id']}/").json()["stage"] == "inference")

        wait_for(is_computing, seconds=60, what=f"analysis at work: {bare_stack.log_of('behind')}")
        client.post(f"/api/mri/segmentation/jobs/{job['id']}/cancel/")
        cancelled = ended(client, job["id"], seconds=10)
        wait_for(lambda: is_stopped_in_the_log(bare_stack), seconds=20, what="stopped analysis")
        wait_for(lambda: resident_mb(worker) < idle + 100, seconds=20, what="freed memory")
        again = ended(client, click(client, study).json()["id"])

    assert cancelled["state"] == "cancelled"
    assert again["state"] == "succeeded", again["error"]
    assert "way=https" in bare_stack.log_of("behind")
