"""The server's own worker: an ordinary `python -m worker_client` on loopback, started with the first server-route job.

It has a key of its own and speaks the same messages, so both routes share leases, events, progress and cancel,
and the web process never computes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import structlog
from asgiref.sync import sync_to_async

from server.dispatch.services import issue_enrol_token

log = structlog.get_logger(__name__)

STOP_SECONDS = 15.0
RETRY_SECONDS = 5.0
# Nothing of the server's own secrets goes to the child.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")


def name_beside(*, port: int, has_company: bool) -> str:
    """What the own worker is called. Servers that share a data folder each have one, so it says whose it is."""
    return f"server {socket.gethostname()}-{port}"[:128] if has_company else "server"


def home_beside(data_dir: Path, *, name: str) -> Path:
    """Where the own worker keeps its key and outbox."""
    return data_dir / "worker" if name == "server" else data_dir / "workers" / name.partition(" ")[2]


class WorkerNotEnrolled(Exception):
    """The child could not enrol with its own server."""


class LocalWorker:
    """Keeps one worker process alive from the first request for it until the server ends."""

    def __init__(self, *, name: str, home: Path, server_url: str, models_dir: Path, project_dir: Path) -> None:
        self.name = name
        self.home = home
        self.server_url = server_url
        self.models_dir = models_dir
        self.project_dir = project_dir
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """There is a job for the server's own worker. May be called any number of times."""
        self._wanted.set()

    async def keep(self, stop: asyncio.Event) -> None:
        """Start the worker when it is wanted, start it again when it dies, end it when the server ends."""
        while not stop.is_set():
            await _first_of(self._wanted.wait(), stop.wait())
            if stop.is_set():
                return
            self._wanted.clear()
            try:
                await self._enrol_once()
                await self._run_until(stop)
            except (OSError, WorkerNotEnrolled) as error:
                log.error("the server's own worker could not start", cause=str(error))
            await _first_of(asyncio.sleep(RETRY_SECONDS), stop.wait())

    async def _enrol_once(self) -> None:
        if (self.home / "enrolled").exists():
            return
        token = await sync_to_async(issue_enrol_token)(name=self.name, route="server")
        child = await self._start(
            "enrol", "--server", self.server_url, "--name", self.name, "--token-stdin", stdin=PIPE
        )
        _, errors = await child.communicate(token.encode() + b"\n")
        if child.returncode != 0:
            raise WorkerNotEnrolled((errors or b"").decode(errors="replace")[-500:])
        (self.home / "enrolled").touch()

    async def _run_until(self, stop: asyncio.Event) -> None:
        child = await self._start("run", stdin=DEVNULL)
        log.info("the server's own worker has started", pid=child.pid)
        await _first_of(child.wait(), stop.wait())
        if child.returncode is None:
            await _end(child)
        elif child.returncode != 0:
            log.warning("the server's own worker ended", exit_code=child.returncode)
            self._wanted.set()

    async def _start(self, command: str, *arguments: str, stdin: int) -> Process:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "worker_client",
            command,
            *arguments,
            "--home",
            str(self.home),
            stdin=stdin,
            stderr=PIPE if command == "enrol" else None,
            cwd=self.project_dir,
            env={**environment, "MODELS_DIR": str(self.models_dir)},
        )


async def _end(child: Process) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


async def _first_of(*waits: object) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
