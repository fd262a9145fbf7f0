"""`make bench-scale`: five hundred watchers of one job, and two server processes against one.

Both run scaled out (PostgreSQL with its default durability, Redis). Watchers and bench workers live in this process.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import httpx
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.bench_worker import BenchWorker
from benchmarks.crowd import enrolled
from benchmarks.dispatch import session_cookie
from benchmarks.figures import last_line, milliseconds, percentile, table
from benchmarks.small_studies import small_study
from inference.models.registry import Registry
from tests.system.services import postgres_server, redis_server
from tests.system.stack import Stack, by_sequence
from worker_client.protocol import messages as m

WATCHERS = 500
REPORTS = 60
STUDIES = 16
WORKERS = 4
JOB_SECONDS = 15.0
LIMITS = "requests_per_minute=1000000,sockets_per_user=100000,unknown_sockets_per_address=100000,queued_jobs=1000000"
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def default_model() -> m.ModelName:
    """What the bench workers say they can run."""
    entry = Registry().find(None)
    return m.ModelName(name=entry.name, version=entry.version, sha256=entry.sha256)


def click_of(study: dict) -> tuple[str, dict]:
    """Where and what the button posts."""
    series = by_sequence(study)
    return f"/api/mri/segmentation/series/{series['T1CE']}/segment/", {"sequence_series_ids": list(series.values())}


async def watch(url: str, cookie: str, topic: str) -> ClientConnection:
    """A browser's socket that follows the topic."""
    address = url.replace("http", "ws", 1) + "/ws/segmentation/"
    socket = await connect(address, origin=url, additional_headers={"Cookie": cookie}, compression=None)  # type: ignore[arg-type]
    await socket.send(json.dumps({"t": "sub", "topic": topic, "mask": "url"}))
    await asyncio.wait_for(socket.recv(), 30)
    return socket


async def see(socket: ClientConnection, seen: list[tuple[float, float]]) -> None:
    """Note when which progress came."""
    async for text in socket:
        frame = json.loads(text)
        if frame["t"] == "progress":
            seen.append((time.perf_counter(), frame["progress"]))


async def watchers(stack: Stack, study: dict, bearer: dict[str, str]) -> list[float]:
    """From the worker's report to each of the watchers, for all of them: only reports that got through count."""
    address, body = click_of(study)
    token = stack.manage("enrol_token", "watched", "--route", "lab")
    async with AsyncExitStack() as open_things:
        client = await open_things.enter_async_context(
            httpx.AsyncClient(base_url=stack.url, headers=bearer, timeout=30)
        )
        worker = await open_things.enter_async_context(
            BenchWorker(url=stack.url, token=token, model=default_model(), slots=1)
        )
        job = (await client.post(address, json=body)).json()["id"]
        _, offer = await asyncio.wait_for(worker.offers.get(), 20)
        cookie = session_cookie(stack)
        gate = asyncio.Semaphore(20)

        async def one() -> ClientConnection:
            async with gate:
                return await watch(stack.url, cookie, f"job:{job}")

        sockets = await asyncio.gather(*(one() for _ in range(WATCHERS)))
        histories: list[list[tuple[float, float]]] = [[] for _ in sockets]
        seeing = [asyncio.create_task(see(*pair)) for pair in zip(sockets, histories, strict=True)]
        sent = []
        for number in range(1, REPORTS + 1):
            await asyncio.sleep(0.5)
            sent.append(time.perf_counter())
            pct = 100 * number / (REPORTS + 1)
            await worker.say(m.JobProgress(job=offer.job, fence=offer.fence, pseq=number, stage="inference", pct=pct))
        await asyncio.sleep(2)
        for task in seeing:
            task.cancel()
        await worker.end(offer)
        for socket in sockets:
            await socket.close()
    return [found for history in histories for found in _latencies(sent, history)]


def _latencies(sent: list[float], history: list[tuple[float, float]]) -> list[float]:
    """Each frame against the newest report before it."""
    return [at - max(when for when in sent if when <= at) for at, _ in history if at >= sent[0]]


async def jobs_a_second(urls: list[str], studies: list[dict], bearer: dict[str, str], stack: Stack) -> float:
    """Clicks until the worker has the job and its end is stored, from as many clients as there are studies."""
    workers = [BenchWorker(url=urls[n % len(urls)], model=default_model(), slots=8) for n in range(WORKERS)]
    enrolled(stack, workers)
    async with AsyncExitStack() as open_things:
        clients = [
            await open_things.enter_async_context(httpx.AsyncClient(base_url=url, headers=bearer, timeout=60))
            for url in urls
        ]
        for worker in workers:
            await open_things.enter_async_context(worker)

        async def work(worker: BenchWorker) -> None:
            while True:
                _, offer = await worker.offers.get()
                await worker.end(offer)

        working = [asyncio.create_task(work(worker)) for worker in workers]
        until, done = time.perf_counter() + JOB_SECONDS, 0

        async def person(number: int) -> None:
            nonlocal done
            address, body = click_of(studies[number])
            client = clients[number % len(clients)]
            while time.perf_counter() < until:
                answer = await client.post(address, json=body, headers={"Prefer": "wait=20"})
                assert answer.status_code in (200, 202), answer.text
                done += answer.json()["state"] == "failed"

        await asyncio.gather(*(person(number) for number in range(len(studies))))
        for task in working:
            task.cancel()
    return done / JOB_SECONDS


def main() -> None:
    """Services, one server, then a second one."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as services:
        folder = Path(name)
        folder.chmod(0o755)
        redis = services.enter_context(redis_server(folder))
        postgres = services.enter_context(postgres_server(options=DURABLE))
        env = {"REDIS_URL": redis.url, "DATABASE_URL": postgres.url, "LIMITS": LIMITS, "LOG_LEVEL": "WARNING"}
        stack = services.enter_context(Stack(folder / "data", **env))
        bearer = {"Authorization": f"Bearer {stack.manage('api_token', 'doctor')}"}
        with stack.client() as client:
            studies = [small_study(client, number) for number in range(STUDIES)]
        seconds = asyncio.run(watchers(stack, studies[0], bearer))
        one = asyncio.run(jobs_a_second([stack.url], studies, bearer, stack))
        second = stack.add_server()
        two = asyncio.run(jobs_a_second([stack.url, second], studies, bearer, stack))
    table(f"progress of one job to {WATCHERS} watchers on one server", {"worker -> each browser": seconds})
    print(f"\njobs from click to stored end: one server {one:.1f}/s, two servers {two:.1f}/s ({two / one:.2f}x)")
    last_line(
        watchers_p50=milliseconds(percentile(seconds, 0.5)),
        watchers_p99=milliseconds(percentile(seconds, 0.99)),
        frames=str(len(seconds)),
        one_server=f"{one:.1f}/s",
        two_servers=f"{two:.1f}/s",
        ratio=f"{two / one:.2f}x",
    )


if __name__ == "__main__":
    main()
