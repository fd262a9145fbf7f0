"""Studies fetched from archives: asked for once, fetched series by series, read in like any upload.

What is fetched lies in a staging folder until the parser has read it; of a pull that somebody died over nothing is
left but its row, which is claimed again. The same study a second time fetches only what has not been fetched yet.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from server.audit import services as audit
from server.core.errors import Problem
from server.imaging import disk, storage
from server.imaging.errors import NothingReadable, SeriesConflict
from server.imaging.ingest import Ingested, ingest
from server.imaging.models import Series
from server.imaging.parser.orders import Named
from server.pacs import services
from server.pacs.archives import Allowance, Archive, Opener, open_archive
from server.pacs.errors import ArchiveBusy, ArchiveRefused, NotInArchive, Stopping, concerns_all, is_passing
from server.pacs.findings import FoundSeries, is_uid
from server.pacs.models import LONGEST_SENTENCE, Pull, Server
from server.pacs.pace import wait_seconds
from server.pacs.selectors import own_study

log = structlog.get_logger(__name__)

CLAIM_SECONDS = 1200.0
"""Longer than one series may take (dicomweb.SERIES_SECONDS), and longer than the parser may."""
MOST_TRIES = 4
MOST_CLAIMS = 8
"""A study over which one process after another ends must not end them all."""
INTERRUPTED = "Fetching it was interrupted again and again."
MOST_REFUSED = 200
UNFORESEEN = "It failed in a way that nobody foresaw; the operator's log says more."
WANTED = frozenset({"MR", ""})
"""Modalities of series that can be analysed; an archive that does not tell is asked for all."""
State = Pull.State
OPEN = (State.QUEUED, State.RUNNING)


@dataclass
class Fetched:
    """What one run over a pull has brought."""

    files: list[Named] = field(default_factory=list)
    series: dict[str, int] = field(default_factory=dict)


def request(*, owner: Any, server: Server, study_uid: str, by: str = "") -> Pull:
    """The pull of a study for `owner`: the one that is open, or a new one.

    Raises:
        NotInArchive: this is no StudyInstanceUID.
    """
    if not is_uid(study_uid):
        raise NotInArchive
    asked = {"server": server, "study_uid": study_uid, "owner": owner}
    with suppress(IntegrityError), transaction.atomic():
        known = Pull.objects.filter(**asked, state__in=OPEN).first()
        if known is None:
            known = Pull.objects.create(**asked)
            audit.note(actor=by or audit.actor_of(owner), action="pacs.pull", pull=known.pk, archive=str(server.pk))
        return known
    return Pull.objects.get(**asked, state__in=OPEN)


def retry(pulls: QuerySet[Pull]) -> int:
    """Begin again what has failed, unless the same is open already; how many."""
    count = 0
    for pull in pulls.filter(state=State.FAILED):
        with suppress(IntegrityError), transaction.atomic():
            again = {"state": State.QUEUED, "attempts": 0, "next_at": timezone.now(), "finished_at": None}
            count += Pull.objects.filter(pk=pull.pk, state=State.FAILED).update(**again, error="", error_code="")
    return count


def due_servers() -> list[int]:
    """The archives that something could be fetched from now."""
    due = _claimable().filter(server__in=services.in_use())
    return list(due.order_by("server").values_list("server", flat=True).distinct())


def fetch_next(server_id: int, *, opener: Opener = open_archive, is_stopping: Callable[[], bool]) -> bool:
    """Fetch the study that has waited longest for one archive. False when none does."""
    pull = _claimed(server_id)
    if pull is None:
        return False
    server = pull.server
    try:
        done = _fetched(pull, opener, is_stopping)
    except Stopping:
        _update(pull, state=State.QUEUED, claimed_until=None, attempts=F("attempts") - 1)
    except Problem as failure:
        _failed(server, pull, failure)
    except Exception:
        _failed(server, pull, ArchiveBusy(UNFORESEEN))
        raise
    else:
        services.note_answer(server)
        _ended(pull, State.DONE, refused=done, study=own_study(pull.owner, pull.study_uid))
    return True


def _claimable() -> QuerySet[Pull]:
    now = timezone.now()
    queued = Q(state=State.QUEUED, next_at__lte=now)
    return Pull.objects.filter(queued | Q(state=State.RUNNING, claimed_until__lt=now))


@transaction.atomic
def _claimed(server_id: int) -> Pull | None:
    due = _claimable().filter(server_id=server_id).order_by("next_at", "pk")
    if connection.features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True, of=("self",))
    for pull in due.select_related("server", "owner")[:8]:
        claim = {"state": State.RUNNING, "claimed_until": _claim_end(), "attempts": F("attempts") + 1}
        if pull.attempts >= MOST_CLAIMS:
            _ended(pull, State.FAILED, error_code="interrupted", error=INTERRUPTED)
        elif _claimable().filter(pk=pull.pk).update(**claim):
            pull.attempts += 1
            return pull
    return None


def _claim_end() -> Any:
    return timezone.now() + timedelta(seconds=CLAIM_SECONDS)


def _fetched(pull: Pull, opener: Opener, is_stopping: Callable[[], bool]) -> list[dict[str, str]]:
    """Fetch what is missing, read it in, and answer what was refused of it."""
    known = _fetched_before(pull)
    with storage.staging() as folder:
        with opener(pull.server, is_stopping=is_stopping) as archive:
            wanted = [one for one in archive.series_of(pull.study_uid) if one.modality in WANTED]
            if not wanted:
                raise ArchiveRefused("The study has no MR series.")
            missing = [one for one in wanted if one.uid not in known or known[one.uid] != one.image_count]
            _update(pull, total=len(wanted), done=len(wanted) - len(missing), claimed_until=_claim_end())
            fetched = _all_series(pull, archive, missing, folder, is_stopping)
        if not fetched.files:
            if missing and not known:
                raise NotInArchive("The archive lists the study's series and hands out no image.")
            return []
        refused = _read_in(pull, fetched)
    _update(pull, series=_settled(pull, fetched, is_whole=not refused))
    return refused[:MOST_REFUSED]


def _fetched_before(pull: Pull) -> dict[str, int]:
    """Series that earlier pulls of the same study brought for the same user, with their number of images."""
    if own_study(pull.owner, pull.study_uid) is None:
        return {}
    earlier = Pull.objects.filter(server=pull.server, study_uid=pull.study_uid, owner=pull.owner, state=State.DONE)
    return {uid: count for one in earlier.order_by("pk") for uid, count in one.series.items()}


def _all_series(
    pull: Pull, archive: Archive, missing: list[FoundSeries], folder: Path, is_stopping: Callable[[], bool]
) -> Fetched:
    limits, fetched = settings.LIMITS, Fetched()
    allowance = Allowance(bytes=limits.upload_bytes, images=limits.archive_members)
    for number, one in enumerate(missing):
        if is_stopping():
            raise Stopping
        target = folder / f"{number:04d}"
        with disk.told():
            target.mkdir()
            archive.fetch(pull.study_uid, one.uid, into=target, allowance=allowance)
        files = sorted(target.iterdir())
        fetched.files += [Named(path=str(file), name=f"{one.uid}/{file.name}") for file in files]
        fetched.series[one.uid] = one.image_count if one.image_count is not None else len(files)
        _update(pull, done=F("done") + 1, claimed_until=_claim_end())
    return fetched


def _read_in(pull: Pull, fetched: Fetched) -> list[dict[str, str]]:
    """The same as for an upload; that all of it is known with the same content, or was refused, is no failure of
    the pull where the study is here."""
    try:
        done: Ingested = ingest(owner=pull.owner, files=fetched.files)
    except (NothingReadable, SeriesConflict) as failure:
        refused = list(failure.extra.get("refused", []))
        _update(pull, refused=refused[:MOST_REFUSED])
        if own_study(pull.owner, pull.study_uid) is None:
            raise
        return refused
    return done.refused


def _settled(pull: Pull, fetched: Fetched, *, is_whole: bool) -> dict[str, int]:
    """The series that need not be fetched again: all, or when some were refused those that are here."""
    here = Series.objects.filter(study__owner=pull.owner, study__uid=pull.study_uid).values_list("uid", flat=True)
    return {uid: count for uid, count in fetched.series.items() if is_whole or uid in set(here)}


def _failed(server: Server, pull: Pull, failure: Problem) -> None:
    """A person waits, so it is given up after some tries; a search finds the study again."""
    is_over = not is_passing(failure) or pull.attempts >= MOST_TRIES
    if concerns_all(failure):
        services.note_failure(server, failure)
    told = {"error_code": failure.code, "error": failure.detail[:LONGEST_SENTENCE]}
    if is_over:
        log.warning("a study could not be fetched", pull=pull.pk, archive=server.name, code=failure.code)
        _ended(pull, State.FAILED, **told)
        return
    seconds = wait_seconds(pull.attempts, spread=random.random())  # noqa: S311
    next_at = timezone.now() + timedelta(seconds=seconds)
    _update(pull, state=State.QUEUED, claimed_until=None, next_at=next_at, **told)


def _ended(pull: Pull, state: str, **columns: Any) -> None:
    if state == State.DONE:
        columns = {**columns, "error_code": "", "error": "", "done": F("total")}
    _update(pull, state=state, claimed_until=None, finished_at=timezone.now(), **columns)


def _update(pull: Pull, **columns: Any) -> None:
    Pull.objects.filter(pk=pull.pk).update(**columns)
