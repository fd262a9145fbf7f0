"""New studies: seen at an archive or received, fetched once they stop growing, analysed when a rule says so.

What an archive shows is compared with rows again at every look, so nothing hangs on a message. Each study has one row
and each row at most one job: whatever is repeated after a crash finds what was done before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from server.audit import services as audit
from server.core.errors import Problem
from server.core.job import Priority
from server.core.job import State as JobState
from server.imaging import sequences
from server.imaging.models import Series
from server.jobs.models import Job
from server.jobs.requests import Wish, request_segmentation
from server.pacs import pulls, services
from server.pacs.archives import Archive, Opener, open_archive
from server.pacs.errors import ArchiveFailure, NotInArchive, Stopping, concerns_all
from server.pacs.findings import FoundSeries, FoundStudy
from server.pacs.models import LONGEST_SENTENCE, Pull, Rule, Server, Sighting
from server.pacs.rules import Facts, misfit

log = structlog.get_logger(__name__)

MOST_STUDIES = 1000
DAYS_BACK = 1
"""An archive's day may not be ours, and a scan of the late evening comes after midnight."""
GIVE_UP_AFTER = timedelta(days=2)
BEFORE = "It was there before watching began."
ANALYSED = "It has been analysed already."
_PASSING = frozenset({"archive_away", "archive_denied", "archive_busy", "archive_secret_lost", "storage_full"})
State = Sighting.State


def due_servers() -> list[int]:
    """The archives that are to be looked at now."""
    now = timezone.now()
    rested = Q(rests_until=None) | Q(rests_until__lte=now)
    due = services.in_use().filter(rested, watches_for_new=True, polls_at__lte=now)
    return list(due.values_list("pk", flat=True))


def look(server_id: int, *, opener: Opener = open_archive, is_stopping: Callable[[], bool]) -> bool:
    """Look once what is new at one archive. False when another process does, or it is away."""
    server = Server.objects.filter(pk=server_id).first()
    if server is None or not _is_ours(server):
        return False
    try:
        with opener(server, is_stopping=is_stopping) as archive:
            note_seen(server, _listed(server, archive))
            for sighting in _settled(server):
                _take(sighting, archive)
    except ArchiveFailure as failure:
        if concerns_all(failure):
            services.note_failure(server, failure)
        return False
    except Stopping:
        return False
    Server.objects.filter(pk=server_id, watched_since=None).update(watched_since=timezone.now())
    services.note_answer(server)
    return True


def _is_ours(server: Server) -> bool:
    """Of several processes one looks: whoever moves the time of the next look."""
    next_at = timezone.now() + timedelta(seconds=server.poll_seconds)
    return bool(Server.objects.filter(pk=server.pk, polls_at=server.polls_at).update(polls_at=next_at))


def _listed(server: Server, archive: Archive) -> list[FoundStudy]:
    since = (timezone.now() - timedelta(days=DAYS_BACK)).strftime("%Y%m%d")
    found = {one.uid: one for one in archive.new_studies(since=since, limit=MOST_STUDIES)}
    if server.has_orthanc_changes:
        changed, newest = archive.changed_studies(after=server.change_number)
        for uid in dict.fromkeys(changed):
            if uid not in found and (one := archive.study(uid)):
                found[uid] = one
        Server.objects.filter(pk=server.pk).update(change_number=newest)
    return list(found.values())


def note_seen(server: Server, found: Iterable[FoundStudy]) -> None:
    """Write down what an archive shows. What it showed at the first look is old; what grows since is new."""
    studies = {one.uid: one for one in found}
    known = {row.study_uid: row for row in Sighting.objects.filter(server=server, study_uid__in=list(studies))}
    is_first = server.watched_since is None
    state, reason = (State.PASSED, BEFORE) if is_first else (State.GROWING, "")
    new = [
        Sighting(server=server, study_uid=uid, state=state, reason=reason, images=_size(one))
        for uid, one in studies.items()
        if uid not in known
    ]
    Sighting.objects.bulk_create(new, ignore_conflicts=True)
    for uid, row in known.items():
        if _size(studies[uid]) > row.images:
            _note_growth(row, _size(studies[uid]))


def _note_growth(row: Sighting, images: int) -> None:
    grown: dict[str, Any] = {"images": images, "grown_at": timezone.now()}
    if row.state == State.PASSED:
        grown |= {"state": State.GROWING, "reason": ""}
    Sighting.objects.filter(pk=row.pk, state=row.state).update(**grown)


def _size(one: FoundStudy) -> int:
    return one.image_count if one.image_count is not None else one.series_count or 0


def _settled(server: Server) -> list[Sighting]:
    """Studies that have not grown for long enough; this look has just seen them."""
    before = timezone.now() - timedelta(seconds=server.stable_seconds)
    return list(Sighting.objects.filter(server=server, state=State.GROWING, grown_at__lte=before).order_by("pk"))


