"""How long jobs take here, measured from their own logs; and from that, when those who wait will be done.

Each worker has a pace for each model, learnt from every job that succeeds. A dispatcher works out every two seconds
who serves which kind of job; this process's answers are read from there, so a snapshot asks nobody.

Flow: 3 dispatch
"""

import time
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise

from django.db import transaction

from inference.contract import Stage
from server.core.effects import Change
from server.core.pace import Pace, Service
from server.core.scheduler import Candidate, Demand, Model, can_serve, model_for
from server.dispatch.models import Worker, WorkerPace
from server.jobs.models import Job, JobEvent
from server.jobs.selectors import held_jobs

FRESH_SECONDS = 10.0

_services: Mapping[str, Service] = {}
_paces: Mapping[tuple[str, str], Pace] = {}
_running: Mapping[str, tuple[str, str]] = {}
_read_at = float("-inf")


def eta(demand: str, place: int) -> float | None:
    """Seconds to the end of a queued job of this kind at this place; None when nobody knows."""
    service = _services.get(demand)
    return service.eta(place) if service else None


def pace_of(worker_id: str, model: Model | None) -> Pace | None:
    """How long the worker takes with this model, if it has done so before."""
    return _paces.get((worker_id, model.sha256)) if model else None


def seconds_left(job_id: str, *, stage: Stage, fraction: float) -> float | None:
    """Seconds to the end of an attempt that is `fraction` (0 to 1) through `stage`; None when its pace is not known."""
    pace = _paces.get(_running.get(job_id, ("", "")))
    return round(pace.left(stage, fraction), 1) if pace else None


def renew(demands: Mapping[str, Demand], workers: list[Candidate]) -> None:
    """Work the answers out anew: who of the connected `workers` serves which of the queued kinds."""
    global _services, _running  # noqa: PLW0603  (what this process knows, replaced as a whole)
    _renew_paces()
    begun: dict[str, list[float | None]] = {}
    running: dict[str, tuple[str, str]] = {}
    for job_id, worker_id, seconds, model in held_jobs().values_list("pk", "worker_id", "eta_seconds", "run_model"):
        begun.setdefault(worker_id, []).append(seconds)
        running[job_id] = (worker_id, model["sha256"] if model else "")
    _running = running
    _services = {word: _service(demand, workers, begun) for word, demand in demands.items()}


def learn(job_id: str) -> None:
    """Count a job that has succeeded into the pace of the worker that did it."""
    row = Job.objects.filter(pk=job_id).only("worker_id", "run_model", "finished_at").first()
    if row is None or not row.worker_id or not row.run_model:
        return
    seconds = _stage_seconds(row)
    if not seconds or not Worker.objects.filter(pk=row.worker_id).exists():
        return
    with transaction.atomic():
        kept, _ = WorkerPace.objects.select_for_update().get_or_create(
            worker_id=row.worker_id, model_sha256=row.run_model["sha256"]
        )
        pace = _value(kept).after(seconds)
        kept.stages = {str(stage): round(mean, 3) for stage, mean in pace.stages.items()}
        kept.jobs = pace.jobs
        kept.save(update_fields=("stages", "jobs", "measured_at"))
    forget()


def forget() -> None:
    """Read the paces anew at the next look."""
    global _read_at  # noqa: PLW0603  (what this process knows)
    _read_at = float("-inf")


def _service(demand: Demand, workers: list[Candidate], begun: Mapping[str, list[float | None]]) -> Service:
    able = [worker for worker in workers if can_serve(worker, demand)]
    paces = [pace.seconds for worker in able if (pace := pace_of(worker.worker_id, model_for(demand, worker.models)))]
    each = sum(paces) / len(paces) if paces else None
    left = (seconds for worker in able for seconds in begun.get(worker.worker_id, ()))
    return Service(
        slots=sum(worker.slots for worker in able),
        seconds_each=each,
        seconds_begun=sum((each or 0.0) / 2 if seconds is None else seconds for seconds in left),
    )


def _renew_paces() -> None:
    global _paces, _read_at  # noqa: PLW0603  (what this process knows, replaced as a whole)
    now = time.monotonic()
    if now - _read_at > FRESH_SECONDS:
        _read_at = now
        _paces = {(one.worker_id, one.model_sha256): _value(one) for one in WorkerPace.objects.all()}


def _stage_seconds(row: Job) -> dict[Stage, float]:
    """How long each stage of the last attempt took, by the times of its events."""
    events = list(JobEvent.objects.filter(job=row).order_by("seq").values_list("kind", "at", "payload__stage"))
    starts = [number for number, (kind, _, _) in enumerate(events) if kind == Change.STARTED]
    if not starts or row.finished_at is None:
        return {}
    marks: list[tuple[datetime, str | None]] = [(at, stage) for _, at, stage in events[starts[-1] :]]
    seconds: dict[Stage, float] = {}
    for (began_at, stage), (ended_at, _) in pairwise(marks):
        # Until the first report the worker fetches, or looks whether it has to.
        name = Stage(stage) if stage else Stage.FETCH
        seconds[name] = seconds.get(name, 0.0) + max(0.0, (ended_at - began_at).total_seconds())
    return seconds


def _value(row: WorkerPace) -> Pace:
    return Pace(stages={Stage(name): seconds for name, seconds in row.stages.items()}, jobs=row.jobs)
