"""Who computes what next, and why a job waits.

The order of the queue: urgent before routine before batch; within a priority the users take turns, each with their
oldest job, and whoever has had more lately comes later in the round; within a user first come, first served. Nobody
starves: what a user has had counts one less for every minute that their oldest job has waited.

Flow: 3 dispatch
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from server.core.job import Avoidance, Priority, Route, WaitingReason

PRIORITY_ORDER = (Priority.URGENT, Priority.ROUTINE, Priority.BATCH)
PATIENCE_SECONDS = 60.0
"""How long somebody waits until one job they have had lately is forgotten."""
NOTHING: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Model:
    """A model as a worker names it: name, version and the sha256 of its weights.

    `sequences` are what it needs, and all that it takes; empty: all four.
    """

    name: str
    version: str
    sha256: str
    sequences: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a job asks of a worker. `model_name` None: any; `model_version` "": any; every one of `labels` is needed.

    `sequences` are those that the study has; empty: all four. A model fits that is made for exactly these.
    """

    route: Route
    model_name: str | None = None
    model_version: str = ""
    labels: frozenset[str] = frozenset()
    sequences: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A connected worker. `free` is how many more jobs it takes, `load` 0 to 1; its first model is its default.

    `memory_mb` is what a model needs, by its sha256, where the worker knows; `vram_mb` 0 and `free_mb` None: unknown.
    `cached` are the inputs that lie there, by the first 16 hex digits of their sha256.
    """

    worker_id: str
    route: Route
    free: int
    slots: int = 1
    load: float = 0.0
    models: tuple[Model, ...] = ()
    is_draining: bool = False
    warm: Model | None = None
    labels: frozenset[str] = frozenset()
    memory_mb: Mapping[str, int] = field(default_factory=dict)
    vram_mb: int = 0
    free_mb: int | None = None
    cached: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queued job. `faltered_on`: whom it went wrong with before; `inputs`: what it reads, as in `cached`."""

    job_id: str
    demand: Demand
    priority: Priority
    created_at: datetime
    user_id: str = ""
    avoid: tuple[Avoidance, ...] = ()
    faltered_on: frozenset[str] = frozenset()
    inputs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Assignment:
    """One job for one worker."""

    job_id: str
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one user has waiting at one priority: how many jobs, and since when the oldest waits."""

    priority: Priority
    user_id: str
    waiting: int
    first_at: datetime


def in_order(queue: Iterable[Waiting], *, at: datetime, used: Mapping[str, int] = NOTHING) -> list[Waiting]:
    """The queue as it is served. `used` is how many jobs each user holds or had lately."""
    own: dict[tuple[Priority, str], list[Waiting]] = defaultdict(list)
    for job in queue:
        own[job.priority, job.user_id].append(job)
    keyed = []
    for (priority, user_id), jobs in own.items():
        jobs.sort(key=lambda job: (job.created_at, job.job_id))
        line = Line(priority=priority, user_id=user_id, waiting=len(jobs), first_at=jobs[0].created_at)
        keyed += [(_turn(line, nth, used, at), job) for nth, job in enumerate(jobs)]
    return [job for _, job in sorted(keyed, key=lambda pair: pair[0])]


def place(mine: Line, nth: int, others: Iterable[Line], *, at: datetime, used: Mapping[str, int] = NOTHING) -> int:
    """Where the `nth` job (0: the oldest) of one's own line stands in the whole queue; 1 is next.

    The same order as `in_order`, from the lengths of the lines alone.
    """
    own = _turn(mine, nth, used, at)
    ahead = nth
    for line in others:
        if line.priority is not mine.priority:
            ahead += line.waiting if _rank(line.priority) < own[0] else 0
        elif line.user_id != mine.user_id:
            first = _turn(line, 0, used, at)
            turns = own[1] - first[1] + (first[2:] < own[2:])
            ahead += min(line.waiting, max(0, turns))
    return ahead + 1


def assign(
    queue: Iterable[Waiting], workers: Sequence[Candidate], *, at: datetime, used: Mapping[str, int] = NOTHING
) -> list[Assignment]:
    """Give out as many jobs as the workers have free places for."""
    taken: Counter[str] = Counter()
    assignments: list[Assignment] = []
    places = sum(max(0, worker.free) for worker in workers)
    for job in in_order(queue, at=at, used=used):
        if len(assignments) == places:
            break
        able = [worker for worker in workers if _may_take(worker, job, taken[worker.worker_id], at)]
        if not able:
            continue
        best = min(able, key=lambda worker: _reluctance(worker, job, taken[worker.worker_id]))
        taken[best.worker_id] += 1
        assignments.append(Assignment(job_id=job.job_id, worker_id=best.worker_id))
    return assignments


def waiting_reason(demand: Demand, workers: Collection[Candidate]) -> WaitingReason:
    """Why a job waits that nobody has taken. A worker that can never hold the model does not have it."""
    present = [worker for worker in workers if _is_meant(worker, demand)]
    if not present:
        return WaitingReason.NO_WORKER
    is_possible = any(can_serve(worker, demand) for worker in present)
    return WaitingReason.ALL_BUSY if is_possible else WaitingReason.MODEL_MISSING


def can_serve(worker: Candidate, demand: Demand) -> bool:
    """Whether the worker could take such a job if it were free."""
    model = model_for(demand, worker.models)
    return _is_meant(worker, demand) and model is not None and not 0 < worker.vram_mb < _need(worker, model)


def model_for(demand: Demand, models: Iterable[Model]) -> Model | None:
    """The first of `models` that is made for these sequences, and is the one named if one is."""
    fits = (
        model
        for model in models
        if demand.model_name in {None, model.name}
        and demand.model_version in {"", model.version}
        and demand.sequences == model.sequences
    )
    return next(fits, None)


def _rank(priority: Priority) -> int:
    return PRIORITY_ORDER.index(priority)


def _turn(line: Line, nth: int, used: Mapping[str, int], at: datetime) -> tuple[int, int, datetime, str, int]:
    forgotten = int((at - line.first_at).total_seconds() / PATIENCE_SECONDS)
    had = max(0, used.get(line.user_id, 0) - max(0, forgotten))
    return _rank(line.priority), had + nth, line.first_at, line.user_id, nth


def _need(worker: Candidate, model: Model) -> int:
    return worker.memory_mb.get(model.sha256, 0)


def _is_meant(worker: Candidate, demand: Demand) -> bool:
    return worker.route is demand.route and not worker.is_draining and demand.labels <= worker.labels


def _may_take(worker: Candidate, job: Waiting, taken: int, at: datetime) -> bool:
    if worker.free <= taken or not can_serve(worker, job.demand):
        return False
    if any(one.worker_id == worker.worker_id and one.until > at for one in job.avoid):
        return False
    # An idle worker can make room by dropping the model it keeps warm, and declines when it cannot.
    is_idle = worker.free >= worker.slots and not taken
    return is_idle or _has_memory(worker, job.demand)


def _has_memory(worker: Candidate, demand: Demand) -> bool:
    model = model_for(demand, worker.models)
    if model is None or worker.free_mb is None or worker.warm == model:
        return model is not None
    return worker.free_mb >= _need(worker, model)


def _reluctance(worker: Candidate, job: Waiting, taken: int) -> tuple[bool, bool, bool, int, float, int, str]:
    """Rather one that has not failed it, with memory, the model warm, the inputs there, little load and much room."""
    wanted = model_for(job.demand, worker.models)
    return (
        worker.worker_id in job.faltered_on,
        not _has_memory(worker, job.demand),
        worker.warm != wanted,
        -len(job.inputs & worker.cached),
        round(worker.load, 1),
        taken - worker.free,
        worker.worker_id,
    )
