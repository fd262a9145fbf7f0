"""Workers as the scheduler sees them.

Flow: 3 dispatch
"""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from django.db import connection
from django.db.models import F, IntegerField, QuerySet
from django.db.models.expressions import RawSQL

from server.core.job import Route
from server.core.scheduler import Candidate, Demand, can_serve, model_for
from server.dispatch import forecast
from server.dispatch.models import Worker, WorkerSession
from server.dispatch.selectors import alive_sessions, models_of
from server.jobs.outlook import Lease

MOST_FREE = 64
"""A look for somebody free stops at so many, the least loaded first: with more there is no need to choose."""

FIELDS = (
    *("slots", "credits", "load", "is_draining", "models_offered", "warm_sha256", "vram_mb", "free_mb", "cached"),
    *("labels", "channel_name", "worker__route", "worker__name", "worker__labels"),
)

# The states stand in the text, so that SQLite can use the partial index `job_held`.
_UNANSWERED = """(SELECT COUNT(*) FROM jobs_job WHERE jobs_job.worker_id = dispatch_workersession.worker_id
AND jobs_job.state IN ('leased', 'running') AND jobs_job.started_fence <> jobs_job.fence)"""


def present(at: datetime) -> list[WorkerSession]:
    """Every connected, active worker."""
    return list(_sessions(at))


def with_room(at: datetime, *, route: Route | None = None) -> dict[str, WorkerSession]:
    """The connected, active workers that take another job, by their id."""
    routes = list(Route) if route is None else [route]
    free = _sessions(at).filter(worker__route__in=routes, is_draining=False, credits__gt=F("unanswered"))
    return {session.worker_id: session for session in free.order_by("load", "worker_id")[:MOST_FREE]}


def held_still(worker_ids: Iterable[str], *, at: datetime) -> dict[str, WorkerSession]:
    """These workers again with the room they have now, locked so that no other dispatcher gives it away meanwhile.

    One that somebody else has locked is left out: that one is being given something.
    """
    found = _sessions(at).filter(pk__in=list(worker_ids), is_draining=False, credits__gt=0).order_by("worker_id")
    if connection.features.has_select_for_update_skip_locked:
        # Locked first and counted afterwards: the count of a locking query is as old as its start.
        locked = WorkerSession.objects.filter(pk__in=list(worker_ids)).order_by("worker_id")
        found = found.filter(pk__in=[row.pk for row in locked.select_for_update(skip_locked=True).only("pk")])
    return {session.worker_id: session for session in found}


def candidate_of(session: WorkerSession) -> Candidate:
    """A session as the scheduler sees it."""
    models = models_of(session)
    return Candidate(
        worker_id=session.worker_id,
        route=Route(session.worker.route),
        free=session.credits - session.unanswered,
        slots=session.slots,
        load=session.load,
        models=models,
        is_draining=session.is_draining,
        warm=next((model for model in models if model.sha256 == session.warm_sha256), None),
        labels=frozenset((*session.worker.labels, *session.labels)),
        memory_mb={one["sha256"]: one.get("memory_mb", 0) for one in session.models_offered},
        vram_mb=session.vram_mb,
        free_mb=session.free_mb,
        cached=frozenset(session.cached),
    )


def lease_for(demand: Demand, session: WorkerSession) -> Lease:
    """What a lease to this worker says beside the rules."""
    model = model_for(demand.model_name, demand.model_version, models_of(session))
    pace = forecast.pace_of(session.worker_id, model)
    return Lease(
        worker_name=session.worker.name,
        run_model=asdict(model) if model else None,
        eta_seconds=round(pace.seconds, 1) if pace else None,
    )


def able(workers: Iterable[Candidate], demand: Demand) -> list[Candidate]:
    """Those that could serve such a job, free or not."""
    return [worker for worker in workers if can_serve(worker, demand)]


def _sessions(at: datetime) -> QuerySet[WorkerSession]:
    alive = alive_sessions(at).filter(worker__state=Worker.State.ACTIVE).select_related("worker").only(*FIELDS)
    return alive.annotate(unanswered=RawSQL(_UNANSWERED, (), output_field=IntegerField()))  # noqa: S611  (a constant)