def _take(sighting: Sighting, archive: Archive) -> None:
    """Fetch a study if a rule wants it."""
    assert sighting.server is not None
    if _jobs_of(sighting).exists():
        # What a person had analysed comes back to the archive, and lets the study grow.
        _pass(sighting, ANALYSED)
        return
    try:
        found, series = archive.study(sighting.study_uid), archive.series_of(sighting.study_uid)
    except NotInArchive:
        _pass(sighting, "It is not in the archive any more.")
        return
    rule, reason = first_fitting(sighting.server, _facts(found, series))
    if rule is None:
        _pass(sighting, reason)
        return
    pull = pulls.request(owner=rule.owner, server=sighting.server, study_uid=sighting.study_uid, by=audit.SERVER)
    _move(sighting, State.PULLING, rule=rule, pull=pull, reason="")


def _facts(found: FoundStudy | None, series: list[FoundSeries]) -> Facts:
    return Facts(
        study_description=found.description if found else "",
        modalities=tuple({one.modality for one in series} | set(found.modalities if found else ())),
        series_descriptions=tuple(one.description for one in series),
        stations=tuple({one.station for one in series}),
        institutions=tuple({one.institution for one in series}),
    )


def first_fitting(server: Server | None, facts: Facts) -> tuple[Rule | None, str]:
    """The first rule of a source that fits, or a sentence about why none does."""
    misfits = []
    for rule in Rule.objects.select_related("owner").filter(server=server, is_enabled=True, owner__is_active=True):
        why = misfit(rule, facts)
        if not why:
            return rule, ""
        misfits.append(f"{rule.name}: {why}")
    return None, f"No rule fits ({'; '.join(misfits)})." if misfits else "There is no rule for it."


def forget() -> None:
    """What was left alone long ago; the archive's own list of changes may show it again."""
    before = timezone.now() - timedelta(days=settings.LIMITS.log_days)
    Sighting.objects.filter(state=State.PASSED, grown_at__lt=before, seen_at__lt=before).delete()


def advance() -> int:
    """Take every study a step on that has arrived, and answer how many moved."""
    count = 0
    rows = Sighting.objects.select_related("rule__owner", "pull__study", "study", "server")
    for sighting in rows.filter(state=State.PULLING).exclude(pull__state__in=pulls.OPEN):
        count += _fetched(sighting)
    for sighting in rows.filter(state=State.HERE).order_by("pk"):
        count += _begin(sighting)
    return count


def _fetched(sighting: Sighting) -> bool:
    pull = sighting.pull
    if pull is not None and pull.state == Pull.State.DONE:
        return _move(sighting, State.HERE, study=pull.study)
    code = pull.error_code if pull else ""
    is_young = sighting.seen_at > timezone.now() - GIVE_UP_AFTER
    if code in _PASSING and is_young:
        # A person would try again; here the next look does.
        return _move(sighting, State.GROWING, grown_at=timezone.now(), reason=pull.error if pull else "")
    return _pass(sighting, f"It could not be fetched: {pull.error if pull else 'the pull was deleted.'}")


def _begin(sighting: Sighting) -> bool:
    """Start the job of a study that is here, once."""
    rule = sighting.rule
    if rule is None:
        rule, reason = first_fitting(sighting.server, Facts.of(sighting.facts))
        if rule is None:
            return _pass(sighting, reason)
    if sighting.study is None:
        return _pass(sighting, "Its study is not stored any more.")
    found = sequences.proposal_of(list(Series.objects.filter(study=sighting.study, is_current=True)))
    chosen = {name: key for name, key in found["series"].items() if key}
    if not chosen:
        return _pass(sighting, "No sequence was recognised in it.", rule=rule)
    if _jobs_of(sighting).exclude(request_keys__key=_key_of(rule, sighting)).exists():
        return _pass(sighting, ANALYSED, rule=rule)
    wish = Wish(
        series_ref=chosen.get("T1CE") or next(iter(chosen.values())),
        sequence_refs=tuple(chosen.values()),
        model=rule.model,
        priority=Priority(rule.priority),
    )
    return _requested(sighting, rule, wish)


def _jobs_of(sighting: Sighting) -> QuerySet[Job]:
    """Jobs of the same study, whoever asked for them, that have not come to nothing."""
    return Job.objects.filter(study__uid=sighting.study_uid).exclude(state__in=[JobState.FAILED, JobState.CANCELLED])


def _key_of(rule: Rule, sighting: Sighting) -> str:
    return f"rule-{rule.pk}-{sighting.study_id}"


def _requested(sighting: Sighting, rule: Rule, wish: Wish) -> bool:
    try:
        snapshot = request_segmentation(user=rule.owner, wish=wish, idempotency_key=_key_of(rule, sighting))
    except Problem as problem:
        if problem.status == 503:
            return False  # the queue is full; the row stays as it is and is looked at again
        return _pass(sighting, problem.detail, rule=rule)
    audit.note(
        actor=audit.SERVER, action="pacs.rule", rule=str(rule.pk), job=snapshot["id"], study=str(sighting.study_id)
    )
    return _move(sighting, State.STARTED, rule=rule, job_id=snapshot["id"], reason="")


def _pass(sighting: Sighting, reason: str, **columns: Any) -> bool:
    return _move(sighting, State.PASSED, reason=reason, **columns)


def _move(sighting: Sighting, state: str, **columns: Any) -> bool:
    if "reason" in columns:
        columns["reason"] = columns["reason"][:LONGEST_SENTENCE]
    here = Sighting.objects.filter(pk=sighting.pk, state=sighting.state)
    return bool(here.update(state=state, **columns))
