"""What befalls real processes and their connections, one fault at a time: `make faults`.

The limits on time are those of the design, on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from tests.system.faults import rogue
from tests.system.faults.episode import Act, Episode, People
from tests.system.faults.proxy import Cut, Weather
from tests.system.faults.recovery import measure
from tests.system.faults.stage import Stage

pytestmark = [pytest.mark.system, pytest.mark.faults]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A server with two workers, each behind a proxy of its own."""
    with Stage(tmp_path_factory.mktemp("faults")) as running:
        for name in ("lab-1", "lab-2"):
            running.add_worker(name)
            running.launch(name)
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def people(stage: Stage) -> People:
    return People(stage)


async def _kill_worker(episode: Episode, job: str, worker: str) -> None:
    await episode.blocking(episode.stage.kill, worker)
    others = {"lab-1", "lab-2"} - {worker}
    seconds = await episode.until(job, lambda now: now["worker"] in others and now["state"] != "queued")
    episode.took("a dead worker's job on another", seconds, allowed=15.0)
    episode.stage.launch(worker)


async def _kill_child(episode: Episode, job: str, worker: str) -> None:
    await episode.blocking(episode.stage.kill_child, worker)
    seconds = await episode.until(job, lambda now: now["attempt"] == 2 or now["state"] == "succeeded")
    episode.took("a job whose process died begun anew", seconds, allowed=15.0)


async def _freeze_worker(episode: Episode, job: str, worker: str) -> None:
    episode.stage.freeze(worker)
    await episode.until(job, lambda now: now["attempt"] == 2 or now["state"] == "succeeded")
    await asyncio.sleep(10.0)
    episode.stage.thaw(worker)


async def _half_open(episode: Episode, job: str, worker: str) -> None:
    proxy = episode.stage.worker_proxies[worker]
    await episode.blocking(proxy.set_weather, Weather(holds=frozenset({"up", "down"})))
    seconds = await episode.until(job, lambda now: now["worker"] != worker or now["state"] == "succeeded")
    episode.took("a job of a half-open line elsewhere", seconds, allowed=25.0)
    await episode.blocking(proxy.set_weather, Weather())


async def _cut_worker(episode: Episode, job: str, worker: str) -> None:
    await episode.blocking(episode.stage.worker_proxies[worker].cut_all)


async def _kill_server(episode: Episode, job: str, worker: str) -> None:
    await episode.blocking(episode.stage.kill, "server", signal.SIGKILL)
    episode.stage.launch("server")
    await episode.blocking(episode.stage.wait_until_up)


async def _stop_server(episode: Episode, job: str, worker: str) -> None:
    await episode.blocking(episode.stage.kill, "server", signal.SIGTERM)
    episode.stage.launch("server")
    await episode.blocking(episode.stage.wait_until_up)


async def _freeze_server(episode: Episode, job: str, worker: str) -> None:
    episode.stage.freeze("server")
    await asyncio.sleep(5.0)
    episode.stage.thaw("server")


async def _lock_database(episode: Episode, job: str, worker: str) -> None:
    holding = episode.stage.locked_database(8.0)
    await episode.blocking(holding.join)


async def _fill_worker(episode: Episode, job: str, worker: str) -> None:
    episode.stage.fill_disk(worker, most_bytes=0)
    await episode.until(job, lambda now: now["attempt"] == 2 or now["state"] in {"succeeded", "failed"})
    episode.stage.empty_disk(worker)


async def _fill_server(episode: Episode, job: str, worker: str) -> None:
    episode.stage.fill_disk("server", most_bytes=0)
    await asyncio.sleep(4.0)
    episode.stage.empty_disk("server")


async def _copy_key(episode: Episode, job: str, worker: str) -> None:
    answer = await rogue.come_as_copy(episode.stage.worker_proxies[worker].url, episode.stage.homes[worker])
    if answer != "4511":
        episode.recorder.note("leaked", job=job, what=f"a copied key was answered {answer}")


