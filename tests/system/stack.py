"""The real programs on loopback: `python -m server` and `python -m worker_client` as processes of their own."""

from __future__ import annotations

import atexit
import base64
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STOP_SECONDS = 20.0
CHUNK_BYTES = 1024 * 1024
PASSWORD = "a-password-of-the-test"

T = TypeVar("T")


class StackFailed(Exception):
    """A process did not do what it should."""


_PORTS = range(11_000, 32_000)
"""Below those that the system gives to outgoing connections, which would take one between asking and using."""
_next_port = itertools.count(os.getpid() * 71)  # test runs side by side begin in different places


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that this process has not named for a while."""
    for number in _next_port:
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("an endless count ended")


def wait_for(ask: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """Ask until there is an answer that is neither None nor false. Raises StackFailed after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.05)
    raise StackFailed(f"after {seconds:.0f} s there was still no {what}")


class Stack:
    """One server with its data folder, and any number of workers. Use as a context manager."""

    def __init__(
        self,
        data_dir: Path,
        *,
        use_local_inference: str = "true",
        port: int | None = None,
        server_options: Sequence[str] = (),
        **env: str,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.server_options = tuple(server_options)
        self.url = env.get("PUBLIC_URL", f"http://127.0.0.1:{self.port}")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {
            **os.environ,
            "DATA_DIR": str(data_dir),
            "PUBLIC_URL": self.url,
            "USE_LOCAL_INFERENCE": use_local_inference,
            "LOG_LEVEL": "INFO",
            **env,
        }
        self.env.pop("DJANGO_SETTINGS_MODULE", None)

    def __enter__(self) -> Stack:
        self.manage("migrate", "--verbosity", "0")
        self.add_user("doctor", is_superuser=True)
        self.start_server()
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)

    def manage(self, *arguments: str, **env: str) -> str:
        """Run a management command and give back what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.env, **env},
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise StackFailed(f"manage.py {arguments[0]}: {done.stderr[-3000:]}")
        return done.stdout.strip()

    def add_user(self, name: str, *, is_superuser: bool = False) -> None:
        """A user with the password of the tests."""
        flags = "is_staff=True, is_superuser=True" if is_superuser else "is_staff=False"
        code = (
            "from django.contrib.auth.models import User; "
            f"User.objects.create_user({name!r}, password={PASSWORD!r}, {flags})"
        )
        self.manage("shell", "--verbosity", "0", "-c", code)

    def client(self, username: str = "doctor") -> httpx.Client:
        """An API client that speaks for a user."""
        token = self.manage("api_token", username)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=70)

    def start_server(self) -> None:
        """Start the server; it answers before this returns."""
        self._serve("server", self.port)

    def add_server(self, name: str = "server-2", *, port: int | None = None) -> str:
        """Start one more server on the same database, layer, key and data folder, and answer its URL.

        `stop(name)` ends it; with the same `port` it can be started again. Needs DATABASE_URL and REDIS_URL.
        """
        port = port or free_port()
        self._serve(name, port)
        return f"http://127.0.0.1:{port}"

    def _serve(self, name: str, port: int) -> None:
        server = self._start(name, "server", "--port", str(port), *self.server_options)

        def is_up() -> bool:
            if server.poll() is not None:
                raise StackFailed(f"{name} ended with {server.returncode}: {self.log_of(name)}")
            try:
                return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=2).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(is_up, seconds=START_SECONDS, what="answer from the server")

    def enrol_worker(self, name: str = "lab") -> Path:
        """Enrol a worker by a one-time token; its home is a folder of its own."""
        home = self.data_dir.parent / f"worker-{name}"
        token = self.manage("enrol_token", name, "--route", "lab")
        command = ("enrol", "--server", self.url, "--name", name, "--token-stdin", "--home", str(home))
        done = subprocess.run(
            [sys.executable, "-m", "worker_client", *command],
            cwd=ROOT,
            env=self.env,
            input=token + "\n",
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise StackFailed(f"enrol: {done.stderr[-3000:]}")
        return home

    def start_worker(self, home: Path, *, name: str = "lab", module: str = "worker_client") -> None:
        """Start a worker and wait until the server counts it."""
        before = self.connected_workers()
        self._start(name, module, "run", "--home", str(home), "--device", "cpu")
        wait_for(lambda: self.connected_workers() > before, seconds=START_SECONDS, what=f"worker {name}")

    def connected_workers(self) -> int:
        """How many workers the server counts."""
        lines = httpx.get(f"{self.url}/metrics", timeout=10).text.splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("segwire_connected_workers{"))

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a process and answer its exit code."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise StackFailed(f"{name} did not end within {STOP_SECONDS:.0f} s: {self.log_of(name)}") from None

    def log_of(self, name: str) -> str:
        """The end of what a process logged."""
        return (self.data_dir.parent / f"{name}.log").read_text(errors="replace")[-4000:]

    def _start(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.data_dir.parent / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process


def upload(client: httpx.Client, files: Iterable[Path]) -> dict[str, Any]:
    """Upload files in one request and give back the first study."""
    parts = [("files", (path.name, path.read_bytes())) for path in files]
    answer = client.post("/api/mri/uploads/", files=parts)
    if answer.status_code != 201:
        raise StackFailed(f"upload: {answer.status_code} {answer.text}")
    return dict(answer.json()["studies"][0])


def upload_resumably(client: httpx.Client, files: list[Path]) -> dict[str, Any]:
    """Upload files as one tus batch, in chunks of 1 MiB, and give back the first study."""
    batch = str(uuid.uuid4())
    for file in files:
        _send_by_tus(client, file, batch=batch, batch_count=len(files))

    def ask() -> dict[str, Any] | None:
        answer = client.get(f"/api/mri/uploads/batches/{batch}/").json()
        return answer if answer["state"] in ("done", "failed") else None

    ingested = wait_for(ask, seconds=120, what="ingested batch")
    if ingested["state"] == "failed":
        raise StackFailed(f"batch: {ingested['refused']}")
    return dict(ingested["studies"][0])


def _send_by_tus(client: httpx.Client, file: Path, *, batch: str, batch_count: int) -> None:
    content = file.read_bytes()
    told = {"filename": file.name, "batch": batch, "batch_count": str(batch_count)}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in told.items())
    version = {"Tus-Resumable": "1.0.0"}
    created = client.post(
        "/api/mri/uploads/tus/",
        headers={**version, "Upload-Length": str(len(content)), "Upload-Metadata": metadata},
    ).raise_for_status()
    kind = {"Content-Type": "application/offset+octet-stream"}
    for offset in range(0, len(content), CHUNK_BYTES):
        client.patch(
            created.headers["Location"],
            headers={**version, **kind, "Upload-Offset": str(offset)},
            content=content[offset : offset + CHUNK_BYTES],
        ).raise_for_status()


_demo_files: Path | None = None


def demo_patient(stack: Stack) -> dict[str, Any]:
    """The simulated patient's study as the API would give it. It is made once; later stacks import the same files."""
    global _demo_files  # noqa: PLW0603  (ten seconds of computing, shared by every stack of a run)
    folder = stack.data_dir / "demo"
    if _demo_files is None:
        made = json.loads(stack.manage("make_demo_patient", "--owner", "doctor"))
        _demo_files = Path(tempfile.mkdtemp(prefix="segwire-demo-"))
        atexit.register(shutil.rmtree, _demo_files, ignore_errors=True)
        shutil.copytree(folder, _demo_files, dirs_exist_ok=True)
        return {"id": made["study"], "series": [{"id": key, "sequence": name} for name, key in made["series"].items()]}
    shutil.copytree(_demo_files, folder, dirs_exist_ok=True)
    folders = [str(folder / name.lower()) for name in ("T1", "T1CE", "T2", "FLAIR")]
    return dict(json.loads(stack.manage("import_series", *folders, "--owner", "doctor"))["studies"][0])


