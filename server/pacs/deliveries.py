"""Results on their way to archives: an outbox of rows, made by comparing what has succeeded with what was written down.

Nothing has to arrive for a row to be made: a message that is lost or a process that dies between a job's end and its
rows is made good at the next look. A row is claimed for as long as one sending can last; one that somebody died over is
claimed again, and an archive takes the same object a second time as one that it has.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from ulid import ULID

from server.audit import services as audit
from server.core.errors import Problem
from server.ids import new_id
from server.imaging import storage
from server.imaging.models import Mask
from server.imaging.selectors import mask_of
from server.pacs import services
from server.pacs.archives import Opener, Parcel, open_archive
from server.pacs.errors import ArchiveBusy, NothingToSend, Stopping, concerns_all, is_passing
from server.pacs.models import LONGEST_SENTENCE, Delivery, Pull, Server
from server.pacs.pace import wait_seconds

log = structlog.get_logger(__name__)

CLAIM_SECONDS = 600.0
"""Longer than connecting, sending and asking back can take together."""
MOST_TRIES = 8
"""Of one object that an archive which answers fails over; one that is away is tried for ever."""
AT_ONCE = 200
UNFORESEEN = "It failed in a way that nobody foresaw; the operator's log says more."
State = Delivery.State


@dataclass(frozen=True)
class Item:
    """One DICOM object of a result. `sha256` is of its file."""

    kind: str
    name: str
    sha256: str
    sop_instance_uid: str


def items_of(mask: Mask) -> list[Item]:
    """What is sent of a result; nothing where the scans came as NIfTI."""
    told = [
        Item(str(one["kind"]), str(one["name"]), str(one["sha256"]), str(one.get("sop_instance_uid", "")))
        for one in mask.dicom_objects
    ]
    if told or not mask.seg_path:
        return told
    return [Item("seg", mask.seg_path.rpartition("/")[2], mask.seg_sha256, "")]


def write_owed(*, since: datetime) -> int:
    """Make the rows of results since then that lack theirs, and answer how many there are now."""
    count = 0
    for server in services.in_use().filter(sends_results=True):
        for mask in _owed(server, max(since, server.sends_since)):
            count += len(write(server, mask, by=audit.SERVER))
    return count


def _owed(server: Server, since: datetime) -> Iterable[Mask]:
    """The key of a mask begins with its time, so the look is short however many there are."""
    written = Delivery.objects.filter(server=server, job_id=OuterRef("job_id"))
    newer = Mask.objects.filter(pk__gte=str(ULID.from_timestamp(since.timestamp() - 1.0)), created_at__gte=since)
    owed = newer.exclude(Q(seg_path=None) & Q(dicom_objects=[])).filter(~Exists(written))
    if server.sends_only_own:
        pulled = Pull.objects.filter(server=server, study=OuterRef("series__study"), state=Pull.State.DONE)
        owed = owed.filter(Exists(pulled))
    return owed.order_by("pk")[:AT_ONCE]


@transaction.atomic
def write(server: Server, mask: Mask, *, by: str) -> list[Delivery]:
    """The rows of one result for one archive; those that are there already stay as they are."""
    rows = [
        Delivery(
            server=server,
            job_id=mask.job_id,
            kind=item.kind,
            name=item.name,
            sha256=item.sha256,
            sop_instance_uid=item.sop_instance_uid,
        )
        for item in items_of(mask)
    ]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)
    if rows:
        audit.note(actor=by, action="pacs.send", job=mask.job_id, archive=str(server.pk))
    return rows


def send(*, user: Any, server: Server, job_id: str) -> None:
    """A person wants a result there, or once more after it failed.

    Raises:
        NothingToSend.
    """
    mask = mask_of(job_id)
    if mask is None or not items_of(mask):
        raise NothingToSend
    write(server, mask, by=audit.actor_of(user))
    retry(Delivery.objects.filter(server=server, job_id=job_id))


def retry(rows: QuerySet[Delivery]) -> int:
    """Let what failed or waits be tried now; how many."""
    again = rows.exclude(state=State.SENT)
    Server.objects.filter(pk__in=again.values("server")).update(rests_until=None)
    return again.update(state=State.WAITING, next_at=timezone.now(), attempts=0)


def due_servers() -> list[Server]:
    """The archives that something could be sent to now."""
    now = timezone.now()
    due = _claimable(now).filter(server=OuterRef("pk"))
    rested = Q(rests_until=None) | Q(rests_until__lte=now)
    return list(services.in_use().filter(rested, Exists(due)))


def send_due(server_id: int, *, opener: Opener = open_archive, is_stopping: Callable[[], bool]) -> int:
    """Send what is due to one archive, one object after another, until it is away or nothing is left; how many."""
    count = 0
    while not is_stopping():
        server = services.in_use().filter(pk=server_id).first()
        is_resting = server is not None and server.rests_until is not None and server.rests_until > timezone.now()
        row = None if server is None or is_resting else _claimed(server)
        if server is None or row is None:
            break
        try:
            if not _sent(server, row, opener, is_stopping):
                break
        except Stopping:
            _give_back(row)
            break
        count += 1
    return count


def _claimable(now: datetime) -> QuerySet[Delivery]:
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    return Delivery.objects.filter(free, state=State.WAITING, next_at__lte=now)


@transaction.atomic
def _claimed(server: Server) -> Delivery | None:
    """The next row, this process's alone for some minutes."""
    now, claim = timezone.now(), new_id()
    due = _claimable(now).filter(server=server).order_by("next_at", "pk")
    if connection.features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True, of=("self",))
    for row in due[:8]:
        # SQLite takes no row locks: the update itself says what it expects.
        until = now + timedelta(seconds=CLAIM_SECONDS)
        if _claimable(now).filter(pk=row.pk).update(claimed_until=until, claim=claim):
            row.claim = claim
            return row
    return None


