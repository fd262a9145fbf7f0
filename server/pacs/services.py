"""Archives as rows: the one of the environment, how they are doing, and tests of their connection."""

from __future__ import annotations

import random
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from server.core.errors import Problem
from server.pacs.archives import open_archive
from server.pacs.errors import ArchiveFailure
from server.pacs.models import LONGEST_SENTENCE, Server
from server.pacs.pace import wait_seconds

log = structlog.get_logger(__name__)

DEFAULT = "default"


def know_default() -> None:
    """Let DICOMWEB_URL be the archive `default`: its flags are kept in the row, its password is not. When the variable
    is gone the row stays, for the deliveries that name it, and is not in use."""
    place = settings.DICOMWEB
    if place is None:
        return
    row = Server.objects.filter(name=DEFAULT).first()
    wanted = {"url": place.url, "is_from_environment": True}
    if row is None:
        _make_default(wanted)
    elif not row.is_from_environment or row.url != place.url:
        Server.objects.filter(pk=row.pk).update(**wanted, failures=0, rests_until=None, trouble="")


def in_use() -> QuerySet[Server]:
    """The archives that may be asked and sent to."""
    enabled = Server.objects.filter(is_enabled=True)
    return enabled.filter(is_from_environment=False) if settings.DICOMWEB is None else enabled


def _make_default(wanted: dict[str, object]) -> None:
    try:
        with transaction.atomic():
            Server.objects.create(name=DEFAULT, sends_results=True, **wanted)
    except IntegrityError:
        log.info("another process has made the archive of DICOMWEB_URL known")


def note_answer(server: Server) -> None:
    """It answered: whatever waits for it may go on."""
    changed = {"failures": 0, "rests_until": None, "trouble": "", "answered_at": timezone.now()}
    Server.objects.filter(pk=server.pk).update(**changed)


def note_failure(server: Server, failure: Problem) -> None:
    """It is away: leave it alone for a while, longer every time. Whoever fails meanwhile makes it no longer."""
    now = timezone.now()
    awake = Server.objects.filter(Q(rests_until=None) | Q(rests_until__lte=now), pk=server.pk)
    failures = (awake.values_list("failures", flat=True).first() or 0) + 1
    asked_for = failure.retry_after_seconds if isinstance(failure, ArchiveFailure) else None
    seconds = max(asked_for or 0.0, wait_seconds(failures, spread=random.random()))  # noqa: S311
    rest = {"failures": failures, "rests_until": now + timedelta(seconds=seconds)}
    if awake.update(**rest, trouble=failure.detail[:LONGEST_SENTENCE]):
        log.warning("an archive is left alone for a while", archive=server.name, code=failure.code, failures=failures)


def test_connection(server: Server) -> str:
    """Ask for something harmless. Raises ArchiveFailure."""
    try:
        with open_archive(server) as archive:
            said = archive.test()
    except ArchiveFailure as failure:
        Server.objects.filter(pk=server.pk).update(trouble=failure.detail[:LONGEST_SENTENCE])
        raise
    note_answer(server)
    return said
