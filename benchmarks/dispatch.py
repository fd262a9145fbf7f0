"""`make bench-dispatch`: click to worker and progress to browser, beside a bare WebSocket echo in the same run.

The server is the real one (`python -m server`), first embedded (SQLite, in-memory layer), then scaled out: two servers
on one PostgreSQL and one Redis, where the click goes to the first and the worker hangs on the second. The worker end
and the browser end live in this process, so that every interval is taken from one clock. An echo is measured between
any two clicks. Both databases flush every commit.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.bench_worker import BenchWorker
from benchmarks.figures import last_line, milliseconds, percentile, table
from inference.models.registry import Registry
from tests.system.services import postgres_server, redis_server
from tests.system.stack import ROOT, Stack, by_sequence, demo_patient
from worker_client.protocol import messages as m

CLICKS = 200
WARM_UP = 10
REPORTS = 100
LIMITS = "requests_per_minute=1000000,socket_messages_per_second=10000,socket_messages_burst=10000"
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


async def echo_once(socket: ClientConnection, text: str) -> float:
    """Seconds of one round trip."""
    started = time.perf_counter()
    await socket.send(text)
    await socket.recv()
    return time.perf_counter() - started


async def clicks(
    client: httpx.AsyncClient, worker: BenchWorker, echo: ClientConnection, study: dict
) -> dict[str, list[float]]:
    """Post, wait for the offer, end the job, and one echo between any two."""
    series = by_sequence(study)
    address = f"/api/mri/segmentation/series/{series['T1CE']}/segment/"
    body = {"sequence_series_ids": list(series.values())}
    rows: dict[str, list[float]] = {"bare echo, round trip": [], "click -> 202": [], "click -> offer at the worker": []}
    for number in range(CLICKS + WARM_UP):
        round_trip = await echo_once(echo, "x" * 1000)
        started = time.perf_counter()
        post = asyncio.create_task(client.post(address, json=body))
        at, offer = await asyncio.wait_for(worker.offers.get(), 10)
        answer = await post
        answered = time.perf_counter()
        assert answer.status_code == 202, answer.text
        await worker.end(offer)
        while (await client.get(f"/api/mri/segmentation/jobs/{offer.job}/")).json()["state"] != "failed":
            await asyncio.sleep(0.005)
        if number >= WARM_UP:
            for row, seconds in zip(rows.values(), (round_trip, answered - started, at - started), strict=True):
                row.append(seconds)
    return rows


async def progress(client: httpx.AsyncClient, worker: BenchWorker, study: dict, cookie: str, url: str) -> list[float]:
    """The worker reports four times a second, as a real one does; the browser's socket notes when it shows."""
    series = by_sequence(study)
    address = f"/api/mri/segmentation/series/{series['T1CE']}/segment/"
    answer = await client.post(address, json={"sequence_series_ids": list(series.values())})
    _, offer = await asyncio.wait_for(worker.offers.get(), 10)
    seconds: list[float] = []
    headers = {"Cookie": cookie}
    browser_address = url.replace("http", "ws", 1) + "/ws/segmentation/"
    async with connect(browser_address, origin=url, additional_headers=headers, compression=None) as browser:  # type: ignore[arg-type]
        await browser.send(json.dumps({"t": "sub", "topic": f"job:{answer.json()['id']}"}))
        await asyncio.wait_for(browser.recv(), 10)
        shown = 0.0
        for number in range(1, REPORTS + 1):
            await asyncio.sleep(0.26)
            started = time.perf_counter()
            report = m.JobProgress(
                job=offer.job, fence=offer.fence, pseq=number, stage="inference", pct=100 * number / (REPORTS + 1)
            )
            await worker.say(report)
            shown = await _shown_beyond(browser, shown)
            seconds.append(time.perf_counter() - started)
    await worker.end(offer)
    return seconds


async def _shown_beyond(browser: ClientConnection, shown: float) -> float:
    """The progress of the first frame that shows more than was shown before."""
    while True:
        frame = json.loads(await asyncio.wait_for(browser.recv(), 10))
        progress = frame["job"]["progress"] if frame["t"] == "event" else frame.get("progress", 0.0)
        if progress > shown:
            return float(progress)


