"""Reading the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from server.audit import chain
from server.audit.models import Entry, Seal

CHUNK = 2000


def findings(*, anchors: dict[int, str] | None = None) -> Iterator[chain.Finding]:
    """Every break of the whole chain."""
    seals = Seal.objects.select_related("entry").order_by("number")
    return chain.breaks(seals.iterator(chunk_size=CHUNK), anchors=anchors or {})


def entries_since(at: datetime | None) -> QuerySet[Entry]:
    """Entries with their seals, oldest first."""
    entries = Entry.objects.select_related("seal").order_by("id")
    return entries if at is None else entries.filter(at__gte=at)


def head() -> Seal | None:
    """The newest seal."""
    return Seal.objects.order_by("number").last()


def unsealed() -> tuple[int, timedelta]:
    """How many entries wait for their seal, and how long the oldest has waited."""
    waiting = Entry.objects.filter(seal=None)
    oldest = waiting.order_by("at").values_list("at", flat=True).first()
    return waiting.count(), timezone.now() - oldest if oldest else timedelta()
