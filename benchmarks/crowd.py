"""`make bench-crowd`: a thousand idle workers and two thousand browsers on one server process.

Memory a connection, what the heartbeats cost, click to offer beside them, and how long it takes until every worker
is back after the server was killed. The crowd lives in a process of its own; its workers come back by the product's
own rule (worker_client.comeback).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.bench_worker import BenchWorker
from benchmarks.dispatch import session_cookie
from benchmarks.figures import last_line, milliseconds, percentile, table
from inference.models.registry import Registry
from tests.system.stack import Stack, by_sequence, demo_patient
from worker_client.comeback import Backoff, ComeBack
from worker_client.protocol import messages as m

CLICKS = 60
IDLE_SECONDS = 20.0
AT_ONCE = 40
LIMITS = "requests_per_minute=1000000,sockets_per_user=100000,unknown_sockets_per_address=100000"


class Cost:
    """What a server process has used so far: resident bytes and CPU seconds."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)

    @property
    def rss(self) -> int:
        """Resident memory in bytes."""
        return int(self.process.memory_info().rss)

    @property
    def cpu(self) -> float:
        """CPU seconds, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def enrolled(stack: Stack, workers: list[BenchWorker]) -> None:
    """Put the workers' keys into the database, as their enrolment would have."""
    code = (
        "import json, os; from server.dispatch.models import Worker; "
        "made = Worker.objects.bulk_create([Worker(name=f'crowd {n}', public_key=key, route='lab') "
        "for n, key in enumerate(json.load(open(os.environ['CROWD_KEYS'])))]); "
        "print(json.dumps([worker.id for worker in made]))"
    )
    keys = stack.data_dir / "crowd.json"
    keys.write_text(json.dumps([worker.public_key for worker in workers]))
    ids = json.loads(stack.manage("shell", "--verbosity", "0", "-c", code, CROWD_KEYS=str(keys)).splitlines()[-1])
    for worker, worker_id in zip(workers, ids, strict=True):
        worker.worker_id = worker_id


async def together(calls: list, *, at_once: int = AT_ONCE) -> list:
    """All of them, so many at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(call: object) -> object:
        async with gate:
            return await call  # type: ignore[misc]

    return await asyncio.gather(*(one(call) for call in calls))


async def follow(url: str, cookie: str, topic: str) -> tuple[ClientConnection, asyncio.Task[None]]:
    """A browser that follows a topic and pings as the viewer does."""
    address = url.replace("http", "ws", 1) + "/ws/segmentation/"
    socket = await connect(address, origin=url, additional_headers={"Cookie": cookie}, compression=None)  # type: ignore[arg-type]
    await socket.send(json.dumps({"t": "sub", "topic": topic, "mask": "url"}))
    await asyncio.wait_for(socket.recv(), 60)

    async def live() -> None:
        async def ping() -> None:
            while True:
                await asyncio.sleep(15)
                await socket.send('{"t":"ping"}')

        pinging = asyncio.create_task(ping())
        try:
            async for _ in socket:
                pass
        finally:
            pinging.cancel()

    return socket, asyncio.create_task(live())


async def click_to_offer(client: httpx.AsyncClient, offers: asyncio.Queue, study: dict, count: int) -> list[float]:
    """Seconds from the click to the offer at whichever worker gets it; each job is ended before the next click."""
    series = by_sequence(study)
    address = f"/api/mri/segmentation/series/{series['T1CE']}/segment/"
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        answer = await client.post(address, json={"sequence_series_ids": list(series.values())})
        assert answer.status_code == 202, answer.text
        at, offer, worker = await asyncio.wait_for(offers.get(), 30)
        seconds.append(at - started)
        await worker.end(offer)
        while (await client.get(f"/api/mri/segmentation/jobs/{offer.job}/")).json()["state"] != "failed":
            await asyncio.sleep(0.02)
    return seconds


def gather_offers(workers: list[BenchWorker]) -> asyncio.Queue:
    """All offers in one queue, with the worker that got each."""
    every: asyncio.Queue = asyncio.Queue()

    class Into(asyncio.Queue):
        def __init__(self, worker: BenchWorker) -> None:
            super().__init__()
            self.worker = worker

        def put_nowait(self, item: tuple[float, m.JobOffer]) -> None:
            every.put_nowait((*item, self.worker))

    for worker in workers:
        worker.offers = Into(worker)
    return every


async def come_back(worker: BenchWorker) -> int:
    """Connect again by the product's rule; answers how many attempts it took."""
    backoff, attempts = Backoff(), 0
    while True:
        backoff.ended(signed_in_seconds=100.0 if attempts == 0 else 0.0)
        await asyncio.sleep(backoff.delay(ComeBack(), is_urgent=bool(worker.held), luck=random.random()))
        attempts += 1
        try:
            await asyncio.wait_for(worker.sign_in(), 15)
        except (OSError, TimeoutError, WebSocketException, AssertionError):
            continue
        worker.listening = asyncio.create_task(worker.listen())
        return attempts