async def _slow_line(episode: Episode, job: str, worker: str) -> None:
    weather = Weather(delay_seconds=2.0, jitter_seconds=1.0)
    await episode.blocking(episode.stage.worker_proxies[worker].set_weather, weather)


async def _narrow_line(episode: Episode, job: str, worker: str) -> None:
    await episode.blocking(episode.stage.worker_proxies[worker].set_weather, Weather(bytes_per_second=125_000.0))


SAME_ATTEMPT = {
    "cut line": _cut_worker,
    "kill -9 server": _kill_server,
    "SIGTERM server": _stop_server,
    "frozen server": _freeze_server,
    "SQLite locked": _lock_database,
    "full disk at the server": _fill_server,
    "copied key": _copy_key,
    "2 s of delay": _slow_line,
    "1 Mbit/s": _narrow_line,
}
ANOTHER_ATTEMPT = {
    "kill -9 worker": _kill_worker,
    "killed child": _kill_child,
    "SIGSTOP worker": _freeze_worker,
    "half-open line": _half_open,
    "full disk at the worker": _fill_worker,
}


@pytest.mark.parametrize("act", SAME_ATTEMPT.values(), ids=SAME_ATTEMPT)
async def test_a_passing_fault_costs_no_attempt(stage: Stage, people: People, act: Act) -> None:
    """The same worker keeps the job, and it is delivered once."""
    async with Episode(stage, people) as episode:
        job = await episode.click(people.long[0])
        await act(episode, job, await episode.computing(job))
        after = (await episode.ended())[job]

        verdict = await episode.verdict()

    assert verdict.violations == ()
    assert (after["state"], after["attempt"]) == ("succeeded", 1)


@pytest.mark.parametrize("act", ANOTHER_ATTEMPT.values(), ids=ANOTHER_ATTEMPT)
async def test_a_fault_that_ends_an_attempt_costs_no_job(stage: Stage, people: People, act: Act) -> None:
    async with Episode(stage, people) as episode:
        job = await episode.click(people.long[1])
        await act(episode, job, await episode.computing(job))
        after = (await episode.ended())[job]

        verdict = await episode.verdict()

    assert verdict.violations == ()
    assert after["state"] == "succeeded"


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 6, 8, 10, 12])
async def test_a_cut_after_any_message_loses_nothing(stage: Stage, people: People, direction: str, after: int) -> None:
    """Every connection of both workers, their transfers among them, is cut after so many messages; then no more."""
    async with Episode(stage, people) as episode:
        for proxy in stage.worker_proxies.values():
            await episode.blocking(proxy.cut_after, after, direction)
            budget = iter([Cut(after, direction)] * 3)
            proxy.plan_cuts(lambda number, budget=budget: next(budget, None))
        for study in people.short[:2]:
            await episode.click(study)
        ends = {one["state"] for one in (await episode.ended()).values()}

        verdict = await episode.verdict()

    assert verdict.violations == ()
    assert ends == {"succeeded"}


async def test_both_promises_of_recovery_hold(stage: Stage) -> None:
    recovery = await measure(stage)

    assert recovery.is_as_promised, recovery.line()


async def test_a_revoked_worker_loses_its_job_and_its_socket_at_once(stage: Stage, people: People) -> None:
    async with Episode(stage, people) as episode:
        job = await episode.click(people.long[0])
        worker = await episode.computing(job)
        await episode.blocking(stage.revoke, worker)
        seconds = await episode.until(job, lambda now: now["worker"] != worker or now["state"] == "queued")
        episode.took("the job of a revoked worker taken away", seconds, allowed=5.0)
        await episode.blocking(stage.kill, worker)
        await episode.blocking(stage.enrol_anew, worker)
        stage.launch(worker)
        after = (await episode.ended())[job]

        verdict = await episode.verdict()

    assert verdict.violations == ()
    assert after["state"] == "succeeded"
