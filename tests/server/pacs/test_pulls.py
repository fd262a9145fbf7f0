"""A study is fetched once, whole or not at all, by the same rules as an upload."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from server.imaging.models import Series, Study
from server.pacs import pulls, selectors
from server.pacs.errors import ArchiveAway, ArchiveTooMuch, NotInArchive, Stopping
from server.pacs.findings import FoundSeries
from server.pacs.models import Pull, Server
from tests.server.pacs.fakes import FakeArchive, an_archive
from tests.server.pacs.patients import dicom_patient
from tests.server.shelf import a_user

pytestmark = pytest.mark.django_db
UID = "1.2.826.7"


@pytest.fixture
def reader() -> Any:
    return a_user()


@pytest.fixture
def server() -> Server:
    return an_archive()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dicom_patient(tmp_path_factory.mktemp("patient"), uid=UID, sequences=("t1", "t2"))


@pytest.fixture
def archive(files: list[Path]) -> FakeArchive:
    found = FakeArchive()
    found.hold(UID, files)
    return found


def fetch(server: Server, archive: FakeArchive) -> bool:
    Pull.objects.update(next_at=timezone.now())
    return pulls.fetch_next(server.pk, opener=archive.opener, is_stopping=lambda: False)


def test_a_study_comes_here_and_belongs_to_who_asked(reader, server, archive, data_dir) -> None:
    asked = pulls.request(owner=reader, server=server, study_uid=UID)
    assert pulls.request(owner=reader, server=server, study_uid=UID) == asked
    assert pulls.due_servers() == [server.pk]

    assert fetch(server, archive)

    shown = selectors.pull_snapshot(Pull.objects.get())
    study = Study.objects.get()
    assert (shown["state"], shown["done"], shown["total"], shown["error"]) == ("done", 2, 2, None)
    assert (shown["study"], study.owner, study.uid) == (study.pk, reader, UID)
    assert set(study.series.values_list("sequence", flat=True)) == {"T1", "T2"}
    assert list((data_dir / "staging").iterdir()) == []
    assert not fetch(server, archive)


def test_what_is_here_is_not_fetched_again_and_what_is_new_is(reader, server, archive, tmp_path) -> None:
    pulls.request(owner=reader, server=server, study_uid=UID)
    fetch(server, archive)
    archive.fetched.clear()
    pulls.request(owner=reader, server=server, study_uid=UID)
    fetch(server, archive)
    assert archive.fetched == []

    archive.hold(UID, dicom_patient(tmp_path, uid=UID, sequences=("t1", "t2", "flair")))
    pulls.request(owner=reader, server=server, study_uid=UID)
    fetch(server, archive)

    assert archive.fetched == [f"{UID}.3"]
    assert Series.objects.count() == 3
    assert {one.state for one in Pull.objects.all()} == {"done"}


def test_another_user_gets_a_study_of_their_own(reader, server, archive) -> None:
    for owner in (reader, a_user("another")):
        pulls.request(owner=owner, server=server, study_uid=UID)
        fetch(server, archive)

    assert Study.objects.filter(uid=UID).count() == 2


def test_series_of_other_kinds_are_left_there(reader, server, archive) -> None:
    archive.series[UID] += [FoundSeries(f"{UID}.8", modality="SR"), FoundSeries(f"{UID}.9", modality="CT")]
    pulls.request(owner=reader, server=server, study_uid=UID)

    fetch(server, archive)

    assert archive.fetched == [f"{UID}.1", f"{UID}.2"]


def test_a_study_without_mr_says_so(reader, server, archive) -> None:
    archive.series[UID] = [FoundSeries(f"{UID}.9", modality="CT")]
    pulls.request(owner=reader, server=server, study_uid=UID)

    fetch(server, archive)

    shown = selectors.pull_snapshot(Pull.objects.get())
    assert (shown["state"], shown["error"]["message"]) == ("failed", "The study has no MR series.")


def test_an_archive_that_is_away_for_a_moment_is_asked_again(reader, server, archive) -> None:
    archive.failures = [ArchiveAway("No connection."), ArchiveAway("No connection.")]
    pulls.request(owner=reader, server=server, study_uid=UID)

    fetch(server, archive)
    assert selectors.pull_snapshot(Pull.objects.get())["error"]["code"] == "archive_away"
    fetch(server, archive)
    fetch(server, archive)

    assert Pull.objects.get().state == "done"
    assert Pull.objects.get().error == ""


def test_a_person_does_not_wait_for_ever(reader, server, archive) -> None:
    archive.failures = [ArchiveAway("No connection.")] * 50
    pulls.request(owner=reader, server=server, study_uid=UID)
    for _ in range(pulls.MOST_TRIES + 2):
        fetch(server, archive)

    assert (Pull.objects.get().state, Pull.objects.get().attempts) == ("failed", pulls.MOST_TRIES)
    archive.failures.clear()
    assert pulls.retry(Pull.objects.all()) == 1
    fetch(server, archive)
    assert Pull.objects.get().state == "done"


@pytest.mark.parametrize("failure", [ArchiveTooMuch(), NotInArchive()])
def test_what_cannot_go_well_later_is_not_tried_again(reader, server, archive, failure) -> None:
    archive.failures = [failure]
    pulls.request(owner=reader, server=server, study_uid=UID)

    fetch(server, archive)

    assert (Pull.objects.get().state, Pull.objects.get().error_code) == ("failed", failure.code)
    assert Study.objects.count() == 0


def test_images_that_cannot_be_read_are_named_as_in_an_upload(reader, server, archive, tmp_path) -> None:
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(b"this is no image" * 100)
    archive.files[f"{UID}.2"] = [rubbish]
    pulls.request(owner=reader, server=server, study_uid=UID)

    fetch(server, archive)

    shown = selectors.pull_snapshot(Pull.objects.get())
    assert shown["state"] == "done"
    assert [entry["filename"] for entry in shown["refused"]] == [f"{UID}.2/0.dcm"]
    assert Series.objects.get().sequence == "T1"


def test_a_study_of_rubbish_fails_with_the_reasons(reader, server, archive, tmp_path) -> None:
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(b"this is no image" * 100)
    archive.files = {key: [rubbish] for key in archive.files}
    pulls.request(owner=reader, server=server, study_uid=UID)

    fetch(server, archive)

    shown = selectors.pull_snapshot(Pull.objects.get())
    assert (shown["state"], shown["error"]["code"]) == ("failed", "nothing_readable")
    assert shown["refused"][0]["filename"] == f"{UID}.1/0.dcm"


def test_a_pull_that_somebody_died_over_is_done_by_another(reader, server, archive, data_dir) -> None:
    pulls.request(owner=reader, server=server, study_uid=UID)
    archive.failures = [KeyboardInterrupt()]  # type: ignore[list-item]
    with pytest.raises(KeyboardInterrupt):
        fetch(server, archive)
    assert not fetch(server, archive)
    Pull.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))

    assert fetch(server, archive)

    assert Pull.objects.get().state == "done"
    assert list((data_dir / "staging").iterdir()) == []


def test_a_pull_under_way_when_the_process_ends_is_done_later(reader, server, archive) -> None:
    pulls.request(owner=reader, server=server, study_uid=UID)
    archive.failures = [Stopping()]

    fetch(server, archive)

    assert Pull.objects.get().state == "queued"
    assert fetch(server, archive)


def test_what_is_no_uid_is_not_asked_for(reader, server) -> None:
    with pytest.raises(NotInArchive):
        pulls.request(owner=reader, server=server, study_uid="../../patients")


def test_what_was_refused_is_fetched_and_told_again(reader, server, archive, tmp_path) -> None:
    rubbish, sound = tmp_path / "rubbish.dcm", archive.files[f"{UID}.2"]
    rubbish.write_bytes(b"this is no image" * 100)
    archive.files[f"{UID}.2"] = [rubbish]
    pulls.request(owner=reader, server=server, study_uid=UID)
    fetch(server, archive)
    archive.fetched.clear()
    archive.files[f"{UID}.2"] = sound

    pulls.request(owner=reader, server=server, study_uid=UID)
    fetch(server, archive)

    assert archive.fetched == [f"{UID}.2"]
    assert Series.objects.count() == 2


def test_a_study_over_which_processes_die_is_given_up(reader, server, archive) -> None:
    pulls.request(owner=reader, server=server, study_uid=UID)
    archive.failures = [KeyboardInterrupt()] * 50  # type: ignore[list-item]
    for _ in range(pulls.MOST_CLAIMS):
        with pytest.raises(KeyboardInterrupt):
            fetch(server, archive)
        Pull.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))

    assert not fetch(server, archive)

    assert (Pull.objects.get().state, Pull.objects.get().error_code) == ("failed", "interrupted")