async def storm(stack: Stack, workers: list[BenchWorker]) -> tuple[float, list[int]]:
    """Kill the server, start it again, and wait until every worker is back: seconds from the kill."""
    started = time.perf_counter()
    stack.stop("server", signal.SIGKILL)
    coming = [asyncio.create_task(come_back(worker)) for worker in workers]
    await asyncio.to_thread(stack.start_server)
    attempts = await asyncio.wait_for(asyncio.gather(*coming), 300)
    return time.perf_counter() - started, list(attempts)


async def measure(stack: Stack, *, worker_count: int, browser_count: int) -> None:
    """Everything in one run."""
    study = demo_patient(stack)
    default = Registry().find(None)
    model = m.ModelName(name=default.name, version=default.version, sha256=default.sha256)
    workers = [BenchWorker(url=stack.url, model=model, slots=1) for _ in range(worker_count)]
    enrolled(stack, workers)
    offers = gather_offers(workers)
    cookie = session_cookie(stack)
    bearer = {"Authorization": f"Bearer {stack.manage('api_token', 'doctor')}"}
    server = Cost(stack.processes["server"].pid)
    async with httpx.AsyncClient(base_url=stack.url, headers=bearer, timeout=60) as client:
        (await client.get("/api/mri/studies/")).raise_for_status()
        alone_rss, started = server.rss, time.perf_counter()
        await together([worker.__aenter__() for worker in workers])
        signed_in_seconds = time.perf_counter() - started
        workers_rss, cpu, at = server.rss, server.cpu, time.perf_counter()
        await asyncio.sleep(IDLE_SECONDS)
        beats = len(workers) * (time.perf_counter() - at) / 5.0
        cpu_idle = server.cpu - cpu
        beside_workers = await click_to_offer(client, offers, study, CLICKS)
        before_browsers = server.rss
        # Each follows one of the ended jobs: an idle browser, as most are while somebody else clicks.
        ended = [job["id"] for job in (await client.get("/api/mri/segmentation/jobs/")).json()["jobs"]]
        topics = [f"job:{ended[n % len(ended)]}" for n in range(browser_count)]
        browsers = await together([follow(stack.url, cookie, topic) for topic in topics])
        browsers_rss = server.rss
        beside_all = await click_to_offer(client, offers, study, CLICKS)
        print(f"\n{worker_count} workers signed in within {signed_in_seconds:.1f} s; {len(browsers)} browsers follow")
        table("click to offer", {"beside the workers": beside_workers, "beside workers and browsers": beside_all})
        for _, live in browsers:
            live.cancel()
        back_seconds, attempts = await storm(stack, workers)
        connected = stack.connected_workers()
        after_storm = await click_to_offer(client, offers, study, 10)
    print(
        f"after kill -9 of the server: {connected} of {worker_count} back within {back_seconds:.1f} s, "
        f"{max(attempts)} attempts at most; then click to offer p50 {milliseconds(percentile(after_storm, 0.5))}"
    )
    last_line(
        worker_kib=f"{(workers_rss - alone_rss) / worker_count / 1024:.0f}",
        browser_kib=f"{(browsers_rss - before_browsers) / browser_count / 1024:.0f}",
        heartbeat_cpu_ms=f"{1000 * cpu_idle / beats:.2f}",
        idle_cpu=f"{100 * cpu_idle / IDLE_SECONDS:.0f}%",
        click_offer_p99=milliseconds(percentile(beside_all, 0.99)),
        click_offer_p50=milliseconds(percentile(beside_all, 0.5)),
        back_seconds=f"{back_seconds:.1f}",
        back=f"{connected}/{worker_count}",
    )


def main() -> None:
    """Start the real server, bring the crowd."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--browsers", type=int, default=2000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder) / "data", LOG_LEVEL="WARNING", LIMITS=LIMITS) as stack,
    ):
        asyncio.run(measure(stack, worker_count=options.workers, browser_count=options.browsers))


if __name__ == "__main__":
    main()
