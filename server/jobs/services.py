"""Every change of a job: lock → core.advance → save → log in one transaction, and effects after the commit.

Flow: 2 job
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from server.audit import services as audit
from server.core.effects import Append, Change, Effect, Seek
from server.core.events import CancelRequested, Event, Leased
from server.core.job import Job as JobValue
from server.core.job import State, WaitingReason
from server.core.machine import Refused, advance
from server.imaging.models import Series
from server.jobs import lines, outbox, outlook, rows, selectors
from server.jobs.errors import JobNotFound, QueueFull
from server.jobs.models import Job, JobEvent
from server.jobs.outlook import Lease, Prospect, Taker
from server.jobs.selectors import Snapshot


class RowMoved(Exception):
    """Somebody else changed the row between our reading and our writing; the transaction is rolled back."""


def is_own_clock() -> bool:
    """Whether leases are measured by the clock of this machine, which can be set, and not by the database's."""
    return connection.vendor != "postgresql"


def now() -> datetime:
    """The clock that leases are measured by: the database's own, or this machine's when they are the same."""
    if is_own_clock():
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


@transaction.atomic
def record(
    job_id: str, event: Event, *, lease: Lease | None = None, together_with: Callable[[], object] | None = None
) -> JobValue:
    """Let something happen to a job, and answer the job after it.

    `together_with` is called in the same transaction, once it is sure that the event changes the job.

    Raises:
        JobNotFound: there is no such job.
        Refused: the rules do not allow it, or the worker speaks for an attempt that no longer counts (StaleLease).
    """
    return record_on(_locked(job_id), event, lease=lease, together_with=together_with)


def record_on(
    row: Job, event: Event, *, lease: Lease | None = None, together_with: Callable[[], object] | None = None
) -> JobValue:
    """The same as `record` in the caller's transaction, for a row that was read in it.

    Raises:
        Refused: the rules do not allow it.
        RowMoved: the row was not read in this transaction.
    """
    before = rows.value_of(row)
    after, effects = advance(before, event, settings.POLICY)
    if after != before:
        if together_with is not None:
            together_with()
        beside = {} if lease is None else _beside(lease)
        _store(row, before, after, effects, beside=beside)
        if isinstance(event, Leased):
            _note_offer(row)
    return after


@transaction.atomic
def cancel(job_id: str, *, by: Any = None) -> JobValue:
    """A user no longer wants the result. A job that has ended stays as it is."""
    audit.note(actor=audit.actor_of(by), action="job.cancel", job=job_id)
    return record(job_id, CancelRequested(at=now()))


@transaction.atomic
def renew(*, worker_id: str, holds: Mapping[str, int], until: datetime) -> set[str]:
    """Lengthen the leases of `holds` (job id to fence) and answer the jobs that are no longer this worker's."""
    kept: set[str] = set()
    held = selectors.held_jobs().filter(worker_id=worker_id, pk__in=list(holds))
    for job_id, fence in held.values_list("pk", "fence"):
        if holds[job_id] == fence:
            kept.add(job_id)
    if kept:
        held.filter(pk__in=kept).update(lease_until=until)
    return set(holds) - kept


def note_progress(value: JobValue) -> bool:
    """Store the newest progress of a running attempt, without an event. False when the attempt no longer counts."""
    running = Job.objects.filter(pk=value.id, state=State.RUNNING, fence=value.fence, worker_id=value.worker_id)
    stage = str(value.stage) if value.stage else None
    return bool(running.update(progress=value.progress, stage=stage, eta_seconds=value.eta_seconds))


@transaction.atomic
def note_waiting(job_ids: Iterable[str], reason: WaitingReason) -> int:
    """Say why queued jobs wait, where that has changed; answers for how many it has."""
    found = Job.objects.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked)
    moved = list(found.filter(pk__in=list(job_ids), state=State.QUEUED).exclude(waiting_reason=reason).order_by("pk"))
    for row in moved:
        row.waiting_reason, row.last_seq = reason, row.last_seq + 1
    Job.objects.filter(pk__in=[row.pk for row in moved]).update(waiting_reason=reason, last_seq=F("last_seq") + 1)
    shown = selectors.snapshots(moved)
    JobEvent.objects.bulk_create(
        JobEvent(job=row, seq=row.last_seq, kind=str(Change.WAITING), payload=snapshot)
        for row, snapshot in zip(moved, shown, strict=True)
    )
    for row in moved:
        outbox.publish(row, (Append(Change.WAITING),))
    return len(moved)


def confirm_stop(job_id: str, *, worker_id: str, fence: int) -> None:
    """The worker has stopped, so that it need not be told again."""
    stopping = Job.objects.filter(pk=job_id, worker_id=worker_id, fence=fence, is_stop_pending=True)
    stopping.update(is_stop_pending=False)