def _sent(server: Server, row: Delivery, opener: Opener, is_stopping: Callable[[], bool]) -> bool:
    """Send one claimed row and write down what came of it. False: leave the archive alone for now."""
    try:
        parcel = _parcel(row)
        with opener(server, is_stopping=is_stopping) as archive:
            archive.store(parcel)
    except Problem as failure:
        return _failed(server, row, failure)
    except Stopping:
        raise
    except Exception:
        _failed(server, row, ArchiveBusy(UNFORESEEN))
        raise
    services.note_answer(server)
    said = {"state": State.SENT, "sent_at": timezone.now(), "attempts": row.attempts + 1}
    _end(row, **said, error_code="", error="")
    return True


def _parcel(row: Delivery) -> Parcel:
    mask = mask_of(row.job_id)
    if mask is None:
        raise NothingToSend
    folder = mask.report_path.rpartition("/")[0]
    content = storage.read(f"{folder}/{row.name}", sha256=row.sha256)
    return Parcel(content=content, sop_instance_uid=row.sop_instance_uid)


def _failed(server: Server, row: Delivery, failure: Problem) -> bool:
    attempts = row.attempts + 1
    said = {"attempts": attempts, "error_code": failure.code, "error": failure.detail[:LONGEST_SENTENCE]}
    if concerns_all(failure):
        services.note_failure(server, failure)
        # Behind the others: an object over which an archive hangs up must not keep them from being tried.
        _end(row, **said, next_at=timezone.now())
        return False
    if is_passing(failure) and attempts < MOST_TRIES:
        seconds = wait_seconds(attempts, spread=random.random())  # noqa: S311
        _end(row, **said, next_at=timezone.now() + timedelta(seconds=seconds))
        return True
    log.warning("a result could not be sent", delivery=row.pk, archive=server.name, code=failure.code)
    _end(row, **said, state=State.FAILED)
    return True


def _end(row: Delivery, **columns: Any) -> None:
    """Only of who holds the claim: a process that was slow must not undo what another has done since."""
    held = Delivery.objects.filter(pk=row.pk, claim=row.claim, state=State.WAITING)
    held.update(**columns, claimed_until=None, claim="")


def _give_back(row: Delivery) -> None:
    _end(row)