def demo_files(stack: Stack) -> Path:
    """The simulated patient's files, which no server has: t1, t1ce, t2, flair and truth.nii.gz. Made once in a run."""
    global _demo_files  # noqa: PLW0603  (as above)
    if _demo_files is None:
        _demo_files = Path(tempfile.mkdtemp(prefix="segwire-demo-"))
        atexit.register(shutil.rmtree, _demo_files, ignore_errors=True)
        imports = "from pathlib import Path; from server.imaging.demo import make_demo_files"
        stack.manage("shell", "--verbosity", "0", "-c", f"{imports}; make_demo_files(Path({str(_demo_files)!r}))")
    return _demo_files


def by_sequence(study: dict[str, Any]) -> dict[str, str]:
    """Series ids of a study by sequence."""
    return {series["sequence"]: series["id"] for series in study["series"] if series["sequence"]}


def click(client: httpx.Client, study: dict[str, Any], **query: str) -> httpx.Response:
    """What the button posts: the four sequences, T1CE as the reference."""
    series = by_sequence(study)
    return client.post(
        f"/api/mri/segmentation/series/{series['T1CE']}/segment/",
        params=query,
        json={"sequence_series_ids": [series[name] for name in ("T1", "T1CE", "T2", "FLAIR")]},
    )


def ended(client: httpx.Client, job_id: str, *, seconds: float = 120) -> dict[str, Any]:
    """The snapshot of a job once it has ended."""

    def ask() -> dict[str, Any] | None:
        snapshot = client.get(f"/api/mri/segmentation/jobs/{job_id}/").json()
        return snapshot if snapshot["state"] in ("succeeded", "failed", "cancelled") else None

    return wait_for(ask, seconds=seconds, what=f"end of job {job_id}")
