"""The random campaign: clicks, cancels and repeats where everything goes wrong, then quiet, then judgement."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.system.faults import rogue, viewers
from tests.system.faults.checker import Verdict, check, faults_by_name
from tests.system.faults.history import Recorder
from tests.system.faults.nemesis import Nemesis
from tests.system.faults.patients import make_patient
from tests.system.faults.proxy import Weather
from tests.system.faults.stage import Stage
from tests.system.faults.viewers import Desk, SocketViewer, Unreachable, poll
from tests.system.stack import by_sequence, upload, wait_for

DOCTOR, STRANGER = "doctor", "stranger"
QUIET_SECONDS = 240.0
CALM = Weather(delay_seconds=0.05, jitter_seconds=0.1)
"""What workers always meet, so that a job takes about two seconds without any computing."""


class CampaignBroken(Exception):
    """A part of the campaign itself failed, so that its verdict would mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a campaign goes. The seed decides the faults and the clicks; when they meet is the machine's affair."""

    seed: int
    minutes: float
    workers: int = 3
    patients: int = 12
    open_clicks: int = 8
    sockets: int = 3
    fault_pause_seconds: float = 2.0
    say: Callable[[str], None] = field(default=lambda line: sys.stdout.write(line + "\n") and None)


class Campaign:
    """One campaign on one stage."""

    def __init__(self, stage: Stage, plan: Plan, *, nemesis: type[Nemesis] = Nemesis) -> None:
        self.stage = stage
        self.plan = plan
        self.recorder = Recorder(stage.folder / "history.jsonl")
        self.luck = random.Random(plan.seed)
        self.nemesis_type = nemesis
        self.clicks: asyncio.Queue[None] = asyncio.Queue()
        self.answers: Counter[str] = Counter()
        self.ends: dict[str, str] = {}
        self.broken: list[str] = []
        self._following: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._numbers = 0
        self._prying = asyncio.Semaphore(1)

    async def run(self) -> Verdict:
        """Set the stage, let it go wrong for so many minutes, heal, wait for quiet, and judge."""
        self.studies = await asyncio.to_thread(self._prepare)
        await self._open_desks()
        baseline = await asyncio.to_thread(self._footprint)
        nemesis = self.nemesis_type(
            self.stage,
            recorder=self.recorder,
            luck=random.Random(self.plan.seed + 1),
            pause_seconds=self.plan.fault_pause_seconds,
        )
        background = [self._watched(viewer.run()) for viewer in self.sockets]
        clicking = [self._watched(self._click_on()) for _ in range(self.plan.open_clicks)]
        breaking = self._watched(nemesis.run())
        telling = self._watched(self._tell())
        await asyncio.sleep(60 * self.plan.minutes)
        breaking.cancel()
        self._stopping.set()
        self.plan.say("healing")
        await nemesis.heal()
        await self._quiet(clicking)
        telling.cancel()
        await self._look_once_more()
        for task in (*background, *clicking, *self._following):
            task.cancel()
        await asyncio.gather(*background, *clicking, *self._following, return_exceptions=True)
        await self._close_desks()
        await asyncio.to_thread(self._measure, baseline)
        rows = await asyncio.to_thread(self.stage.rows)
        (self.stage.folder / "rows.json").write_text(json.dumps(rows, default=_plain))
        self.recorder.close()
        if self.broken or nemesis.broken:
            raise CampaignBroken([*self.broken, *nemesis.broken])
        return check(self.recorder.facts, rows)

    # ── before ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self) -> list[dict[str, Any]]:
        for number in range(self.plan.workers):
            name = f"lab-{number + 1}"
            proxy = self.stage.add_worker(name)
            proxy.set_weather(CALM)
            self.stage.launch(name)
        self.stage.add_user(STRANGER)
        self.cookie = self.stage.session_of(DOCTOR)
        self.token, self.strange_token = self.stage.token_of(DOCTOR), self.stage.token_of(STRANGER)
        headers = {"Authorization": f"Bearer {self.token}"}
        studies = []
        with httpx.Client(base_url=self.stage.front_url, headers=headers, timeout=60) as client:
            for number in range(self.plan.patients):
                files = make_patient(self.stage.folder / "patients", seed=number)
                studies.append(upload(client, files))
                self.recorder.note("uploaded", series=list(by_sequence(studies[-1]).values()))
        self.stage.wait_until_ready()
        return studies

    def _desk(self, name: str) -> Desk:
        self._numbers += 1
        return Desk(
            name=name,
            url=self.stage.browser_proxy.url,
            origin=self.stage.url,
            cookie=self.cookie,
            token=self.token,
            recorder=self.recorder,
            luck=random.Random(self.plan.seed * 1000 + self._numbers),
        )

    async def _open_desks(self) -> None:
        self.sockets = [SocketViewer(self._desk(f"socket-{number}")) for number in range(self.plan.sockets)]
        self.clicker = self._desk("clicker")
        self.client = self.clicker.client()
        self.stranger = httpx.AsyncClient(
            base_url=self.stage.browser_proxy.url, headers={"Authorization": f"Bearer {self.strange_token}"}, timeout=10
        )

    async def _close_desks(self) -> None:
        await self.client.aclose()
        await self.stranger.aclose()

    # ── while everything goes wrong ─────────────────────────────────────────────────────────────────────────────

    async def _click_on(self) -> None:
        """One job after another, each followed to its end before the next click."""
        while not self._stopping.is_set():
            job_id = await self._click()
            if job_id is None:
                await self.clicker.pause()
                continue
            watching = self.luck.sample(self.sockets, self.luck.choice([1, 1, 2]))
            await asyncio.gather(*(viewer.follow(job_id) for viewer in watching))
            if self.luck.random() < 0.15:
                self._spawn(self._cancel_later(job_id))
            if self.luck.random() < 0.1:
                self._spawn(self._pry(job_id))
            following = self._spawn(self._poll(job_id))
            if self.luck.random() < 0.3:
                self._spawn(self._read_now_and_then(job_id, following))
            await following

    def _watched(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = self._watched(work)
        self._following.add(task)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """A viewer that breaks sees nothing any more, and a campaign without viewers proves nothing."""
        self._following.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.broken.append(repr(task.exception()))

    async def _click(self) -> str | None:
        """A click, sent again under its key until it is answered; sometimes twice at once. None: it was refused."""
        self._numbers += 1
        key = f"click-{self.plan.seed}-{self._numbers}"
        series = by_sequence(self.luck.choice(self.studies))
        reference = series[self.luck.choice(["T1CE", "T1CE", "FLAIR", "T2"])]
        copies = 2 if self.luck.random() < 0.15 else 1
        self.recorder.note("requested", who=self.clicker.name, click=key)
        answers = await asyncio.gather(*(self._post(reference, series, key) for _ in range(copies)))
        return next((job_id for job_id in answers if job_id is not None), None)

    async def _post(self, reference: str, series: dict[str, str], key: str) -> str | None:
        body = {"sequence_series_ids": [series[name] for name in ("T1", "T1CE", "T2", "FLAIR")]}
        while True:
            try:
                answer = await self.client.post(
                    f"/api/mri/segmentation/series/{reference}/segment/", json=body, headers={"Idempotency-Key": key}
                )
            except httpx.HTTPError as error:
                self.answers[type(error).__name__] += 1
                await self.clicker.pause()
                continue
            self.answers[str(answer.status_code)] += 1
            if answer.status_code == 202:
                job = answer.json()
                self.recorder.note("accepted", who=self.clicker.name, job=job["id"], click=key, state=job["state"])
                return str(job["id"])
            self.recorder.note("refused", who=self.clicker.name, what="click", status=answer.status_code)
            if answer.status_code < 500 and answer.status_code != 429:
                return None
            await self.clicker.pause()

    async def _poll(self, job_id: str) -> None:
        """A page without WebSocket of its own; two that follow the same job are two viewers."""
        state = await poll(self._desk(f"poller-{self._numbers + 1}"), self.client, job_id)
        self.ends.setdefault(job_id, state)

    async def _cancel_later(self, job_id: str) -> None:
        await asyncio.sleep(self.luck.uniform(0.0, 4.0))
        while True:
            try:
                answer = await self.client.post(f"{viewers.JOBS}/{job_id}/cancel/")
            except httpx.HTTPError:
                await self.clicker.pause()
                continue
            if answer.status_code == 202:
                self.recorder.note("cancelled", who=self.clicker.name, job=job_id, state=answer.json()["state"])
                return
            self.answers[f"cancel {answer.status_code}"] += 1
            await self.clicker.pause()

    async def _read_now_and_then(self, job_id: str, following: asyncio.Task[Any]) -> None:
        desk = self._desk(f"reader-{self._numbers + 1}")
        while not following.done():
            with contextlib.suppress(Unreachable):
                await viewers.read(desk, self.client, job_id)
            await asyncio.sleep(self.luck.uniform(0.5, 2.0))

    async def _pry(self, job_id: str) -> None:
        async with self._prying:
            told = await rogue.pry(self.stranger, job_id)
        if told is not None:
            self.recorder.note("leaked", who=STRANGER, job=job_id, what=told)

    async def _tell(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(5.0)
            jobs = len({fact.job for fact in self.recorder.of("accepted")})
            faults = sum(1 for _ in self.recorder.of("fault"))
            ends = Counter(self.ends.values())
            over = " ".join(f"{name}={ends[name]}" for name in ("succeeded", "failed", "cancelled"))
            self.plan.say(f"{time.monotonic() - began:5.0f} s  jobs={jobs} faults={faults}  {over}")

    # ── afterwards ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _quiet(self, clicking: list[asyncio.Task[Any]]) -> None:
        """Wait until every job that was accepted has been seen to end; what has not is for the checker."""
        waiting = [*clicking, *self._following]
        if waiting:
            _, left = await asyncio.wait(waiting, timeout=QUIET_SECONDS)
            if left:
                self.plan.say(f"{len(left)} viewers still wait after {QUIET_SECONDS:.0f} s")

    async def _look_once_more(self) -> None:
        """Every page reconnects and catches up, and fetches a mask whose push it missed, as a real one does."""
        for viewer in self.sockets:
            await viewer.start_over()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            behind = [(viewer, job, one) for viewer in self.sockets for job, one in viewer.followed.items()]
            behind = [(viewer, job, one) for viewer, job, one in behind if not one.is_over]
            if not behind:
                return
            for viewer, job_id, one in behind:
                if one.state == "succeeded":
                    with contextlib.suppress(Unreachable):
                        answer = await viewers.get(self.client, f"{viewers.JOBS}/{job_id}/mask.nii.gz")
                        viewer.note_mask(job_id, answer.content, via="fetched")
            await asyncio.sleep(0.5)

    # ── I6 ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _footprint(self) -> dict[str, float]:
        """What the server processes and the data folder hold. RSS in MiB."""
        held: dict[str, float] = {"files": 0.0, "rss": 0.0, "threads": 0.0}
        for name in self.stage.servers:
            process = psutil.Process(self.stage.processes[name].pid)
            held["files"] += process.num_fds()
            held["rss"] += process.memory_info().rss / 2**20
            held["threads"] += process.num_threads()
        return held | {f"temporary {name}": float(n) for name, n in self.stage.temporary_files().items()}

    def _measure(self, baseline: dict[str, float]) -> None:
        self.stage.sweep()

        def is_down() -> bool:
            now = self._footprint()
            return all(now[name] <= baseline[name] + self._allowance(name) for name in baseline)

        with contextlib.suppress(Exception):  # what is over is told by the figures below
            wait_for(is_down, seconds=30, what="baseline")
        for name, value in self._footprint().items():
            allowed = baseline[name] + self._allowance(name)
            self.recorder.note("measured", what=name, value=round(value, 1), allowed=round(allowed, 1))

    def _allowance(self, name: str) -> float:
        return ALLOWED.get(name, 0.0) * len(self.stage.servers)


ALLOWED = {"files": 40.0, "rss": 256.0, "threads": 24.0}
"""Above the baseline, a server: caches warm up, threads of pools stay. Temporary files: none."""


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else value.__dict__


def report(campaign: Campaign, verdict: Verdict) -> list[str]:
    """What is said at the end; the last line is the contract's."""
    lines = [f"faults: {dict(faults_by_name(campaign.recorder.facts))}", f"answers: {dict(campaign.answers)}"]
    lines += [f"{one.invariant} {one.kind} {one.job} {one.who}: {one.detail}" for one in verdict.violations[:50]]
    lines += [f"history, rows and logs: {campaign.stage.folder}", verdict.beside(), verdict.summary()]
    return lines


def folder_for(seed: int) -> Path:
    """A fresh folder for a campaign's history and logs."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix=f"segwire-chaos-{seed}-"))
