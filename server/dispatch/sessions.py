"""A worker's connection from hello to its end: who holds what, who is still there.

Flow: 4 push
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from server.audit.services import note
from server.core.events import Resumed, Started
from server.core.job import HELD_STATES, State
from server.core.job import Job as JobValue
from server.core.machine import Refused
from server.core.reconcile import Hold, Ruling, reconcile
from server.core.scheduler import Model
from server.dispatch import selectors
from server.dispatch.enrolment import tell_watchers
from server.dispatch.models import Worker, WorkerSession
from server.jobs import rows
from server.jobs import services as jobs
from server.jobs.errors import JobNotFound
from server.jobs.models import Job


class SessionOver(Exception):
    """A newer session of the same worker exists, or this one was closed."""


class WorkerRevoked(SessionOver):
    """The worker may not work here any more, so its words do not count either."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What a worker said in hello, already in the server's words. Holds of another epoch are not among them.

    `memory_mb` is what a model needs of the device, by the sha256 of its weights, where the worker knows.
    """

    worker_id: str
    boot_id: str
    slots: int
    models: tuple[Model, ...]
    device: str
    vram_mb: int
    software: Mapping[str, str]
    running: tuple[Hold, ...]
    outbox: tuple[Hold, ...]
    void: tuple[Hold, ...] = ()
    labels: tuple[str, ...] = ()
    memory_mb: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Seat:
    """A session that was given out, and what to say of each hold."""

    session: int
    verdicts: tuple[tuple[Hold, Ruling], ...]


@dataclass(frozen=True)
class Pulse:
    """What a worker says of its machine: `load` 0 to 1, and the GPU's figures if there is one.

    None means that nothing was said of it, so that what was said before stays.
    """

    load: float
    gpu: Mapping[str, float] | None
    rtt_ms: float | None = None
    free_mb: int | None = None
    cached: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat: holds that are lost, cancelled ones to stop, and the worker as the table shows it."""

    lost: tuple[Hold, ...]
    stops: tuple[Hold, ...]
    state: str | None
    snapshot: dict[str, Any] | None = field(repr=False)


def other_session(worker_id: str, *, boot_id: str) -> WorkerSession | None:
    """The living session of another boot of the same worker: perhaps a copied key, perhaps a half-open connection."""
    alive = selectors.alive_sessions(jobs.now()).filter(worker_id=worker_id)
    return alive.exclude(boot_id=boot_id).first()


def lease_of(worker_id: str, session: int) -> datetime:
    """Until when a session is alive by the rows; the beginning of time when it is over."""
    alive = WorkerSession.objects.filter(worker_id=worker_id, session=session, closed_at=None)
    return alive.values_list("lease_until", flat=True).first() or datetime.min.replace(tzinfo=UTC)


def living_channel(worker_id: str) -> str | None:
    """Where the worker's present session can be reached."""
    alive = WorkerSession.objects.filter(worker_id=worker_id, closed_at=None)
    return alive.values_list("channel_name", flat=True).first()


@transaction.atomic
def take_seat(arrival: Arrival, *, node: str, channel_name: str, transport: str = "websocket") -> Seat:
    """Sign a worker in and settle what it holds, in one transaction."""
    at = jobs.now()
    Worker.objects.filter(pk=arrival.worker_id).update(last_session=F("last_session") + 1, last_seen=at)
    seen = Worker.objects.values_list("last_session", "is_drain_wanted").get(pk=arrival.worker_id)
    session, is_drain_wanted = seen
    WorkerSession.objects.update_or_create(
        worker_id=arrival.worker_id,
        defaults={
            "session": session,
            "boot_id": arrival.boot_id,
            "node": node,
            "channel_name": channel_name,
            "lease_until": at + timedelta(seconds=settings.POLICY.lease_seconds),
            "connected_at": at,
            "closed_at": None,
            "slots": arrival.slots,
            "credits": 0,
            "is_draining": is_drain_wanted,
            "models_offered": [_described(model, arrival.memory_mb) for model in arrival.models],
            "device": arrival.device,
            "vram_mb": arrival.vram_mb,
            "software": dict(arrival.software),
            "rtt_ms": None,
            "transport": transport,
            "labels": list(arrival.labels),
            "free_mb": None,
            "cached": [],
        },
    )
    verdicts = _settle(arrival, at)
    tell_watchers(arrival.worker_id, "worker.connected")
    note(actor=f"worker:{arrival.worker_id}", action="worker.connect", session=str(session))
    return Seat(session=session, verdicts=(*verdicts, *((hold, Ruling.REVOKE) for hold in arrival.void)))


