"""Every change of a job: lock → core.advance → save → log in one transaction, and effects after the commit.

Flow: 2 job
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from server.core.effects import Append, Change, Effect, Seek
from server.core.events import CancelRequested, Event, Leased
from server.core.job import HELD_STATES, State, WaitingReason
from server.core.job import Job as JobValue
from server.core.machine import Refused, advance
from server.jobs import outbox, outlook, rows, selectors
from server.jobs.errors import JobNotFound
from server.jobs.models import Job, JobEvent
from server.jobs.outlook import Lease
from server.jobs.selectors import Snapshot


class RowMoved(Exception):
    """Somebody else changed the row between our reading and our writing; the transaction is rolled back."""


def now() -> datetime:
    """The clock that leases are measured by: the database's own, or this machine's when they are the same."""
    if connection.vendor != "postgresql":
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
        beside = {} if lease is None else {"worker_name": lease.worker_name, "run_model": lease.run_model}
        _store(row, before, after, effects, beside=beside)
    return after


def cancel(job_id: str) -> JobValue:
    """A user no longer wants the result. A job that has ended stays as it is."""
    return record(job_id, CancelRequested(at=now()))


@transaction.atomic
def renew(*, worker_id: str, holds: Mapping[str, int], until: datetime) -> set[str]:
    """Lengthen the leases of `holds` (job id to fence) and answer the jobs that are no longer this worker's."""
    kept: set[str] = set()
    held = Job.objects.filter(worker_id=worker_id, state__in=sorted(HELD_STATES), pk__in=list(holds))
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
def note_waiting(job_id: str, reason: WaitingReason | None) -> None:
    """Say why a queued job waits, when that has changed."""
    row = _locked(job_id)
    before = rows.value_of(row)
    if before.state is not State.QUEUED or before.waiting_reason is reason:
        return
    _store(row, before, replace(before, waiting_reason=reason), (Append(Change.WAITING),))


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
def queue(row: Job) -> Snapshot:
    """Insert a new job with its first event, and answer its snapshot.

    When a worker has room and nobody is ahead, the same transaction leases the job to it: one commit instead of
    two lies between the click and the offer. Otherwise the assigner is woken.
    """
    prospect = outlook.prospect_of(row)
    row.last_seq = 1
    row.waiting_reason = prospect.reason
    row.save(force_insert=True)
    snapshot = _log(row, [Append(Change.QUEUED)])
    taker = prospect.taker if snapshot["queue_position"] == 1 else None
    outbox.publish(row, (Append(Change.QUEUED),) if taker else (Append(Change.QUEUED), Seek()))
    if taker is not None:
        record_on(row, Leased(at=now(), worker_id=taker.worker_id), lease=taker.lease)
        transaction.on_commit(taker.poke, robust=True)
    return snapshot


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
    appends = [effect for effect in effects if isinstance(effect, Append)]
    columns["last_seq"] = row.last_seq + len(appends)
    # SQLite takes no row locks and ignores select_for_update, so the update itself says what it expects.
    unchanged = Job.objects.filter(pk=row.pk, state=before.state, fence=before.fence, last_seq=row.last_seq)
    if unchanged.update(**columns) != 1:
        raise RowMoved(row.pk)
    for name, value in columns.items():
        setattr(row, name, value)
    _log(row, appends)
    outbox.publish(row, effects)


def _log(row: Job, appends: list[Append]) -> Snapshot:
    snapshot = selectors.snapshot(row) if appends else {}
    first = row.last_seq - len(appends) + 1
    for seq, append in enumerate(appends, start=first):
        JobEvent(job=row, seq=seq, kind=str(append.change), payload={**snapshot, "seq": seq}).save(force_insert=True)
    return snapshot
