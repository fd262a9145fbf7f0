"""Writing to the audit log: a note in the caller's transaction, and the seals that are put on it afterwards."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import structlog
from django.db import connection, transaction
from django.utils import timezone

from server.audit.chain import digest_of
from server.audit.errors import NotAnId
from server.audit.models import Entry, Seal

log = structlog.get_logger(__name__)

SERVER = "server"
ANONYMOUS = "anonymous"
SEALED_AT_ONCE = 1000
REACH = 10_000
"""How many numbers below the newest sealed entry one is still looked for: a slow transaction gets its number early and
is seen late."""
_LOCK = 0x5E65EA1
_ID = re.compile(r"[\w.:-]{0,128}", re.ASCII)
_announced: dict[str, str] = {}


def note(*, actor: str, action: str, address: str | None = None, **ids: str) -> None:
    """Write down that `actor` did `action` to the rows named by `ids`: one INSERT in the caller's transaction.

    `address` is given for refused sign-ins and enrolments only.

    Raises:
        NotAnId: something in `ids` is a text and no id.
    """
    named = {name: str(value) for name, value in ids.items()}
    for name, value in named.items():
        if not _ID.fullmatch(value):
            raise NotAnId(name)
    Entry(actor=actor, action=action, ids=named, address=address).save()


def actor_of(user: Any) -> str:
    """How the log names a user, signed in or not."""
    return f"user:{user.pk}" if user is not None and user.is_authenticated else ANONYMOUS


def seal(*, everything: bool = False) -> int:
    """Give every entry without one its place in the chain, and answer how many got one.

    One process at a time; a second that comes meanwhile leaves it to the first. `everything` also finds entries that
    lie far behind the newest seal, at the price of a look at the whole log.
    """
    at, count = timezone.now(), 0
    while done := _seal_some(at, everything=everything):
        count += done
    return count


def announce_head() -> None:
    """Write the newest hash to the operator's log once a day: an anchor outside the database."""
    head = Seal.objects.order_by("number").last()
    today = timezone.now().date().isoformat()
    if head is None or _announced.get("on") == today:
        return
    _announced["on"] = today
    log.info("the audit log's newest seal", number=head.number, sha256=head.sha256)


@transaction.atomic
def _seal_some(at: datetime, *, everything: bool) -> int:
    if not _has_lock():
        return 0
    head = Seal.objects.order_by("number").last()
    newest, previous = (head.number, head.sha256) if head else (0, "")
    waiting = Entry.objects.filter(seal=None).order_by("id")
    if head is not None and not everything:
        waiting = waiting.filter(id__gt=head.entry_id - REACH)
    entries = list(waiting[:SEALED_AT_ONCE])
    seals = []
    for number, entry in enumerate(entries, start=newest + 1):
        sha256 = digest_of(entry, number=number, previous=previous)
        seals.append(Seal(number=number, entry=entry, previous=previous, sha256=sha256, sealed_at=at))
        previous = sha256
    Seal.objects.bulk_create(seals)
    return len(seals)


def _has_lock() -> bool:
    """SQLite's write transactions already come one after the other."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])