def session_cookie(stack: Stack) -> str:
    """A signed-in session of the doctor, as a Cookie header."""
    code = (
        "from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY; "
        "from django.contrib.auth.models import User; from django.contrib.sessions.backends.db import SessionStore; "
        "u = User.objects.get(username='doctor'); s = SessionStore(); s[SESSION_KEY] = str(u.pk); "
        "s[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend'; "
        "s[HASH_SESSION_KEY] = u.get_session_auth_hash(); s.create(); print(s.session_key)"
    )
    return "sessionid=" + stack.manage("shell", "--verbosity", "0", "-c", code).splitlines()[-1]


async def measure(stack: Stack, echo_port: int, *, worker_url: str = "") -> dict[str, list[float]]:
    """Clicks and progress in one run, seconds by row; the worker hangs on the server at `worker_url`, else the same."""
    study = demo_patient(stack)
    default = Registry().find(None)
    model = m.ModelName(name=default.name, version=default.version, sha256=default.sha256)
    token = stack.manage("enrol_token", "bench", "--route", "lab")
    bearer = {"Authorization": f"Bearer {stack.manage('api_token', 'doctor')}"}
    async with (
        httpx.AsyncClient(base_url=stack.url, headers=bearer, timeout=20) as client,
        connect(f"ws://127.0.0.1:{echo_port}", compression=None) as echo,
        BenchWorker(url=worker_url or stack.url, token=token, model=model) as worker,
    ):
        rows = await clicks(client, worker, echo, study)
        shown = await progress(client, worker, study, session_cookie(stack), stack.url)
    return {**rows, "progress, worker -> browser": shown}


def report(title: str, rows: dict[str, list[float]], *, prefix: str) -> dict[str, str]:
    """Print a table, and answer the figures for the last line."""
    table(title, rows)
    echo_row, answer_row, offer_row, shown = rows.values()
    return {
        f"{prefix}click_offer_p50": milliseconds(percentile(offer_row, 0.5)),
        f"{prefix}click_offer_p99": milliseconds(percentile(offer_row, 0.99)),
        f"{prefix}click_202_p50": milliseconds(percentile(answer_row, 0.5)),
        f"{prefix}progress_p50": milliseconds(percentile(shown, 0.5)),
        f"{prefix}progress_p99": milliseconds(percentile(shown, 0.99)),
        f"{prefix}echo_p50": milliseconds(percentile(echo_row, 0.5)),
        f"{prefix}echo_p99": milliseconds(percentile(echo_row, 0.99)),
    }


def embedded(folder: Path, echo_port: int) -> dict[str, str]:
    """One process, nothing else."""
    with Stack(folder / "data", LOG_LEVEL="WARNING", LIMITS=LIMITS) as stack:
        rows = asyncio.run(measure(stack, echo_port))
    return report(f"embedded: SQLite, in-memory layer; {CLICKS} clicks", rows, prefix="")


def scaled_out(folder: Path, echo_port: int) -> dict[str, str]:
    """Two servers on one PostgreSQL and one Redis."""
    with (
        redis_server(folder / "redis") as redis,
        postgres_server(folder / "postgres", options=DURABLE) as postgres,
        Stack(
            folder / "data", LOG_LEVEL="WARNING", LIMITS=LIMITS, REDIS_URL=redis.url, DATABASE_URL=postgres.url
        ) as stack,
    ):
        rows = asyncio.run(measure(stack, echo_port, worker_url=stack.add_server()))
    return report(f"scaled out: two servers, PostgreSQL, Redis; {CLICKS} clicks", rows, prefix="scaled_")


def main() -> None:
    """Measure `embedded`, `scaled`, or both, beside an echo that runs all the time."""
    asked = sys.argv[1:] or list(RUNS)
    echo = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.echo_server"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    figures: dict[str, str] = {}
    try:
        assert echo.stdout is not None
        port = int(echo.stdout.readline())
        for name in asked:
            with tempfile.TemporaryDirectory() as folder:
                figures |= RUNS[name](Path(folder), port)
    finally:
        echo.terminate()
        echo.wait()
    last_line(**figures)


RUNS = {"embedded": embedded, "scaled": scaled_out}

if __name__ == "__main__":
    main()
