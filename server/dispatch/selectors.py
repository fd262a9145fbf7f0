"""Workers as the scheduler, the administrator and the metrics see them; and what a worker is to be told.

Flow: 4 push
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, QuerySet

from inference.contract import Grid, PackedVolume, Sequence
from server.core.job import Job as JobValue
from server.core.job import Route, State
from server.core.reconcile import Hold
from server.core.scheduler import Demand, Model, model_for
from server.dispatch.models import Worker, WorkerSession
from server.imaging.models import Artifact
from server.imaging.selectors import packed_of
from server.jobs import rows
from server.jobs.models import Job
from server.jobs.rows import given_sequences
from server.jobs.selectors import held_jobs
from server.jobs.services import now as clock_of_leases

OFFER_FIELDS = ("series_id", "sequence_series_ids", "sequences", "fence", "attempt", "run_model")


@dataclass(frozen=True)
class Input:
    """One sequence for a worker to fetch."""

    role: Sequence
    artifact_id: str
    packed: PackedVolume


@dataclass(frozen=True)
class Offer:
    """A job leased to a worker that has not answered yet."""

    job_id: str
    fence: int
    attempt: int
    model: Model | None
    inputs: tuple[Input, ...]
    grid: Grid


def alive_sessions(at: datetime) -> QuerySet[WorkerSession]:
    """Sessions that have not been closed and whose lease lasts."""
    return WorkerSession.objects.filter(closed_at=None, lease_until__gt=at)


def offers_for(worker_id: str) -> list[Offer]:
    """The offers a worker has not answered."""
    rows = list(unanswered().filter(worker_id=worker_id).only(*OFFER_FIELDS))
    wanted = {series_id for row in rows for series_id in (row.series_id, *row.sequence_series_ids)}
    found = Artifact.objects.filter(series__in=wanted).annotate(series_pk=F("series__pk")) if wanted else ()
    artifacts = {artifact.series_pk: artifact for artifact in found}
    return [offer_of(row, artifacts) for row in rows]


def stops_for(worker_id: str) -> list[Hold]:
    """The cancelled attempts a worker has not confirmed."""
    return [hold for _, hold in stops_of((worker_id,))]


def stops_of(worker_ids: Collection[str]) -> list[tuple[str, Hold]]:
    """The cancelled attempts that any of these workers has not confirmed."""
    rows = Job.objects.filter(worker_id__in=worker_ids, is_stop_pending=True).values_list("worker_id", "pk", "fence")
    return [(worker_id, Hold(job_id, fence)) for worker_id, job_id, fence in rows]


def held_by(worker_id: str) -> QuerySet[Job]:
    """The jobs leased to a worker."""
    return held_jobs().filter(worker_id=worker_id)


def running_attempt(hold: Hold, *, worker_id: str) -> JobValue | None:
    """The attempt, if it is running and this worker's."""
    row = Job.objects.filter(pk=hold.job_id, fence=hold.fence, worker_id=worker_id, state=State.RUNNING).first()
    return rows.value_of(row) if row else None


def worker_snapshots() -> list[dict[str, Any]]:
    """Every worker that is not revoked, as the administrator's table shows it."""
    return _snapshots(Worker.objects.exclude(state=Worker.State.REVOKED), held_jobs())


def snapshots_of(worker_ids: Collection[str]) -> list[dict[str, Any]]:
    """These workers, as the table shows them."""
    return _snapshots(Worker.objects.filter(pk__in=worker_ids), held_jobs().filter(worker_id__in=worker_ids))


def worker_snapshot(worker_id: str) -> dict[str, Any] | None:
    """One worker, as the table shows it."""
    return next(iter(snapshots_of((worker_id,))), None)


def connected_workers() -> dict[str, int]:
    """How many workers of each route are connected."""
    routes = alive_sessions(clock_of_leases()).values_list("worker__route", flat=True)
    return {str(route): 0 for route in Route} | Counter(routes)


def models_of(session: WorkerSession) -> tuple[Model, ...]:
    """What the worker can run, its default first."""
    return tuple(map(model_of, session.models_offered))


def model_of(stored: Mapping[str, Any]) -> Model:
    """One of `WorkerSession.models_offered`."""
    return Model(
        name=stored["name"],
        version=stored["version"],
        sha256=stored["sha256"],
        sequences=frozenset(stored.get("sequences", ())),
    )


def is_declared(demand: Demand) -> bool:
    """Whether any active worker of the route has a model for the demand, or had one when it was last here."""
    sessions = WorkerSession.objects.filter(worker__state=Worker.State.ACTIVE, worker__route=demand.route)
    return any(model_for(demand, models_of(session)) is not None for session in sessions)


def _snapshots(workers: QuerySet[Worker], held_by_them: QuerySet[Job]) -> list[dict[str, Any]]:
    found = list(workers.select_related("session"))
    held: dict[str, list[Job]] = {}
    for job in held_by_them:
        held.setdefault(job.worker_id or "", []).append(job)
    now = clock_of_leases()
    return [_worker_snapshot(worker, held.get(worker.id, []), now) for worker in found]


def unanswered() -> QuerySet[Job]:
    """The offers that nobody has answered: what is held and has not started is leased."""
    return held_jobs().exclude(started_fence=F("fence"))


def offer_of(row: Job, artifacts: Mapping[str, Artifact]) -> Offer:
    """The offer of a leased job; `artifacts` by the series they belong to."""
    inputs = tuple(
        Input(role=role, artifact_id=artifacts[pk].pk, packed=packed_of(artifacts[pk]))
        for role, pk in zip(given_sequences(row), row.sequence_series_ids, strict=True)
    )
    model = Model(**row.run_model) if row.run_model else None
    grid = packed_of(artifacts[row.series_id]).grid
    return Offer(job_id=row.id, fence=row.fence, attempt=row.attempt + 1, model=model, inputs=inputs, grid=grid)


def _worker_snapshot(worker: Worker, held: list[Job], now: datetime) -> dict[str, Any]:
    session: WorkerSession | None = getattr(worker, "session", None)
    is_connected = session is not None and session.closed_at is None and session.lease_until > now
    base: dict[str, Any] = {
        "id": worker.id,
        "name": worker.name,
        "state": str(worker.state),
        "route": str(worker.route),
        "last_seen": worker.last_seen.isoformat() if worker.last_seen else None,
        "connected": is_connected,
        "jobs": [{"job": job.id, "stage": job.stage, "progress": job.progress} for job in held],
        "labels": sorted(worker.labels),
    }
    return base | _session_snapshot(session, is_connected=is_connected)


def _session_snapshot(session: WorkerSession | None, *, is_connected: bool) -> dict[str, Any]:
    if session is None:
        return {"device": "", "models": [], "slots": 0, "credits": 0, "rtt_ms": None, "software": "", "transport": ""}
    software = session.software
    return {
        "device": session.device,
        "models": [f"{model['name']} {model['version']}" for model in session.models_offered],
        "slots": session.slots,
        "credits": session.credits if is_connected else 0,
        "rtt_ms": session.rtt_ms if is_connected else None,
        "software": ", ".join(f"{name} {version}" for name, version in software.items() if version),
        "load": session.load if is_connected else 0.0,
        "gpu": session.gpu if is_connected else None,
        "draining": session.is_draining,
        "transport": session.transport,
        "labels": sorted({*session.worker.labels, *session.labels}),
        "free_mb": session.free_mb if is_connected else None,
    }
