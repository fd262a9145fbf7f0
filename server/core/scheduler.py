"""Who computes what next, and why a job waits.

Flow: 3 dispatch
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from server.core.job import Avoidance, Priority, Route, WaitingReason

PRIORITY_ORDER = (Priority.URGENT, Priority.ROUTINE, Priority.BATCH)


@dataclass(frozen=True, slots=True)
class Model:
    """A model as a worker names it: name, version and the sha256 of its weights."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A connected worker. `free` is how many more jobs it takes, `load` 0 to 1; its first model is its default."""

    worker_id: str
    route: Route
    free: int
    load: float = 0.0
    models: tuple[Model, ...] = ()
    is_draining: bool = False
    warm: Model | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queued job. `model_name` None: any; `model_version` "": any. `faltered_on`: whom it went wrong with before."""

    job_id: str
    route: Route
    priority: Priority
    created_at: datetime
    model_name: str | None = None
    model_version: str = ""
    avoid: tuple[Avoidance, ...] = ()
    faltered_on: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One job for one worker."""

    job_id: str
    worker_id: str


def in_order(queue: Iterable[Waiting]) -> list[Waiting]:
    """The queue as it is served: by priority, then first come, first served."""
    return sorted(queue, key=lambda job: (PRIORITY_ORDER.index(job.priority), job.created_at, job.job_id))


def assign(queue: Iterable[Waiting], workers: Sequence[Candidate], *, at: datetime) -> list[Assignment]:
    """Give out as many jobs as the workers have free places for."""
    taken: Counter[str] = Counter()
    assignments: list[Assignment] = []
    for job in in_order(queue):
        able = [worker for worker in workers if _may_take(worker, job, at) and worker.free > taken[worker.worker_id]]
        if not able:
            continue
        best = min(able, key=lambda worker: _reluctance(worker, job, taken[worker.worker_id]))
        taken[best.worker_id] += 1
        assignments.append(Assignment(job_id=job.job_id, worker_id=best.worker_id))
    return assignments


def waiting_reason(job: Waiting, workers: Collection[Candidate], *, at: datetime) -> WaitingReason | None:
    """Why nobody takes the job now; None when somebody could."""
    present = [worker for worker in workers if worker.route is job.route and not worker.is_draining]
    if not present:
        return WaitingReason.NO_WORKER
    able = [worker for worker in present if model_for(job.model_name, job.model_version, worker.models)]
    if not able:
        return WaitingReason.MODEL_MISSING
    is_free = any(worker.free > 0 and _may_take(worker, job, at) for worker in able)
    return None if is_free else WaitingReason.ALL_BUSY


def model_for(name: str | None, version: str, models: Iterable[Model]) -> Model | None:
    """The first of `models` that the request means; without a name the first of all."""
    fits = (model for model in models if name in {None, model.name} and version in {"", model.version})
    return next(fits, None)


def _may_take(worker: Candidate, job: Waiting, at: datetime) -> bool:
    is_avoided = any(one.worker_id == worker.worker_id and one.until > at for one in job.avoid)
    is_present = worker.route is job.route and not worker.is_draining
    return is_present and not is_avoided and model_for(job.model_name, job.model_version, worker.models) is not None


def _reluctance(worker: Candidate, job: Waiting, taken: int) -> tuple[bool, bool, float, int, str]:
    """Rather one that has not failed it, has the model warm, is least loaded, has most room."""
    wanted = model_for(job.model_name, job.model_version, worker.models)
    has_failed_it = worker.worker_id in job.faltered_on
    return has_failed_it, worker.warm != wanted, round(worker.load, 1), taken - worker.free, worker.worker_id
