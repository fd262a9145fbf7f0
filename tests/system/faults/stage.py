"""The real programs behind proxies: one server or two, workers, Redis and PostgreSQL when scaled out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from tests.system.faults import rows
from tests.system.faults.proxy import Proxy
from tests.system.stack import ROOT, Stack, StackFailed, wait_for

LIMITS = (
    "requests_per_minute=1000000,failures_per_minute=1000000,sockets_per_user=500,"
    "socket_messages_per_second=200,socket_messages_burst=600"
)
SESSION_CODE = (
    "from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY\n"
    "from django.contrib.auth.models import User\n"
    "from django.contrib.sessions.backends.db import SessionStore\n"
    "user = User.objects.get(username={name!r})\n"
    "session = SessionStore()\n"
    "session[SESSION_KEY] = str(user.pk)\n"
    "session[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend'\n"
    "session[HASH_SESSION_KEY] = user.get_session_auth_hash()\n"
    "session.create()\n"
    "print(session.session_key)\n"
)
REVOKE_CODE = (
    "from server.dispatch.enrolment import set_state\n"
    "from server.dispatch.models import Worker\n"
    "set_state(Worker.objects.get(pk={worker!r}), Worker.State.REVOKED)\n"
)
SWEEP_CODE = (
    "from server.imaging import services, storage\n"
    "storage.STALE_SECONDS = storage.ORPHAN_SECONDS = -1.0\n"
    "services.tidy()\n"
)
CHILD = "inference.child"


class Stage(Stack):
    """A server whose workers and browsers come through proxies of their own."""

    def __init__(self, folder: Path, *, seed: int = 0, port: int | None = None, **env: str) -> None:
        super().__init__(folder / "data", port=port, **{"LIMITS": LIMITS, "OMP_NUM_THREADS": "1", **env})
        self.folder = folder
        self.homes: dict[str, Path] = {}
        self.worker_proxies: dict[str, Proxy] = {}
        self.browser_proxy = Proxy(self.front_port, seed=seed)
        self.seed = seed

    def __enter__(self) -> Stage:
        super().__enter__()
        self.browser_proxy.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.thaw_all()
        try:
            for name in reversed(list(self.processes)):
                with contextlib.suppress(StackFailed):
                    self.stop(name)
        finally:
            for proxy in (*self.worker_proxies.values(), self.browser_proxy):
                proxy.__exit__(*exc)

    @property
    def ports(self) -> dict[str, int]:
        """The server processes and where they listen."""
        return {"server": self.port}

    @property
    def servers(self) -> tuple[str, ...]:
        """The names of the server processes."""
        return tuple(self.ports)

    @property
    def front_port(self) -> int:
        """Where clients come in."""
        return self.port

    @property
    def front_url(self) -> str:
        """Where clients come in, without a proxy."""
        return f"http://127.0.0.1:{self.front_port}"

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        """Every proxy."""
        return (*self.worker_proxies.values(), self.browser_proxy)

    # ── people ──────────────────────────────────────────────────────────────────────────────────────────────────

    def session_of(self, name: str) -> str:
        """A browser session of a user, signed in."""
        return self.manage("shell", "--verbosity", "0", "-c", SESSION_CODE.format(name=name)).splitlines()[-1]

    def token_of(self, name: str) -> str:
        """An API token of a user."""
        return self.manage("api_token", name)

    # ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────

    def add_worker(self, name: str) -> Proxy:
        """Enrol a worker through a proxy of its own; it is not started yet."""
        proxy = Proxy(self.front_port, seed=self.seed + len(self.worker_proxies) + 1)
        self.worker_proxies[name] = proxy.__enter__()
        self.enrol_anew(name)
        return proxy

    def enrol_anew(self, name: str) -> None:
        """Give the worker an identity of its own, in a fresh home."""
        home = self.folder / f"home-{name}-{time.monotonic_ns()}"
        token = self.manage("enrol_token", name, "--route", "lab")
        told = ("--server", self.worker_proxies[name].url, "--name", name, "--token-stdin", "--home", str(home))
        done = subprocess.run(
            [sys.executable, "-m", "worker_client", "enrol", *told],
            cwd=ROOT,
            env=self.env,
            input=token + "\n",
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise StackFailed(f"enrol: {done.stderr[-2000:]}")
        self.homes[name] = home

    def worker_id(self, name: str) -> str:
        """The id that the server gave the worker."""
        return str(json.loads((self.homes[name] / "identity.json").read_text())["worker_id"])

    def launch(self, name: str) -> None:
        """Start a worker's or a server's process, and do not wait for it."""
        if name in self.homes:
            self._start(name, "worker_client", "run", "--home", str(self.homes[name]), "--device", "cpu")
        else:
            self._start(name, "server", "--port", str(self.ports[name]), *self.server_options)

    def revoke(self, name: str) -> None:
        """The administrator takes the worker's right away."""
        self.manage("shell", "--verbosity", "0", "-c", REVOKE_CODE.format(worker=self.worker_id(name)))

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process and wait until it has ended."""
        process = self.processes.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            os.kill(process.pid, number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill_child(self, name: str) -> bool:
        """Kill the process that computes for a worker; false when there is none."""
        process = self.processes.get(name)
        for child in _children(process.pid if process else None):
            with contextlib.suppress(psutil.Error):
                if CHILD in child.cmdline():
                    child.kill()
                    return True
        return False

    def is_running(self, name: str) -> bool:
        """Whether the process is there."""
        process = self.processes.get(name)
        return process is not None and process.poll() is None

    def freeze(self, name: str) -> None:
        """Stop a process in its tracks."""
        if self.is_running(name):
            self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        if self.is_running(name):
            self.processes[name].send_signal(signal.SIGCONT)

    def thaw_all(self) -> None:
        """Let everything go on."""
        for name in self.processes:
            self.thaw(name)

    # ── the disk and the database ───────────────────────────────────────────────────────────────────────────────

    def fill_disk(self, name: str, *, most_bytes: int) -> None:
        """From now on no file of the process (and of the children it starts) grows past `most_bytes`: writes fail."""
        if self.is_running(name):
            psutil.Process(self.processes[name].pid).rlimit(psutil.RLIMIT_FSIZE, (most_bytes, psutil.RLIM_INFINITY))

    def empty_disk(self, name: str) -> None:
        """There is room again."""
        if self.is_running(name):
            with contextlib.suppress(psutil.Error):
                psutil.Process(self.processes[name].pid).rlimit(
                    psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)
                )

    def locked_database(self, seconds: float) -> threading.Thread:
        """Another program holds SQLite's write lock for so long; join the thread to know that it is over."""
        file = next(self.data_dir.glob("*.sqlite3"))

        def hold() -> None:
            with contextlib.closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(seconds)
                connection.execute("ROLLBACK")

        holding = threading.Thread(target=hold, daemon=True)
        holding.start()
        return holding

    # ── what can be seen ────────────────────────────────────────────────────────────────────────────────────────

    def rows(self) -> rows.Rows:
        """What the database holds."""
        code = "from tests.system.faults.rows import tell; tell()"
        return rows.of_text(self.manage("shell", "--verbosity", "0", "-c", code).splitlines()[-1])

    def sweep(self) -> None:
        """Clear away what dead processes have left, as the server does once it is an hour old."""
        self.manage("shell", "--verbosity", "0", "-c", SWEEP_CODE)

    def temporary_files(self) -> dict[str, int]:
        """How many half-made or staged files lie in the data folder, by place."""
        staged = [path for path in self.data_dir.rglob("*") if path.is_file() and _is_temporary(path)]
        return {"staged": len(staged)}

    def is_answering(self, server: str = "server") -> bool:
        """Whether a server answers by itself, without the proxies."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[server]}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_up(self, server: str = "server") -> None:
        """Wait until a server answers."""
        wait_for(lambda: self.is_answering(server), seconds=60, what=f"answer from {server}")

    def wait_until_ready(self, *, seconds: float = 180) -> None:
        """Wait until every worker has started its analysis and asked for work."""
        for name in self.homes:
            log = self.folder / f"{name}.log"
            wait_for(lambda log=log: "Ready for work" in log.read_text(errors="replace"), seconds=seconds, what=name)


def _is_temporary(path: Path) -> bool:
    return any(part.startswith((".", "staging", "tmp")) for part in path.parts[-3:])


def _children(pid: int | None) -> Iterator[psutil.Process]:
    if pid is None:
        return
    try:
        yield from psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