def record_if_allowed(job_id: str, event: Event) -> JobValue | None:
    """The same as `record` where a refusal means that nothing is to be done any more: then None."""
    try:
        return record(job_id, event)
    except (Refused, JobNotFound):
        return None


@transaction.atomic(savepoint=False)
def queue(row: Job, *, series: Sequence[Series]) -> Snapshot:
    """Insert a new job with its first event, and answer its snapshot. `series` are what it reads, with their artifacts.

    When a worker has room and nobody is ahead, the job is inserted as leased to it, with both events: one commit and
    one row written instead of two lie between the click and the offer. Otherwise the assigner is woken.

    Raises:
        QueueFull: as many jobs are queued as may be.
    """
    is_next = not lines.is_anybody_waiting(row.route)
    prospect = outlook.prospect_of(row, series) if is_next else Prospect(reason=outlook.reason_of(row))
    if prospect.taker is not None:
        return _queue_leased(row, prospect.taker)
    if not is_next and lines.is_full(settings.LIMITS.queued_jobs):
        raise QueueFull
    row.waiting_reason = prospect.reason
    row.last_seq = 1
    row.save(force_insert=True)
    snapshot = selectors.snapshot(row, standing=selectors.first_in_line(row) if is_next else None)
    _write_events(row, [(Change.QUEUED, snapshot)])
    outbox.publish(row, (Append(Change.QUEUED), Seek()))
    return snapshot


def _queue_leased(row: Job, taker: Taker) -> Snapshot:
    row.last_seq = 1
    queued = rows.value_of(row)
    seconds = taker.lease.eta_seconds
    answer = selectors.snapshot(row, standing=selectors.Standing(queue_position=1, eta_seconds=seconds))
    leased, effects = advance(queued, Leased(at=taker.at, worker_id=taker.worker_id), settings.POLICY)
    _write_into(row, {**rows.changes(queued, leased), **_beside(taker.lease), "last_seq": 1 + len(effects)})
    row.save(force_insert=True)
    _write_events(row, [(Change.QUEUED, answer), *((one.change, selectors.snapshot(row)) for one in _appends(effects))])
    _note_offer(row)
    outbox.publish(row, (Append(Change.QUEUED),))
    transaction.on_commit(lambda: taker.tell(row), robust=True)
    return answer


def _note_offer(row: Job) -> None:
    audit.note(actor=audit.SERVER, action="offer", job=row.pk, worker=row.worker_id or "", fence=str(row.fence))


def _locked(job_id: str) -> Job:
    row = Job.objects.select_for_update().filter(pk=job_id).first()
    if row is None:
        raise JobNotFound
    return row


def _store(
    row: Job,
    before: JobValue,
    after: JobValue,
    effects: tuple[Effect, ...],
    *,
    beside: Mapping[str, Any] | None = None,
) -> None:
    columns = {**rows.changes(before, after), **(beside or {})}
    columns["last_seq"] = row.last_seq + len(_appends(effects))
    # SQLite takes no row locks and ignores select_for_update, so the update itself says what it expects.
    unchanged = Job.objects.filter(pk=row.pk, state=before.state, fence=before.fence, last_seq=row.last_seq)
    if unchanged.update(**columns) != 1:
        raise RowMoved(row.pk)
    _write_into(row, columns)
    _log(row, _appends(effects))
    outbox.publish(row, effects)


def _write_into(row: Job, columns: Mapping[str, Any]) -> None:
    for name, value in columns.items():
        setattr(row, name, value)


def _beside(lease: Lease) -> dict[str, Any]:
    return {"worker_name": lease.worker_name, "run_model": lease.run_model, "eta_seconds": lease.eta_seconds}


def _appends(effects: Iterable[Effect]) -> list[Append]:
    return [effect for effect in effects if isinstance(effect, Append)]


def _log(row: Job, appends: list[Append]) -> Snapshot:
    snapshot = selectors.snapshot(row) if appends else {}
    _write_events(row, [(append.change, snapshot) for append in appends])
    return snapshot


def _write_events(row: Job, said: list[tuple[Change, Snapshot]]) -> None:
    """The newest events of a job; the last of them is at its `last_seq`."""
    first = row.last_seq - len(said) + 1
    events = [
        JobEvent(job=row, seq=seq, kind=str(change), payload={**snapshot, "seq": seq})
        for seq, (change, snapshot) in enumerate(said, start=first)
    ]
    if len(events) == 1:
        events[0].save(force_insert=True)
    elif events:
        JobEvent.objects.bulk_create(events)