def note_ready(worker_id: str, session: int, *, credits: int, pulse: Pulse, is_draining: bool) -> None:
    """Remember how much room a worker has.

    Raises:
        SessionOver: the words of an old session do not count.
    """
    found = WorkerSession.objects.filter(worker_id=worker_id, session=session, closed_at=None)
    wanted = Worker.objects.filter(pk=worker_id, is_drain_wanted=True).exists()
    figures = {"credits": credits, "is_draining": is_draining or wanted, **_figures(pulse)}
    if not found.update(**figures):
        raise SessionOver(worker_id)


def note_draining(worker_id: str, session: int, *, is_over: bool = False) -> None:
    """The worker takes no more offers, or does again, unless an administrator wants it otherwise."""
    wanted = Worker.objects.filter(pk=worker_id, is_drain_wanted=True).exists()
    WorkerSession.objects.filter(worker_id=worker_id, session=session).update(is_draining=wanted or not is_over)


@transaction.atomic
def beat(
    worker_id: str, session: int, *, holds: Sequence[Hold], pulse: Pulse, progress: Sequence[JobValue] = ()
) -> Beat:
    """Renew the session and exactly the listed leases; store the newest progress on the way.

    Raises:
        SessionOver: the words of an old session do not count.
    """
    at = jobs.now()
    until = at + timedelta(seconds=settings.POLICY.lease_seconds)
    Worker.objects.filter(pk=worker_id).update(last_seen=at)  # before the session, as signing in locks them
    found = WorkerSession.objects.filter(worker_id=worker_id, session=session, closed_at=None)
    if not found.update(lease_until=until, **_figures(pulse)):
        raise SessionOver(worker_id)
    for value in progress:
        jobs.note_progress(value)
    wanted = {hold.job_id: hold.fence for hold in holds}
    lost = jobs.renew(worker_id=worker_id, holds=wanted, until=until) if wanted else set()
    gone = tuple(hold for hold in holds if hold.job_id in lost and not hold_on(hold, worker_id=worker_id))
    snapshot = selectors.worker_snapshot(worker_id)
    state = snapshot["state"] if snapshot else None
    return Beat(lost=gone, stops=tuple(selectors.stops_for(worker_id)), state=state, snapshot=snapshot)


def insist(worker_id: str, session: int) -> None:
    """Make sure that this session is still the worker's, in the caller's transaction: late frames never count.

    Raises:
        SessionOver: a newer one exists, or it was closed.
        WorkerRevoked: the worker was revoked meanwhile.
    """
    newest, state = _locked(worker_id)
    is_open = WorkerSession.objects.filter(worker_id=worker_id, session=session, closed_at=None).exists()
    if newest != session or not is_open:
        raise SessionOver(worker_id)
    if state == Worker.State.REVOKED:
        raise WorkerRevoked(worker_id)


@transaction.atomic
def accept(job_id: str, event: Started, *, session: int) -> JobValue:
    """The worker took an offer: it has one place less, until it says otherwise.

    Raises:
        Refused: the offer has gone to somebody else.
        SessionOver: the words of an old session do not count.
    """
    insist(event.worker_id, session)
    value = _taken(job_id, event)
    note(actor=f"worker:{event.worker_id}", action="accept", job=job_id, fence=str(event.fence))
    model = Job.objects.values_list("run_model", flat=True).get(pk=job_id)
    places = WorkerSession.objects.filter(worker_id=event.worker_id, session=session, credits__gt=0)
    places.update(credits=F("credits") - 1, warm_sha256=model["sha256"] if model else "")
    return value


