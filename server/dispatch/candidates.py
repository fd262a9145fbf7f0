"""Workers as the scheduler sees them.

They are read in plain SQL: this is asked at every click and every report, with perhaps a thousand workers connected,
and for Django to put the query together and to make models of the answer took ten times as long as the database.

Flow: 3 dispatch
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from server.core.job import Route
from server.core.scheduler import Candidate, Demand, can_serve, model_for
from server.dispatch import forecast
from server.dispatch.models import WorkerSession
from server.dispatch.selectors import model_of
from server.jobs.outlook import Lease

MOST_FREE = 64
"""A look for somebody free stops at so many, the least loaded first: with more there is no need to choose."""

# What has a lease is held; so put, the partial index `job_held` serves.
_CONNECTED = """
SELECT session.worker_id, worker.name, session.channel_name, worker.route, session.slots, session.credits,
       session.load, session.is_draining, session.models_offered, session.warm_sha256, worker.labels, session.labels,
       session.vram_mb, session.free_mb, session.cached,
       (SELECT COUNT(*) FROM jobs_job WHERE jobs_job.worker_id = session.worker_id
        AND jobs_job.lease_until IS NOT NULL AND jobs_job.started_fence <> jobs_job.fence) AS unanswered
FROM dispatch_workersession AS session JOIN dispatch_worker AS worker ON worker.id = session.worker_id
WHERE session.closed_at IS NULL AND session.lease_until > %s AND worker.state = 'active'"""
_WITH_ROOM = f"""
SELECT * FROM ({_CONNECTED} AND NOT session.is_draining AND session.credits > 0) AS free
WHERE credits > unanswered AND route IN (%s, %s) ORDER BY load, worker_id LIMIT {MOST_FREE}"""  # noqa: S608  (constants)
_THESE = _CONNECTED + " AND NOT session.is_draining AND session.worker_id IN ({marks}) ORDER BY session.worker_id"


@dataclass(frozen=True, slots=True)
class Connected:
    """A connected worker: how it is called, where its socket is reached, and what the scheduler knows of it."""

    name: str
    channel_name: str
    seen: Candidate

    @property
    def worker_id(self) -> str:
        return self.seen.worker_id


class _Row(NamedTuple):
    """The columns of `_CONNECTED`, in that order; lists are JSON texts, and SQLite's booleans are numbers."""

    worker_id: str
    name: str
    channel_name: str
    route: str
    slots: int
    credits: int
    load: float
    is_draining: Any
    models_offered: Any
    warm_sha256: str
    given_labels: Any
    own_labels: Any
    vram_mb: int
    free_mb: int | None
    cached: Any
    unanswered: int


def present(at: datetime) -> list[Connected]:
    """Every connected, active worker."""
    return _read(_CONNECTED, [_moment(at)])


def with_room(at: datetime, *, route: Route | None = None) -> list[Connected]:
    """Connected, active workers that take another job, the least loaded first."""
    first, last = (Route.LAB, Route.SERVER) if route is None else (route, route)
    return _read(_WITH_ROOM, [_moment(at), str(first), str(last)])


def held_still(worker_ids: Iterable[str], *, at: datetime) -> dict[str, Connected]:
    """These workers again with the room they have now, locked so that no other dispatcher gives it away meanwhile.

    One that somebody else has locked is left out: that one is being given something.
    """
    wanted = sorted(worker_ids)
    if connection.features.has_select_for_update_skip_locked:
        # Locked first and counted afterwards: what a locking query counts is as old as its start.
        locked = WorkerSession.objects.filter(pk__in=wanted).order_by("worker_id").select_for_update(skip_locked=True)
        wanted = list(locked.values_list("pk", flat=True))
    if not wanted:
        return {}
    marks = ", ".join(["%s"] * len(wanted))
    return {one.worker_id: one for one in _read(_THESE.format(marks=marks), [_moment(at), *wanted])}


def lease_for(demand: Demand, worker: Connected) -> Lease:
    """What a lease to this worker says beside the rules."""
    model = model_for(demand, worker.seen.models)
    pace = forecast.pace_of(worker.worker_id, model)
    return Lease(
        worker_name=worker.name,
        run_model={"name": model.name, "version": model.version, "sha256": model.sha256} if model else None,
        eta_seconds=round(pace.seconds, 1) if pace else None,
    )


def is_served(demand: Demand, workers: Iterable[Connected]) -> bool:
    """Whether any of them could serve such a job, free or not."""
    return any(can_serve(worker.seen, demand) for worker in workers)


def _read(sql: str, given: Sequence[object]) -> list[Connected]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return [_connected(_Row._make(row)) for row in cursor.fetchall()]


def _connected(row: _Row) -> Connected:
    offered = _plain(row.models_offered)
    models = tuple(map(model_of, offered))
    seen = Candidate(
        worker_id=row.worker_id,
        route=Route(row.route),
        free=row.credits - row.unanswered,
        slots=row.slots,
        load=row.load,
        models=models,
        is_draining=bool(row.is_draining),
        warm=next((model for model in models if model.sha256 == row.warm_sha256), None),
        labels=frozenset((*_plain(row.given_labels), *_plain(row.own_labels))),
        memory_mb={one["sha256"]: one.get("memory_mb", 0) for one in offered},
        vram_mb=row.vram_mb,
        free_mb=row.free_mb,
        cached=frozenset(_plain(row.cached)),
    )
    return Connected(name=row.name, channel_name=row.channel_name, seen=seen)


def _plain(stored: Any) -> Any:
    return json.loads(stored) if isinstance(stored, str) else stored


def _moment(at: datetime) -> object:
    return connection.ops.adapt_datetimefield_value(at)
