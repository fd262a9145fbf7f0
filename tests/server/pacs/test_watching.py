"""A new study that fits a rule becomes one job; what does not fit, or lacks something, says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from server.imaging.models import Study
from server.jobs.models import Job
from server.jobs.requests import Wish, request_segmentation
from server.pacs import pulls, received, watching
from server.pacs.errors import ArchiveAway
from server.pacs.findings import FoundStudy
from server.pacs.models import Pull, Rule, Server, Sighting
from server.pacs.rules import Facts
from tests.server.pacs.fakes import FakeArchive, an_archive
from tests.server.pacs.patients import dicom_patient
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db
UID = "1.2.826.8"
LONG_AGO = timezone.now() - timedelta(hours=1)


@pytest.fixture
def reader() -> Any:
    return a_user()


@pytest.fixture
def server() -> Server:
    return an_archive(watches_for_new=True, watched_since=LONG_AGO)


@pytest.fixture
def rule(reader: Any, server: Server) -> Rule:
    return Rule.objects.create(name="brains", server=server, owner=reader, study_description="brain")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dicom_patient(tmp_path_factory.mktemp("patient"), uid=UID)


@pytest.fixture
def archive(files: list[Path]) -> FakeArchive:
    found = FakeArchive()
    found.hold(UID, files)
    return found


def look(server: Server, archive: FakeArchive) -> bool:
    Server.objects.update(polls_at=timezone.now(), rests_until=None)
    return watching.look(server.pk, opener=archive.opener, is_stopping=lambda: False)


def rest() -> None:
    """Nothing has grown for an hour."""
    Sighting.objects.update(grown_at=LONG_AGO)


def fetch(server: Server, archive: FakeArchive) -> None:
    Pull.objects.update(next_at=timezone.now())
    pulls.fetch_next(server.pk, opener=archive.opener, is_stopping=lambda: False)


def seen() -> tuple[str, str]:
    row = Sighting.objects.get(study_uid=UID)
    return row.state, row.reason


def test_a_new_study_is_fetched_once_it_rests_and_analysed_once(reader, server, rule, archive) -> None:
    look(server, archive)
    assert (seen(), Pull.objects.count()) == (("growing", ""), 0)
    rest()
    look(server, archive)
    assert (seen()[0], Pull.objects.get().owner) == ("pulling", reader)
    assert watching.advance() == 0
    fetch(server, archive)

    assert watching.advance() == 2

    job = Job.objects.get()
    assert (seen(), Sighting.objects.get().job, job.requested_by) == (("started", ""), job, reader)
    assert job.series.sequence == "T1CE"
    assert len(job.sequence_series_ids) == 4
    rest()
    look(server, archive)
    assert (watching.advance(), Job.objects.count(), Pull.objects.count()) == (0, 1, 1)


def test_a_crash_after_the_job_was_made_makes_no_second_one(reader, server, rule, archive) -> None:
    """The row still says that the study is to be looked at."""
    look(server, archive)
    rest()
    look(server, archive)
    fetch(server, archive)
    watching.advance()
    Sighting.objects.update(state="here", job=None)

    watching.advance()

    assert (Job.objects.count(), Sighting.objects.get().job) == (1, Job.objects.get())


def test_a_study_that_grows_is_waited_for(server, rule, archive) -> None:
    look(server, archive)
    rest()
    archive.studies[UID] = replace(archive.studies[UID], image_count=500)

    look(server, archive)

    assert (seen()[0], Sighting.objects.get().images) == ("growing", 500)


def test_what_was_there_before_watching_began_is_left_alone_until_it_grows(server, rule, archive) -> None:
    Server.objects.update(watched_since=None)
    look(server, archive)
    assert seen() == ("passed", watching.BEFORE)
    rest()
    look(server, archive)
    assert seen()[0] == "passed"

    archive.studies[UID] = replace(archive.studies[UID], image_count=500)
    look(server, archive)

    assert seen() == ("growing", "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"study_description": "knee"}, "No rule fits (brains: study description)."),
        ({"modality": "CT"}, "No rule fits (brains: no CT)."),
        ({"is_enabled": False}, "There is no rule for it."),
        ({"server": None}, "There is no rule for it."),
    ],
)
def test_a_study_that_no_rule_fits_is_left_there_with_the_reason(server, rule, archive, change, reason) -> None:
    Rule.objects.update(**change)
    look(server, archive)
    rest()

    look(server, archive)

    assert (seen(), Pull.objects.count()) == (("passed", reason), 0)


def test_the_first_rule_that_fits_counts(reader, server, rule, archive) -> None:
    Rule.objects.create(name="everything", position=1, server=server, owner=reader, priority="urgent")
    look(server, archive)
    rest()
    look(server, archive)

    assert Sighting.objects.get().rule.name == "everything"


def test_a_study_that_lacks_sequences_says_which(server, rule, archive, tmp_path) -> None:
    archive.hold(UID, dicom_patient(tmp_path, uid=UID, sequences=("t1", "t2")))
    look(server, archive)
    rest()
    look(server, archive)
    fetch(server, archive)

    watching.advance()

    state, reason = seen()
    assert (state, Job.objects.count()) == ("passed", 0)
    assert "T1CE" in reason
    assert "FLAIR" in reason
    assert Study.objects.count() == 1


def test_an_archive_that_goes_away_while_it_is_fetched_from_loses_no_study(server, rule, archive) -> None:
    look(server, archive)
    rest()
    look(server, archive)
    archive.failures = [ArchiveAway("No connection.")] * pulls.MOST_TRIES
    for _ in range(pulls.MOST_TRIES):
        fetch(server, archive)
    watching.advance()
    assert seen() == ("growing", "No connection.")

    rest()
    look(server, archive)
    fetch(server, archive)
    watching.advance()

    assert (seen()[0], Job.objects.count()) == ("started", 1)


def test_an_archive_that_is_away_is_looked_at_later(server, rule, archive) -> None:
    archive.failures = [ArchiveAway("No connection.")]
    assert watching.due_servers() == [server.pk]

    assert not look(server, archive)

    Server.objects.update(polls_at=LONG_AGO)
    assert watching.due_servers() == []
    assert Server.objects.get().trouble == "No connection."


def test_of_several_processes_one_looks(server, archive) -> None:
    Server.objects.update(polls_at=LONG_AGO)
    mine = Server.objects.get()

    assert [watching._is_ours(mine), watching._is_ours(mine)] == [True, False]


def test_an_orthancs_list_of_changes_shows_what_is_older_than_yesterday(server, rule, archive) -> None:
    Server.objects.update(has_orthanc_changes=True, change_number=7)
    late = archive.studies.pop(UID)
    archive.changes = ([UID, "1.2.404"], 9)
    assert look(server, archive)
    assert not Sighting.objects.exists()
    archive.studies[UID] = late
    archive.new_studies = lambda **_: []  # type: ignore[method-assign]

    look(server, archive)

    assert (seen()[0], Server.objects.get().change_number) == ("growing", 9)


def test_an_archive_that_counts_nothing_is_watched_all_the_same(server, rule, archive) -> None:
    archive.studies[UID] = FoundStudy(UID, description="BRAIN")
    look(server, archive)
    rest()

    look(server, archive)

    assert seen()[0] == "pulling"


FACTS = Facts("Brain", ("MR",), ("T1",), ("MR1",), ("",))


def here(reader: Any) -> Study:
    study = a_study(reader, uid=UID)
    four_series(study)
    received.note_read(UID, FACTS, images=4, study_id=study.pk)
    return study


def test_a_received_study_is_analysed_by_a_rule_for_what_is_received(reader) -> None:
    Rule.objects.create(name="received", owner=reader, station_name="^MR1$")
    here(reader)

    assert watching.advance() == 1

    assert (seen()[0], Job.objects.count()) == ("started", 1)
    here_again = Sighting.objects.get()
    received.note_read(UID, FACTS, images=4, study_id=here_again.study_id)
    assert (watching.advance(), Job.objects.count()) == (0, 1)


def test_a_received_study_that_no_rule_fits_says_so(reader, rule) -> None:
    here(reader)

    watching.advance()

    assert seen() == ("passed", "There is no rule for it.")


def test_a_full_queue_is_waited_for(reader, settings) -> None:
    Rule.objects.create(name="received", owner=reader)
    settings.LIMITS = replace(settings.LIMITS, queued_jobs=0)
    here(reader)
    other = a_study(reader, uid="1.2.9")
    four_series(other)
    received.note_read("1.2.9", FACTS, images=4, study_id=other.pk)

    watching.advance()

    assert "here" in set(Sighting.objects.values_list("state", flat=True))


def test_what_was_received_and_could_not_be_read_says_why() -> None:
    received.note_refused(UID, FACTS, images=2, reason="a.dcm: no image")

    assert (watching.advance(), seen()) == (0, ("passed", "a.dcm: no image"))


def test_a_study_that_a_person_had_analysed_is_left_alone_when_its_results_let_it_grow(
    reader, server, rule, archive
) -> None:
    four = four_series(a_study(reader, uid=UID))
    wish = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four))
    request_segmentation(user=reader, wish=wish)
    look(server, archive)
    rest()

    look(server, archive)

    assert (seen(), Job.objects.count(), Pull.objects.count()) == (("passed", watching.ANALYSED), 1, 0)


def test_what_was_left_alone_long_ago_is_forgotten(server) -> None:
    long_ago = timezone.now() - timedelta(days=60)
    for state in ("passed", "started"):
        Sighting.objects.create(server=server, study_uid=state, state=state, seen_at=long_ago, grown_at=long_ago)

    watching.forget()

    assert Sighting.objects.get().state == "started"
