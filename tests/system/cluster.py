"""Two servers behind nginx on one PostgreSQL and one Redis, and a browser that follows jobs through it all."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.system.faults.patients import make_patient
from tests.system.services import Nginx, Postgres, Redis, nginx, postgres_server, redis_server
from tests.system.stack import Stack, free_port, upload, wait_for

FINAL = ("succeeded", "failed", "cancelled")
NODES = ("server", "server-2")


class Cluster(Stack):
    """A stack whose URL is nginx's. Both servers share the data folder."""

    def __init__(self, data_dir: Path, *, proxy: Nginx, postgres: Postgres, redis: Redis, ports: list[int]) -> None:
        super().__init__(
            data_dir,
            port=ports[0],
            PUBLIC_URL=proxy.url,
            DATABASE_URL=postgres.url,
            REDIS_URL=redis.url,
            ACCEL_LOCATION="/stored/",
            LIMITS="requests_per_minute=100000",
        )
        self.nginx, self.postgres, self.redis = proxy, postgres, redis
        self.ports = dict(zip(NODES, ports, strict=True))

    def __enter__(self) -> Cluster:
        super().__enter__()
        self.add_server(port=self.ports["server-2"])
        return self

    def at(self, node: str, client: httpx.Client) -> httpx.Client:
        """The same user's client, speaking to one node and not to nginx."""
        url = f"http://127.0.0.1:{self.ports[node]}"
        return httpx.Client(base_url=url, headers={"Authorization": client.headers["Authorization"]}, timeout=70)

    def bring_back(self, node: str) -> None:
        """Start a node that was ended, where it was."""
        self._serve(node, self.ports[node])


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Everything started, without a worker."""
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder / "redis"))
        postgres = stack.enter_context(postgres_server(folder / "postgres"))
        proxy = stack.enter_context(nginx(folder / "nginx", ports, stored=folder / "data"))
        yield stack.enter_context(Cluster(folder / "data", proxy=proxy, postgres=postgres, redis=redis, ports=ports))


def a_study(client: httpx.Client, folder: Path, *, seed: int, voxels: int = 24) -> dict[str, Any]:
    """A patient of its own, so that no request of another test is the same question."""
    return upload(client, make_patient(folder / f"patient-{seed}", seed=seed, voxels=voxels))


class Viewer:
    """A page that follows one job by WebSocket, signs in by ticket, and comes back whenever it is cut."""

    def __init__(self, url: str, client: httpx.Client, job_id: str) -> None:
        self.url = url
        self.job_id = job_id
        self.events: list[dict[str, Any]] = []
        self.snapshot: dict[str, Any] = {}
        self.byes: list[dict[str, Any]] = []
        self.masks = 0
        self.connections = 0
        self._epoch: str | None = None
        self._seq: int | None = None
        self._ticketer = httpx.Client(
            base_url=url, headers={"Authorization": client.headers["Authorization"]}, timeout=10
        )
        self._socket: ClientConnection | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"viewer-{job_id}", daemon=True)

    def __enter__(self) -> Viewer:
        self._thread.start()
        wait_for(lambda: bool(self.snapshot), seconds=20, what="subscription")
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        if self._socket is not None:
            self._socket.close()
        self._thread.join(20)
        self._ticketer.close()

    @property
    def states(self) -> list[str]:
        """The states that came as events, in order."""
        return [event["job"]["state"] for event in self.events]

    @property
    def has_no_gap(self) -> bool:
        """Whether every event came once and in its place."""
        numbers = [event["seq"] for event in self.events]
        return numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True

    def wait_for_end(self, *, seconds: float = 90) -> dict[str, Any]:
        """The final snapshot, once it came by the socket, with the mask if there is one."""

        def is_done() -> bool:
            return self.snapshot["state"] in FINAL and (self.snapshot["state"] != "succeeded" or self.masks > 0)

        wait_for(is_done, seconds=seconds, what=f"end of job {self.job_id} on the socket: {self.states}")
        return self.snapshot

    def wait_for_state(self, state: str, *, seconds: float = 60) -> None:
        """Until the job was seen in a state."""
        wait_for(lambda: self.snapshot["state"] == state or state in self.states, seconds=seconds, what=f"{state} job")

    def _run(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(OSError, ConnectionClosed, EOFError, TimeoutError, httpx.HTTPError, KeyError):
                self._once()
            self._is_over.wait(0.3)

    def _once(self) -> None:
        ticket = self._ticketer.post("/api/ws-ticket/").raise_for_status().json()["ticket"]
        address = self.url.replace("http", "ws", 1) + "/ws/segmentation/"
        with connect(address, open_timeout=5, close_timeout=1, max_size=2**22, compression=None) as socket:
            self._socket = socket
            self.connections += 1
            socket.send(json.dumps({"t": "auth", "ticket": ticket}))
            wish: dict[str, Any] = {"t": "sub", "topic": f"job:{self.job_id}"}
            socket.send(json.dumps(wish | ({"epoch": self._epoch, "seq": self._seq} if self._epoch else {})))
            for frame in socket:
                if isinstance(frame, str):
                    self._take(json.loads(frame))

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["t"]
        if kind == "sub.ok":
            self._epoch, self._seq = frame["epoch"], frame["seq"]
            self.snapshot = frame["snapshot"]
        elif kind == "event":
            self._seq = frame["seq"]
            self.events.append(frame)
            self.snapshot = frame["job"]
        elif kind == "mask.end":
            self.masks += 1
        elif kind == "bye":
            self.byes.append(frame)


@contextmanager
def held_at_work(stack: Stack, worker: str = "lab") -> Iterator[None]:
    """The worker's computing process stands still inside the block: its job stays in the running state.

    Not for longer than ten seconds, then the worker takes it for dead.
    """
    children = [one for one in psutil.Process(stack.processes[worker].pid).children(recursive=True) if _computes(one)]
    for child in children:
        child.suspend()
    try:
        yield
    finally:
        for child in children:
            child.resume()


def _computes(process: psutil.Process) -> bool:
    try:
        return "inference.child" in process.cmdline()
    except psutil.Error:
        return False
