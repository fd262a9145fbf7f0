"""Every interleaving of the real rules with two workers, drops, crashes and expiry, explored to the end.

A port of the design's model check: the same worker, network and faults, but the server's part is `advance` and
`reconcile`. Safety is looked at in every state; liveness means that from every state the job can still succeed
without a further fault. The last test takes rules away, to show that the check would notice.
"""

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial

import pytest

from server.core.events import Finished, Leased, LeaseExpired, Resumed, Started
from server.core.job import HELD_STATES, Job, State
from server.core.machine import Refused, advance
from server.core.policy import Policy
from server.core.reconcile import Hold, Ruling, reconcile
from tests.core.lives import LATE

MANY_TRIES = Policy(max_attempts=99)
MOST_FENCES = 3


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker and its connection: frames in flight in both directions are lost when it drops."""

    is_connected: bool = False
    is_welcome: bool = False
    running: int = 0
    outbox: frozenset[int] = frozenset()
    to_worker: tuple[tuple, ...] = ()
    to_server: tuple[tuple, ...] = ()

    def cut(self) -> "Worker":
        return replace(self, is_connected=False, is_welcome=False, to_worker=(), to_server=())


@dataclass(frozen=True, slots=True)
class World:
    """The server's row, both workers, and how many faults are still to come."""

    job: Job
    workers: tuple[Worker, ...] = (Worker(), Worker())
    published: tuple[int, ...] = ()
    acknowledged: frozenset[int] = frozenset()
    finished: frozenset[tuple[int, int]] = frozenset()
    drops: int = 1
    worker_crashes: int = 1
    server_crashes: int = 1
    silent_deaths: int = 1

    def with_worker(self, index: int, worker: Worker) -> "World":
        workers = list(self.workers)
        workers[index] = worker
        return replace(self, workers=tuple(workers))


class Lease(StrEnum):
    """What keeps a lease alive."""

    JOB = "a heartbeat that lists the job"
    CONNECTION = "any word of its worker"
    LUCK = "nothing: it may run out at any moment"
    FOREVER = "it never runs out"


@dataclass(frozen=True, slots=True)
class Rules:
    """Which of the protocol's rules are in force."""

    has_fence: bool = True
    has_outbox: bool = True
    has_reconcile: bool = True
    has_dedupe: bool = True
    lease: Lease = Lease.JOB
    acks_before_commit: bool = False
    tolerates_stale: bool = False


def worker_id(index: int) -> str:
    return f"w{index}"


@cache
def applied(job: Job, event, rules: Rules = Rules()) -> Job | None:
    """The job after the event, without what only a person reads; None when it is refused."""
    if not rules.has_fence and isinstance(event, Finished):
        event = replace(event, fence=job.fence, worker_id=job.worker_id)
    try:
        changed, _ = advance(job, event, MANY_TRIES)
    except Refused:
        return None
    return replace(changed, causes=(), avoid=(), attempt=0, started_fence=0, lease_until=None, started_at=None)


def steps(world: World, rules: Rules):
    """Everything that can happen next: (is it a fault, the world after it)."""
    for index, worker in enumerate(world.workers):
        put = partial(world.with_worker, index)
        if worker.is_connected:
            yield from _connected(world, index, rules)
        else:
            hello = ("hello", worker.running, worker.outbox)
            results = tuple(("result", fence) for fence in sorted(worker.outbox))
            yield False, put(replace(worker, is_connected=True, to_server=(hello, *results)))
        if worker.running:
            yield from _computing(world, index, rules)
        if world.worker_crashes:
            crashed = put(replace(worker.cut(), running=0))
            yield True, replace(crashed, worker_crashes=world.worker_crashes - 1)
    yield from _clock(world, rules)
    if world.server_crashes:
        workers = tuple(worker.cut() for worker in world.workers)
        yield True, replace(world, workers=workers, server_crashes=world.server_crashes - 1)


