"""Faults, chosen at random by a seed: cheap ones often, dear ones seldom. Each heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from tests.system.faults import rogue
from tests.system.faults.history import Recorder
from tests.system.faults.proxy import CAPTIVE_PORTAL, Proxy, Weather
from tests.system.faults.stage import Stage

Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. `weight`: how often beside the others."""

    name: str
    weight: float
    act: Act


class Nemesis:
    """Makes faults on a stage until it is told to stop; several may overlap, but not two on one process."""

    def __init__(self, stage: Stage, *, recorder: Recorder, luck: random.Random, pause_seconds: float) -> None:
        self.stage = stage
        self.recorder = recorder
        self.luck = luck
        self.pause_seconds = pause_seconds
        self.calm: dict[str, Weather] = {}
        self._busy: set[str] = set()
        self.broken: list[str] = []
        self._running: set[asyncio.Task[None]] = set()
        self._faults = [*self._on_lines(), *self._on_processes(), *self.more()]

    def more(self) -> list[Fault]:
        """Faults of this kind of stage alone."""
        return [Fault("database locked", 2.0, self._lock_database)]

    async def run(self) -> None:
        """One fault after another, until cancelled."""
        weights = [fault.weight for fault in self._faults]
        while True:
            await asyncio.sleep(self.luck.uniform(0.3, 1.7) * self.pause_seconds)
            fault = self.luck.choices(self._faults, weights)[0]
            task = asyncio.create_task(self._make(fault))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.broken.append(repr(task.exception()))

    async def heal(self) -> None:
        """Let the faults that are under way end, and make everything whole."""
        if self._running:
            await asyncio.wait(self._running, timeout=60)
        await asyncio.to_thread(self._make_whole)
        self.recorder.note("healed")

    def _make_whole(self) -> None:
        self.stage.thaw_all()
        for proxy in self.stage.proxies:
            proxy.forget_cuts()
            proxy.set_weather(Weather())
            proxy.cut_all()
        for name in (*self.stage.servers, *self.stage.homes):
            self.stage.empty_disk(name)
            if not self.stage.is_running(name):
                self.stage.launch(name)

    async def _make(self, fault: Fault) -> None:
        with contextlib.suppress(_Busy):
            await fault.act()

    def _note(self, what: str, target: str = "") -> None:
        self.recorder.note("fault", what=what, target=target)

    # ── on the lines ────────────────────────────────────────────────────────────────────────────────────────────

    def _on_lines(self) -> list[Fault]:
        return [
            Fault("cut a worker's line", 12, lambda: self._cut(self._a_worker())),
            Fault("cut the browsers' line", 6, lambda: self._cut("browsers")),
            Fault("cut a worker's line at a message", 14, self._cut_at_message),
            Fault("hold one direction", 5, self._hold),
            Fault("lose one direction", 2, self._lose),
            Fault("delay", 4, lambda: self._weather("delay", delay_seconds=1.0, jitter_seconds=1.0)),
            Fault("narrow", 4, lambda: self._weather("narrow", bytes_per_second=20_000.0)),
            Fault("duplicate frames", 5, self._duplicate),
            Fault("refuse", 3, lambda: self._weather("refuse", refuses=True, cuts=True)),
            Fault("captive portal", 2, lambda: self._weather("captive portal", answers=CAPTIVE_PORTAL, cuts=True)),
            Fault("garbage", 4, self._speak_garbage),
            Fault("copied key", 3, self._copy),
        ]

    def _a_worker(self) -> str:
        return self.luck.choice(sorted(self.stage.homes))

    def _a_line(self) -> str:
        return self.luck.choice([*sorted(self.stage.homes), *sorted(self.stage.homes), "browsers"])

    def _proxy(self, line: str) -> Proxy:
        return self.stage.browser_proxy if line == "browsers" else self.stage.worker_proxies[line]

    async def _cut(self, line: str) -> None:
        self._note("cut", line)
        await asyncio.to_thread(self._proxy(line).cut_all, by_reset=self.luck.random() < 0.5)

    async def _cut_at_message(self) -> None:
        line, direction = self._a_worker(), self.luck.choice(["up", "down"])
        messages = self.luck.randint(1, 8)
        self._note("cut at message", f"{line} {direction} {messages}")
        by_reset = self.luck.random() < 0.5
        await asyncio.to_thread(self._proxy(line).cut_after, messages, direction, by_reset=by_reset)

    async def _hold(self) -> None:
        direction = self.luck.choice(["up", "down"])
        await self._weather("hold", holds=frozenset({direction}), seconds=self.luck.choice([2, 4, 6, 6, 18]))

    async def _lose(self) -> None:
        direction = self.luck.choice(["up", "down"])
        await self._weather("lose", loses=frozenset({direction}), seconds=1.0)

    async def _duplicate(self) -> None:
        # Browsers pass over what they have seen; the viewers here do not, and would be taken for having seen it twice.
        await self._weather("duplicate", line=self._a_worker(), duplicates=0.4, seconds=8.0)

    async def _weather(
        self, what: str, *, line: str = "", seconds: float = 4.0, cuts: bool = False, **weather: object
    ) -> None:
        line = line or self._a_line()
        proxy = self._proxy(line)
        async with self._alone(f"line {line}"):
            self._note(what, line)
            before = proxy.weather
            await asyncio.to_thread(proxy.set_weather, Weather(**weather))  # type: ignore[arg-type]
            if cuts:
                await asyncio.to_thread(proxy.cut_all)
            await asyncio.sleep(seconds * self.luck.uniform(0.5, 1.5))
            await asyncio.to_thread(proxy.set_weather, before)

    async def _speak_garbage(self) -> None:
        self._note("garbage")
        await rogue.speak_garbage(self.stage.front_url, frame=self.luck.choice(rogue.GARBAGE))

    async def _copy(self) -> None:
        worker = self._a_worker()
        self._note("copied key", worker)
        await rogue.come_as_copy(self.stage.worker_proxies[worker].url, self.stage.homes[worker])

    # ── on the processes ────────────────────────────────────────────────────────────────────────────────────────

    def _on_processes(self) -> list[Fault]:
        return [
            Fault("kill a worker", 1.2, lambda: self._end_worker(signal.SIGKILL)),
            Fault("drain a worker", 0.6, lambda: self._end_worker(signal.SIGTERM)),
            Fault("kill a child", 1.2, self._kill_child),
            Fault("freeze a worker", 4, lambda: self._freeze(self._a_worker(), seconds=self.luck.uniform(1, 7))),
            Fault("freeze a worker for long", 0.8, lambda: self._freeze(self._a_worker(), seconds=25.0)),
            Fault("freeze a server", 3, lambda: self._freeze(self._a_server(), seconds=self.luck.uniform(0.5, 4))),
            Fault("kill a server", 2.5, lambda: self._end_server(signal.SIGKILL)),
            Fault("stop a server", 1.5, lambda: self._end_server(signal.SIGTERM)),
            Fault("full disk at a worker", 2, lambda: self._fill_disk(self._a_worker())),
            Fault("full disk at a server", 2, lambda: self._fill_disk(self._a_server())),
            Fault("revoke and enrol anew", 0.5, self._revoke),
        ]

    def _a_server(self) -> str:
        return self.luck.choice(self.stage.servers)

    @contextlib.asynccontextmanager
    async def _alone(self, target: str) -> AsyncIterator[None]:
        """Nobody else does anything to the target meanwhile. Raises _Busy when somebody does."""
        if target in self._busy:
            raise _Busy
        self._busy.add(target)
        try:
            yield
        finally:
            self._busy.discard(target)

    async def _end_worker(self, number: int) -> None:
        worker = self._a_worker()
        async with self._alone(worker):
            self._note("kill worker" if number == signal.SIGKILL else "drain worker", worker)
            await asyncio.to_thread(self.stage.kill, worker, number)
            await asyncio.sleep(self.luck.uniform(0.0, 3.0))
            self.stage.launch(worker)

    async def _kill_child(self) -> None:
        worker = self._a_worker()
        if await asyncio.to_thread(self.stage.kill_child, worker):
            self._note("kill child", worker)

    async def _freeze(self, name: str, *, seconds: float) -> None:
        async with self._alone(name):
            self._note("freeze", f"{name} {seconds:.1f} s")
            self.stage.freeze(name)
            await asyncio.sleep(seconds)
            self.stage.thaw(name)

    async def _end_server(self, number: int) -> None:
        server = self._a_server()
        async with self._alone(server):
            self._note("kill server" if number == signal.SIGKILL else "stop server", server)
            await asyncio.to_thread(self.stage.kill, server, number)
            await asyncio.sleep(self.luck.uniform(0.0, 2.0))
            self.stage.launch(server)
            await asyncio.to_thread(self.stage.wait_until_up, server)

    async def _fill_disk(self, name: str) -> None:
        async with self._alone(name):
            self._note("full disk", name)
            self.stage.fill_disk(name, most_bytes=self.luck.choice([0, 512, 4096, 65536]))
            await asyncio.sleep(self.luck.uniform(1.0, 4.0))
            self.stage.empty_disk(name)

    async def _revoke(self) -> None:
        worker = self._a_worker()
        async with self._alone(worker), self._alone(f"line {worker}"):
            self._note("revoke", worker)
            await asyncio.to_thread(self.stage.revoke, worker)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(self.stage.kill, worker, signal.SIGKILL)
            await asyncio.to_thread(self._enrol_patiently, worker)
            self.stage.launch(worker)

    def _enrol_patiently(self, worker: str) -> None:
        for _ in range(20):
            with contextlib.suppress(Exception):  # the server may be away; the same is tried again
                self.stage.enrol_anew(worker)
                return

    async def _lock_database(self) -> None:
        async with self._alone("database"):
            seconds = self.luck.choice([1.0, 3.0, 5.0, 8.0])
            self._note("database locked", f"{seconds:.0f} s")
            holding = self.stage.locked_database(seconds)
            await asyncio.to_thread(holding.join)


class _Busy(Exception):
    """Another fault is at work there."""
