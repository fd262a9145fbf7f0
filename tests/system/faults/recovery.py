"""How long it takes until a job is in good hands again: the two figures that are promised."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from tests.system.faults.episode import Episode, People
from tests.system.faults.stage import Stage

ELSEWHERE_SECONDS = 15.0


@dataclass(frozen=True)
class Recovery:
    """Seconds until a dead worker's job was on another; and what a restart of the server did to a running job."""

    elsewhere_seconds: float
    kept_by_same_worker: bool
    attempt: int
    delivered: int

    @property
    def is_as_promised(self) -> bool:
        """Whether both promises hold."""
        is_kept = self.kept_by_same_worker and (self.attempt, self.delivered) == (1, 1)
        return is_kept and self.elsewhere_seconds < ELSEWHERE_SECONDS

    def line(self) -> str:
        """Both figures."""
        kept = "kept by the same worker" if self.kept_by_same_worker else "taken from its worker"
        return (
            f"dead worker: its job on another after {self.elsewhere_seconds:.1f} s (allowed {ELSEWHERE_SECONDS:.0f}); "
            f"restarted server: {kept}, attempt={self.attempt} delivered={self.delivered}"
        )


async def measure(stage: Stage) -> Recovery:
    """Kill a worker and a server, each in the middle of a job. The stage is whole before and after."""
    people = await asyncio.to_thread(People, stage)
    async with Episode(stage, people) as episode:
        job = await episode.click(people.long[0])
        worker = await episode.computing(job)
        await episode.blocking(stage.kill, worker)
        seconds = await episode.until(job, lambda now: now["worker"] not in {worker, None} and now["state"] != "queued")
        stage.launch(worker)
        await episode.ended()
    async with Episode(stage, people) as episode:
        job = await episode.click(people.long[1])
        worker = await episode.computing(job)
        for server in stage.servers:
            await episode.blocking(stage.kill, server, signal.SIGKILL)
        for server in stage.servers:
            stage.launch(server)
        for server in stage.servers:
            await episode.blocking(stage.wait_until_up, server)
        after = (await episode.ended())[job]
        ends = {fact["seq"] for fact in episode.recorder.of("event") if fact["state"] == "succeeded"}
    return Recovery(seconds, after["worker"] == worker, after["attempt"], len(ends))