def _connected(world: World, index: int, rules: Rules):
    worker = world.workers[index]
    if world.drops:
        yield True, replace(world.with_worker(index, worker.cut()), drops=world.drops - 1)
    if world.job.state is State.QUEUED and worker.is_welcome and world.job.fence < MOST_FENCES:
        leased = applied(world.job, Leased(at=LATE, worker_id=worker_id(index)))
        offered = replace(worker, to_worker=(*worker.to_worker, ("offer", leased.fence)))
        yield False, replace(world.with_worker(index, offered), job=leased)
    if worker.to_server:
        frame, rest = worker.to_server[0], worker.to_server[1:]
        heard = world.with_worker(index, replace(worker, to_server=rest))
        serve = {"hello": _hello, "result": _result, "accept": _accept}[frame[0]]
        yield False, serve(heard, index, frame, rules)
        if frame[0] == "result" and rules.acks_before_commit and world.server_crashes:
            yield True, _crash_between(heard, index, frame[1])
    if worker.to_worker:
        yield False, world.with_worker(index, _told(worker))
    if worker.is_welcome and rules.has_reconcile and rules.lease is not Lease.FOREVER and worker.running:
        taken_back = _taken_back(world.job, index, worker.running)
        if taken_back is not None:
            yield False, replace(world, job=taken_back)


def _taken_back(job: Job, index: int, fence: int) -> Job | None:
    """A heartbeat or an acceptance that came late: the lease is the worker's again, if nobody else had one since."""
    said = {"at": LATE, "fence": fence, "worker_id": worker_id(index)}
    resumed = applied(job, Resumed(**said)) if job.state is State.QUEUED else None
    return None if resumed is None else applied(resumed, Started(**said))


def _crash_between(world: World, index: int, fence: int) -> World:
    """The acknowledgement went out, and the server died before it committed."""
    workers = [worker.cut() for worker in world.workers]
    workers[index] = replace(workers[index], outbox=workers[index].outbox - {fence})
    crashes = world.server_crashes - 1
    acknowledged = world.acknowledged | {fence}
    return replace(world, workers=tuple(workers), acknowledged=acknowledged, server_crashes=crashes)


def _computing(world: World, index: int, rules: Rules):
    worker = world.workers[index]
    outbox = worker.outbox | {worker.running} if rules.has_outbox else worker.outbox
    sent = (*worker.to_server, ("result", worker.running)) if worker.is_connected else worker.to_server
    done = world.with_worker(index, replace(worker, running=0, outbox=outbox, to_server=sent))
    yield False, replace(done, finished=world.finished | {(index, worker.running)})
    if world.silent_deaths:
        dead = world.with_worker(index, replace(worker, running=0))
        yield True, replace(dead, silent_deaths=world.silent_deaths - 1)


def _clock(world: World, rules: Rules):
    if world.job.state not in HELD_STATES or rules.lease is Lease.FOREVER:
        return
    holder = world.workers[int(world.job.worker_id[1:])]
    is_renewed = {
        Lease.JOB: holder.is_connected and holder.running == world.job.fence,
        Lease.CONNECTION: holder.is_connected,
        Lease.LUCK: False,
    }[rules.lease]
    if not is_renewed:
        yield False, replace(world, job=applied(world.job, LeaseExpired(at=LATE, fence=world.job.fence)))


def _hello(world: World, index: int, frame: tuple, rules: Rules) -> World:
    _, running, outbox = frame
    worker = replace(world.workers[index], is_welcome=True)
    if not rules.has_reconcile:
        return world.with_worker(index, worker)
    job = world.job
    settled = reconcile(
        {job.id: job},
        worker_id=worker_id(index),
        running=[Hold(job.id, running)] if running else [],
        outbox=[Hold(job.id, fence) for fence in sorted(outbox)],
        at=LATE,
    )
    for _, event in settled.events:
        job = applied(job, event)
    dropped = {hold.fence for hold, ruling in settled.verdicts if ruling is Ruling.REVOKE and hold.fence == running}
    told = tuple(("revoke", fence) for fence in dropped)
    return replace(world.with_worker(index, replace(worker, to_worker=worker.to_worker + told)), job=job)


def _accept(world: World, index: int, frame: tuple, rules: Rules) -> World:
    job = applied(world.job, Started(at=LATE, fence=frame[1], worker_id=worker_id(index)))
    if job is None:
        job = _taken_back(world.job, index, frame[1])
    return world if job is None else replace(world, job=job)


def _result(world: World, index: int, frame: tuple, rules: Rules) -> World:
    fence = frame[1]
    finished = Finished(at=LATE, fence=fence, worker_id=worker_id(index), result_id=f"r{fence}")
    job = applied(world.job, finished, rules)
    is_new = job is not None and (job != world.job or not rules.has_dedupe)
    worker = world.workers[index]
    acked = world.with_worker(index, replace(worker, to_worker=(*worker.to_worker, ("ack", fence))))
    if job is None:
        return acked
    published = (*world.published, fence) if is_new else world.published
    return replace(acked, job=job, published=published, acknowledged=world.acknowledged | {fence})


