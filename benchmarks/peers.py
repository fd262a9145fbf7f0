"""`make bench-peers`: the same wait elsewhere, from "somebody wants it" to "the worker has it in hand".

Celery on Redis (`delay` to the task's body), procrastinate on PostgreSQL (`defer` to the task's body), and polling
every two seconds as the system before this one did, against our own `pending-requests/`. Each worker is a process of
its own and reports the moment by a datagram on loopback; all clocks are the machine's one monotonic clock.
"""

from __future__ import annotations

import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.figures import last_line, milliseconds, percentile, table
from tests.system.services import postgres_server, redis_server
from tests.system.stack import ROOT, Stack, click, demo_patient

TASKS = 200
WARM_UP = 10
POLLS = 30
POLL_SECONDS = 2.0
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


class Bell:
    """Where workers report: a datagram with the time at which they had the task in hand."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(30)
        self.port = self.socket.getsockname()[1]

    def heard(self) -> float:
        """The time in the next datagram."""
        return float(self.socket.recv(64))

    def seconds(
        self, ask: Callable[[], object], *, count: int, pause: Callable[[], float] = lambda: 0.01
    ) -> list[float]:
        """How long each of `count` tasks took to arrive, after a warm-up."""
        found = []
        for number in range(count + WARM_UP):
            time.sleep(pause())
            started = time.perf_counter()
            ask()
            at = self.heard()
            if number >= WARM_UP:
                found.append(at - started)
        return found


@contextmanager
def worker(*command: str, env: dict[str, str]) -> Iterator[None]:
    """A peer's worker process."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def celery_seconds(folder: Path, bell: Bell) -> list[float]:
    """`delay` to the task's body, Redis as the broker, a solo worker without gossip: its quickest set-up."""
    with redis_server(folder) as redis:
        env = {**os.environ, "PEER_BROKER": redis.url, "PEER_BELL": str(bell.port)}
        os.environ.update(PEER_BROKER=redis.url, PEER_BELL=str(bell.port))
        from benchmarks.peer_celery import ring

        options = (
            "--pool",
            "solo",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel",
            "ERROR",
        )
        with worker("-m", "celery", "-A", "benchmarks.peer_celery", "worker", *options, env=env):
            return bell.seconds(ring.delay, count=TASKS)


def procrastinate_seconds(folder: Path, bell: Bell) -> list[float]:
    """`defer` to the task's body, LISTEN/NOTIFY on PostgreSQL with its default durability."""
    with postgres_server(options=DURABLE) as postgres:
        env = {**os.environ, "PEER_DATABASE": postgres.url, "PEER_BELL": str(bell.port)}
        os.environ.update(PEER_DATABASE=postgres.url, PEER_BELL=str(bell.port))
        from benchmarks.peer_procrastinate import app, ring

        with app.open():
            app.schema_manager.apply_schema()
            with worker("-m", "procrastinate", "--app", "benchmarks.peer_procrastinate.worker_app", "worker", env=env):
                return bell.seconds(ring.defer, count=TASKS)


def polling_seconds(folder: Path, bell: Bell) -> list[float]:
    """POST to the poll that shows the request, every two seconds; clicks fall anywhere between two polls."""
    with Stack(folder / "data", LOG_LEVEL="WARNING", LIMITS="requests_per_minute=1000000") as stack:
        study = demo_patient(stack)
        env = {**os.environ, "PEER_URL": stack.url, "PEER_TOKEN": stack.manage("api_token", "doctor")}
        env |= {"PEER_BELL": str(bell.port), "PEER_PAUSE": str(POLL_SECONDS)}
        with worker("-m", "benchmarks.peer_polling", env=env), stack.client() as client:
            return [_polled(client, study, bell) for _ in range(POLLS)]


def _polled(client: httpx.Client, study: dict, bell: Bell) -> float:
    time.sleep(random.uniform(0.0, POLL_SECONDS))
    started = time.perf_counter()
    answer = click(client, study)
    assert answer.status_code == 202, answer.text
    seconds = bell.heard() - started
    client.post(f"/api/mri/segmentation/jobs/{answer.json()['id']}/cancel/").raise_for_status()
    return seconds


def main() -> None:
    """One after the other, so that none disturbs another."""
    rows: dict[str, list[float]] = {}
    peers = {
        "Celery + Redis, delay -> task body": celery_seconds,
        "procrastinate + PostgreSQL, defer -> task body": procrastinate_seconds,
        "polling every 2 s, click -> seen by a poll": polling_seconds,
    }
    for name, measure in peers.items():
        bell = Bell()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            rows[name] = measure(Path(folder), bell)
    table("from wanted to in hand, elsewhere", rows)
    celery, procrastinate, polling = rows.values()
    last_line(
        celery_p50=milliseconds(statistics.median(celery)),
        celery_p99=milliseconds(percentile(celery, 0.99)),
        procrastinate_p50=milliseconds(statistics.median(procrastinate)),
        procrastinate_p99=milliseconds(percentile(procrastinate, 0.99)),
        polling_p50=milliseconds(statistics.median(polling)),
        polling_p99=milliseconds(percentile(polling, 0.99)),
    )


if __name__ == "__main__":
    main()
