"""Files in, studies and series stored: all of a volume or nothing of it.

The parser child turns files into staged volumes; what it found becomes folders and rows here, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum, auto
from pathlib import Path
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError, transaction

from server.audit import services as audit
from server.ids import new_id
from server.imaging import disk, limited, sequences, storage
from server.imaging.errors import NothingReadable, SeriesConflict
from server.imaging.models import Artifact, Series, Study
from server.imaging.parser.orders import (
    LAST_OPENED,
    FoundSeries,
    FoundStudy,
    Named,
    ReadAnswer,
    ReadOrder,
    Refused,
    SetAside,
)
from server.imaging.snapshots import study_snapshot
from server.topics import services as topics

CONFLICT = "series_conflict"
_MAX_NUMBER = 2**31  # of a column
_MAX_TEXT = 2000
_MAX_ASIDE = 200


@dataclass
class Ingested:
    """What came of some files: the series they are now, by study, what was refused, and what was set aside."""

    series: list[Series] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    set_aside: list[dict[str, Any]] = field(default_factory=list)

    def studies(self) -> list[dict[str, Any]]:
        """Snapshots of the studies with the series of these files only."""
        by_study: dict[str, list[Series]] = {}
        for one in self.series:
            by_study.setdefault(one.study_id, []).append(one)
        whole: dict[str, list[Series]] = {}
        for one in Series.objects.filter(study__in=by_study, is_current=True):
            whole.setdefault(one.study_id, []).append(one)
        return [study_snapshot(members[0].study, members, among=whole[key]) for key, members in by_study.items()]


def ingest(*, owner: Any, files: Sequence[Named], is_replacement: bool = False) -> Ingested:
    """Read files and store what they hold for `owner`; blocks for seconds, so never on the event loop.

    The same series with the same content is the one already stored. With other content it is refused, or becomes
    the next revision if `is_replacement`.

    Raises:
        NothingReadable: no file became a volume; what was set aside is among the reasons.
        SeriesConflict: nothing was stored, and at least one series is there with other content.
        StorageFull, StorageFailed: nothing was stored, and another try may go well.
    """
    with storage.staging() as folder:
        answer = _parsed(folder, files)
        with disk.told():
            for found in answer.series:
                storage.settle(_staged(folder, found))
        done = _stored_once_more(owner, folder, answer, is_replacement=is_replacement)
    conflicts = [entry for entry in done.refused if entry["code"] == CONFLICT]
    if not done.series and conflicts:
        raise SeriesConflict(conflicts)
    if not done.series:
        raise NothingReadable([*done.refused, *done.set_aside])
    return done


def _parsed(folder: Path, files: Sequence[Named]) -> ReadAnswer:
    try:
        answer = limited.run(ReadOrder(bounds=limited.bounds(), folder=str(folder), files=tuple(files)))
    except limited.ParserDied:
        opened = folder / LAST_OPENED
        name = opened.read_text() if opened.is_file() else files[0].name if files else "The upload"
        sentence = "Reading it took more memory or time than is allowed, or it is damaged."
        raise NothingReadable([{"filename": name, "code": "parser_failed", "detail": sentence}]) from None
    assert isinstance(answer, ReadAnswer)
    return answer


def _stored_once_more(owner: Any, folder: Path, answer: ReadAnswer, *, is_replacement: bool) -> Ingested:
    """Store, and once more if another request stored the same study or series in the same moment."""
    try:
        return _stored(owner, folder, answer, is_replacement=is_replacement)
    except IntegrityError:
        return _stored(owner, folder, answer, is_replacement=is_replacement)


def _stored(owner: Any, folder: Path, answer: ReadAnswer, *, is_replacement: bool) -> Ingested:
    """Keep first, commit then: object storage may take seconds, and no row speaks of a file that is not there."""
    done = Ingested([], [_entry(one) for one in answer.refused], [_aside_entry(one) for one in answer.aside])
    with _kept(owner, folder, answer, is_replacement=is_replacement) as kept, transaction.atomic():
        for found in answer.series:
            _place(done, owner, found, kept.get(found.folder), is_replacement=is_replacement)
        _remember_aside(done, answer)
        new = {one.pk: one.study_id for one in done.series if one.pk in kept.values()}
        for study_id in sorted(set(new.values())):
            audit.note(actor=audit.actor_of(owner), action="study.upload", study=study_id)
    for series_id in kept.values() - new.keys():  # the same file twice in one delivery
        storage.shelf().remove(f"series/{series_id}")
    return done


@contextmanager
def _kept(owner: Any, folder: Path, answer: ReadAnswer, *, is_replacement: bool) -> Iterator[dict[str, str]]:
    """Put on the shelf what is new: the ids by staged folder. Taken back when no row came of it."""
    shelf, kept = storage.shelf(), dict[str, str]()
    try:
        for found in answer.series:
            if _fate(_current(owner, found), found, is_replacement=is_replacement) is _Fate.NEW:
                series_id = new_id()
                shelf.keep(_staged(folder, found), f"series/{series_id}")
                kept[found.folder] = series_id
        yield kept
    except (OperationalError, InterfaceError):
        raise  # a commit whose answer was lost may have happened; what no row names is swept later
    except BaseException:
        for place, series_id in kept.items():
            shelf.take_back(f"series/{series_id}", folder / Path(place).name)
        raise


class _Fate(Enum):
    """What becomes of a series that was read."""

    NEW = auto()
    KNOWN = auto()
    REFUSED = auto()


def _current(owner: Any, found: FoundSeries) -> Series | None:
    same = Series.objects.filter(study__owner=owner, study__uid=found.study.uid, uid=found.uid, part=found.part)
    return same.filter(is_current=True).select_related("study").first()


def _fate(current: Series | None, found: FoundSeries, *, is_replacement: bool) -> _Fate:
    if current is None:
        return _Fate.NEW
    if current.content_sha256 == found.content_sha256:
        return _Fate.KNOWN
    return _Fate.NEW if is_replacement else _Fate.REFUSED


def _place(done: Ingested, owner: Any, found: FoundSeries, kept: str | None, *, is_replacement: bool) -> None:
    """The row of one series. Raises IntegrityError when one is due whose folder was not kept."""
    current = _current(owner, found)
    fate = _fate(current, found, is_replacement=is_replacement)
    if current is not None and fate is _Fate.KNOWN:
        done.series.append(current)
        return
    if fate is _Fate.REFUSED:
        sentence = "The same series is stored with other content; repeat with ?replace=true to make it a new revision."
        done.refused.append({"filename": found.name, "code": CONFLICT, "detail": sentence})
        return
    if kept is None:
        raise IntegrityError("the series was known a moment ago, and now another is")
    study = _study_of(owner, found.study)
    if current is not None:
        Series.objects.filter(pk=current.pk).update(is_current=False)
    series = _create(kept, study, found, f"series/{kept}", revision=current.revision + 1 if current else 1)
    if current is not None:
        sequences.keep_correction(current, series)
    done.series.append(series)
    kind = "series.replaced" if current else "series.added"
    topics.append(f"study:{study.pk}", kind=kind, payload={"series": series.pk})


def _staged(folder: Path, found: FoundSeries) -> Path:
    return folder / Path(found.folder).name  # the child names a folder beside it, nothing else


def _study_of(owner: Any, found: FoundStudy) -> Study:
    study, is_new = Study.objects.get_or_create(
        owner=owner,
        uid=found.uid,
        defaults={
            "patient_name": _plain(found.patient_name)[:324],
            "patient_id": _plain(found.patient_id)[:64],
            "patient_birth_date": _date(found.birth_date),
            "study_date": _date(found.date),
            "accession_number": _plain(found.accession)[:64],
            "description": _plain(found.description)[:1024],
            "source": found.source,
        },
    )
    if is_new:
        topics.append(f"study:{study.pk}", kind="study.added", payload={"study": study.pk})
    return study


def _create(series_id: str, study: Study, found: FoundSeries, relative: str, *, revision: int) -> Series:
    packed = found.artifact
    rows = [list(packed.affine[start : start + 4]) for start in (0, 4, 8, 12)]
    artifact = Artifact.objects.create(
        size=packed.size,
        sha256=packed.sha256,
        encoding=packed.encoding,
        dtype=packed.dtype,
        shape=list(packed.shape),
        affine=rows,
        path=f"{relative}/artifact",
    )
    return Series.objects.create(
        id=series_id,
        study=study,
        uid=found.uid,
        part=found.part,
        revision=revision,
        number=found.number if found.number is not None and abs(found.number) < _MAX_NUMBER else None,
        description=_plain(found.description)[:1024],
        modality=_plain(found.modality)[:16],
        sequence=found.sequence,
        sequence_confidence=found.sequence_confidence,
        sequence_source=found.sequence_source[:8],
        sequence_reason=_plain(found.sequence_reason)[:400],
        scan=_plain_json(found.scan),
        fingerprint=found.fingerprint,
        shape=list(found.grid.shape),
        spacing_mm=[round(edge, 6) for edge in found.spacing_mm],
        affine=[list(row) for row in found.grid.affine],
        frame_of_reference_uid=_plain(found.frame_of_reference_uid)[:64],
        content_sha256=found.content_sha256,
        source=found.study.source,
        folder=relative,
        volume_sha256=found.volume_sha256,
        volume_size=found.volume_size,
        artifact=artifact,
    )


def _entry(refused: Refused) -> dict[str, str]:
    detail = _plain(refused.detail)[:_MAX_TEXT]
    return {"filename": _plain(refused.filename)[:_MAX_TEXT], "code": refused.code, "detail": detail}


def _aside_entry(aside: SetAside) -> dict[str, Any]:
    detail = _plain(aside.detail)[:_MAX_TEXT]
    filename = _plain(aside.filename)[:_MAX_TEXT]
    return {"filename": filename, "code": aside.code, "detail": detail, "files": aside.files}


def _remember_aside(done: Ingested, answer: ReadAnswer) -> None:
    """Write beside each study what came along with it and is no scan; once, however often it comes."""
    for study in {one.study_id: one.study for one in done.series}.values():
        own = [entry for entry, one in zip(done.set_aside, answer.aside, strict=True) if one.study_uid == study.uid]
        new = [entry for entry in own if entry not in study.set_aside]
        if new:
            study.set_aside = [*study.set_aside, *new][-_MAX_ASIDE:]
            study.save(update_fields=("set_aside",))


def _plain_json(value: Any) -> Any:
    """The same with plain texts, however deep."""
    if isinstance(value, str):
        return _plain(value)[:_MAX_TEXT]
    if isinstance(value, dict):
        return {_plain(key): _plain_json(one) for key, one in value.items()}
    return [_plain_json(one) for one in value] if isinstance(value, (list, tuple)) else value


def _plain(text: str) -> str:
    """Without nulls, which no database takes, and whatever else cannot be seen."""
    return "".join(letter for letter in text if letter.isprintable())


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()  # noqa: DTZ007 - a calendar day, in no time zone
    except ValueError:
        return None