@transaction.atomic
def leave(worker_id: str, session: int, *, is_orderly: bool) -> None:
    """A socket has closed. Without a goodbye the worker has some seconds to come back, then its jobs go elsewhere."""
    at = jobs.now()
    _locked(worker_id)
    found = WorkerSession.objects.filter(worker_id=worker_id, session=session, closed_at=None)
    if not found.update(closed_at=at, credits=0):
        return
    if not is_orderly:
        soon = at + timedelta(seconds=settings.POLICY.orphan_seconds)
        selectors.held_by(worker_id).filter(lease_until__gt=soon).update(lease_until=soon)
    tell_watchers(worker_id, "worker.disconnected")
    note(actor=f"worker:{worker_id}", action="worker.disconnect", session=str(session))


def hold_on(hold: Hold, *, worker_id: str) -> bool:
    """Make sure that an attempt is running, if it still may: its worker was late with a word, or the word was lost.

    False when the job has ended, somebody else has it, or the worker was revoked.
    """
    if not may_work(worker_id):
        return False
    said = {"at": jobs.now(), "fence": hold.fence, "worker_id": worker_id}
    try:
        value = jobs.record(hold.job_id, Resumed(**said))
        if value.state is State.LEASED:
            value = jobs.record(hold.job_id, Started(**said))
    except (Refused, JobNotFound):
        return False
    return value.state in HELD_STATES


def may_work(worker_id: str) -> bool:
    """Whether the worker was not revoked."""
    return Worker.objects.filter(pk=worker_id).exclude(state=Worker.State.REVOKED).exists()


def _locked(worker_id: str) -> tuple[int, str]:
    """The worker's newest session and its state. Signing in waits for whoever has looked, and the other way round, so
    a word of an old session counts before the hello or not at all. The assigner locks sessions, and is not stopped."""
    seat = Worker.objects.select_for_update(no_key=True).filter(pk=worker_id)
    return seat.values_list("last_session", "state").first() or (0, Worker.State.REVOKED)


def _taken(job_id: str, event: Started) -> JobValue:
    try:
        return jobs.record(job_id, event)
    except Refused as refused:
        # Late, and nobody else has it yet: the fence decides what is accepted.
        if refused.job.state is not State.QUEUED:
            raise
        jobs.record(job_id, Resumed(at=event.at, fence=event.fence, worker_id=event.worker_id))
        return jobs.record(job_id, event)


def _settle(arrival: Arrival, at: datetime) -> tuple[tuple[Hold, Ruling], ...]:
    worker_id = arrival.worker_id
    listed = {hold.job_id for hold in (*arrival.running, *arrival.outbox)}
    concerned = Q(pk__in=listed) | Q(worker_id=worker_id, state__in=sorted(HELD_STATES), lease_until__isnull=False)
    values = {row.id: rows.value_of(row) for row in Job.objects.select_for_update().filter(concerned)}
    settled = reconcile(values, worker_id=worker_id, running=arrival.running, outbox=arrival.outbox, at=at)
    for job_id, event in settled.events:
        jobs.record(job_id, event)
    kept = [hold for hold, ruling in settled.verdicts if ruling in {Ruling.KEEP, Ruling.SEND_RESULT}]
    until = at + timedelta(seconds=settings.POLICY.lease_seconds)
    jobs.renew(worker_id=worker_id, holds={hold.job_id: hold.fence for hold in kept}, until=until)
    return settled.verdicts


def _figures(pulse: Pulse) -> dict[str, Any]:
    figures: dict[str, Any] = {"load": pulse.load, "gpu": dict(pulse.gpu) if pulse.gpu else None}
    said = {
        "rtt_ms": pulse.rtt_ms,
        "free_mb": pulse.free_mb,
        "cached": None if pulse.cached is None else list(pulse.cached),
    }
    return figures | {name: value for name, value in said.items() if value is not None}


def _described(model: Model, memory_mb: Mapping[str, int]) -> dict[str, Any]:
    named = {"name": model.name, "version": model.version, "sha256": model.sha256}
    return {**named, "sequences": sorted(model.sequences), "memory_mb": memory_mb.get(model.sha256, 0)}
