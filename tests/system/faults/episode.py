"""One fault at a time on a real stage: a few jobs, what is done to them, and the same judgement as a campaign's."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import httpx

from tests.system.faults import viewers
from tests.system.faults.checker import Verdict, check
from tests.system.faults.history import Recorder
from tests.system.faults.patients import make_patient
from tests.system.faults.proxy import Weather
from tests.system.faults.rows import Rows
from tests.system.faults.stage import Stage
from tests.system.faults.viewers import Desk, SocketViewer, Unreachable, poll
from tests.system.stack import by_sequence, upload

DOCTOR = "doctor"
END_SECONDS = 180.0
LONG = {"voxels": 96, "spacing_mm": 1.5}
"""A patient whose analysis takes some seconds of computing, so that it can be met in the middle."""


class People:
    """Who is signed in on a stage, and the patients that are there. Made once a stage."""

    def __init__(self, stage: Stage) -> None:
        self.cookie, self.token = stage.session_of(DOCTOR), stage.token_of(DOCTOR)
        headers = {"Authorization": f"Bearer {self.token}"}
        with httpx.Client(base_url=stage.front_url, headers=headers, timeout=60) as client:
            self.short = [upload(client, make_patient(stage.folder / "patients", seed=seed)) for seed in range(4)]
            self.long = [upload(client, make_patient(stage.folder / "long", seed=seed, **LONG)) for seed in range(2)]


class Episode:
    """A page by WebSocket and one by long-poll for every job; use as an async context manager."""

    def __init__(self, stage: Stage, people: People) -> None:
        self.stage = stage
        self.people = people
        self.recorder = Recorder()
        self.jobs: list[str] = []
        self.page = SocketViewer(self._desk("page"))
        self._polling: list[asyncio.Task[str]] = []

    async def __aenter__(self) -> Episode:
        self.client = self._desk("client").client()
        self._running = asyncio.create_task(self.page.run())
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for task in (self._running, *self._polling):
            task.cancel()
        await asyncio.gather(self._running, *self._polling, return_exceptions=True)
        await self.client.aclose()
        await asyncio.to_thread(self._make_whole)

    def _make_whole(self) -> None:
        self.stage.thaw_all()
        for proxy in self.stage.proxies:
            proxy.forget_cuts()
            proxy.set_weather(Weather())

    def _desk(self, name: str) -> Desk:
        return Desk(
            name=name,
            url=self.stage.browser_proxy.url,
            origin=self.stage.url,
            cookie=self.people.cookie,
            token=self.people.token,
            recorder=self.recorder,
            luck=random.Random(name),
        )

    async def click(self, study: dict[str, Any], *, reference: str = "T1CE") -> str:
        """A job that is followed from now on."""
        series = by_sequence(study)
        body = {"sequence_series_ids": [series[name] for name in ("T1", "T1CE", "T2", "FLAIR")]}
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await self.client.post(f"/api/mri/segmentation/series/{series[reference]}/segment/", json=body)
                if answer.status_code == 202:
                    break
            await asyncio.sleep(0.3)
        job_id = str(answer.json()["id"])
        self.recorder.note("accepted", who="client", job=job_id, state=answer.json()["state"])
        self.jobs.append(job_id)
        await self.page.follow(job_id)
        self._polling.append(asyncio.create_task(poll(self._desk(f"poller-{len(self.jobs)}"), self.client, job_id)))
        return job_id

    async def cancel(self, job_id: str) -> None:
        """The doctor no longer wants it."""
        answer = await self.client.post(f"{viewers.JOBS}/{job_id}/cancel/")
        self.recorder.note("cancelled", who="client", job=job_id, state=answer.json()["state"])

    async def snapshot(self, job_id: str) -> dict[str, Any]:
        """The job now; asked without a proxy, and until somebody answers."""
        while True:
            with contextlib.suppress(httpx.HTTPError, Unreachable):
                headers = {"Authorization": f"Bearer {self.people.token}"}
                async with httpx.AsyncClient(base_url=self.stage.front_url, headers=headers, timeout=10) as direct:
                    found: dict[str, Any] = (await viewers.get(direct, f"{viewers.JOBS}/{job_id}/")).json()
                    return found
            await asyncio.sleep(0.2)

    async def until(self, job_id: str, is_so: Callable[[dict[str, Any]], bool], *, seconds: float = 90) -> float:
        """Wait for a snapshot, and answer how many seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while not is_so(await self.snapshot(job_id)):  # noqa: ASYNC110  (asked from outside, as a client does)
                await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def computing(self, job_id: str) -> str:
        """Wait until a worker computes the job, and answer which."""
        await self.until(job_id, lambda now: now["state"] == "running" and now["stage"] in {"preprocess", "inference"})
        return str((await self.snapshot(job_id))["worker"])

    async def ended(self, *, seconds: float = END_SECONDS) -> dict[str, dict[str, Any]]:
        """Wait until every job was seen to end, on both pages; the final snapshots."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._polling)
                while not all(one.is_over for one in self.page.followed.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        return {job_id: await self.snapshot(job_id) for job_id in self.jobs}

    async def verdict(self) -> Verdict:
        """What the checker says of this episode's jobs."""
        rows = await asyncio.to_thread(self.stage.rows)
        own = {job_id: row for job_id, row in rows.jobs.items() if job_id in self.jobs}
        return check(self.recorder.facts, Rows(own, rows.series))

    def took(self, what: str, seconds: float, *, allowed: float) -> None:
        """Write down how long something took."""
        self.recorder.note("took", what=what, seconds=round(seconds, 2), allowed=allowed)

    async def blocking(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do something to the stage."""
        return await asyncio.to_thread(work, *args, **kwargs)


Act = Callable[[Episode, str, str], Awaitable[None]]