def _told(worker: Worker) -> Worker:
    (kind, fence), rest = worker.to_worker[0], worker.to_worker[1:]
    worker = replace(worker, to_worker=rest)
    if kind == "offer" and fence > max(worker.running, *worker.outbox, 0):
        return replace(worker, running=fence, to_server=(*worker.to_server, ("accept", fence)))
    if kind == "revoke" and worker.running == fence:
        return replace(worker, running=0)
    if kind == "ack":
        return replace(worker, outbox=worker.outbox - {fence})
    return worker


def wrong(world: World, rules: Rules) -> str | None:
    """What must never be, if it is."""
    newest = world.job.fence
    if len(world.published) > 1:
        return "made visible twice"
    if world.published and world.published[0] != newest and not rules.tolerates_stale:
        return "a stale result is visible"
    if world.acknowledged and world.job.state is not State.SUCCEEDED:
        return "acknowledged but not stored"
    for index, fence in world.finished if world.job.state is not State.SUCCEEDED else ():
        worker = world.workers[index]
        if fence == newest and fence not in worker.outbox and ("result", fence) not in worker.to_server:
            return "a finished, current result was thrown away"
    return None


def explore(start: World, rules: Rules) -> tuple[int, str | None]:
    """How many states there are, and the first thing that is wrong with any of them."""
    reached, todo = {start}, deque([start])
    came_from: dict[World, list[World]] = {}
    while todo:
        world = todo.popleft()
        problem = wrong(world, rules)
        if problem:
            return len(reached), problem
        for is_fault, following in steps(world, rules):
            if not is_fault:
                came_from.setdefault(following, []).append(world)
            if following not in reached:
                reached.add(following)
                todo.append(following)
    lost = [world for world in reached - _hopeful(reached, came_from) if world.job.fence < MOST_FENCES]
    return len(reached), "the job is lost" if lost else None


def _hopeful(reached: set[World], came_from: dict[World, list[World]]) -> set[World]:
    """The states from which success can still be reached without a fault."""
    hopeful = {world for world in reached if world.job.state is State.SUCCEEDED}
    todo = deque(hopeful)
    while todo:
        for world in came_from.get(todo.popleft(), ()):
            if world not in hopeful:
                hopeful.add(world)
                todo.append(world)
    return hopeful


START = World(job=Job(id="job"), drops=0, worker_crashes=0, server_crashes=0, silent_deaths=0)
FAULTS = [
    {"drops": 1, "worker_crashes": 1},
    {"drops": 1, "silent_deaths": 1},
    {"server_crashes": 1},
]


@pytest.mark.parametrize("faults", FAULTS, ids="+".join)
def test_nothing_is_lost_doubled_or_stale(faults):
    states, problem = explore(replace(START, **faults), Rules())

    assert problem is None
    assert states > 500


def test_nothing_is_lost_doubled_or_stale_when_a_lease_may_run_out_at_any_moment():
    _, problem = explore(replace(START, drops=1), Rules(lease=Lease.LUCK))

    assert problem is None


@pytest.mark.parametrize(
    ("rules", "faults", "problem"),
    [
        (Rules(has_fence=False), {"drops": 2}, "a stale result is visible"),
        (
            Rules(has_fence=False, has_dedupe=False, lease=Lease.LUCK, tolerates_stale=True),
            {"drops": 2},
            "made visible twice",
        ),
        (Rules(has_outbox=False), {"drops": 2}, "a finished, current result was thrown away"),
        (Rules(lease=Lease.FOREVER, has_reconcile=False), {"drops": 1}, "the job is lost"),
        (Rules(lease=Lease.CONNECTION, has_reconcile=False), {"drops": 1}, "the job is lost"),
        (Rules(lease=Lease.CONNECTION), {"silent_deaths": 1}, "the job is lost"),
        (Rules(acks_before_commit=True), {"server_crashes": 1}, "acknowledged but not stored"),
    ],
    ids=[
        "no fence",
        "no fence, no duplicate suppression",
        "no durable outbox",
        "no expiry, no reconcile",
        "leases by connection, no reconcile",
        "leases by connection",
        "acknowledged before the commit",
    ],
)
def test_each_rule_is_needed(rules, faults, problem):
    """The variants that the design's model check loses, each with its own counter-example."""
    _, found = explore(replace(START, **faults), rules)

    assert found == problem
