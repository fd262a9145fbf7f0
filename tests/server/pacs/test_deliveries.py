"""Nothing that has succeeded is forgotten, nothing is sent twice that need not be, and no archive holds up another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from server.audit.models import Entry
from server.imaging import storage
from server.imaging.models import Mask
from server.pacs import deliveries, services
from server.pacs.errors import (
    ArchiveAway,
    ArchiveBusy,
    ArchiveDenied,
    ArchiveRefused,
    NothingToSend,
    Stopping,
)
from server.pacs.models import Delivery, Pull, Server
from tests.server.pacs.fakes import FakeArchive, a_result, an_archive
from tests.server.shelf import a_user

pytestmark = pytest.mark.django_db

LONG_AGO = timezone.now() - timedelta(days=1)


@pytest.fixture
def reader() -> Any:
    return a_user()


@pytest.fixture
def archive() -> FakeArchive:
    return FakeArchive()


def owed() -> int:
    return deliveries.write_owed(since=LONG_AGO)


def send(server: Server, archive: FakeArchive, *, is_stopping: Any = lambda: False) -> int:
    return deliveries.send_due(server.pk, opener=archive.opener, is_stopping=is_stopping)


def states() -> list[tuple[str, str, int]]:
    return list(Delivery.objects.order_by("pk").values_list("kind", "state", "attempts"))


def let_time_pass(server: Server) -> None:
    """Every wait is over."""
    Delivery.objects.update(next_at=LONG_AGO)
    Server.objects.filter(pk=server.pk).update(rests_until=None)


def test_every_object_of_a_result_is_sent_once(reader, archive) -> None:
    server, job = an_archive(), a_result(reader)

    assert (owed(), owed()) == (2, 0)
    assert send(server, archive) == 2

    assert states() == [("seg", "sent", 1), ("sr", "sent", 1)]
    assert sorted(archive.stored) == sorted(f"{name} of {job.pk}".encode() for name in ("mask.dcm", "report.dcm"))
    assert (owed(), send(server, archive)) == (0, 0)
    assert Entry.objects.filter(action="pacs.send", actor="server").count() == 1


def test_a_result_from_before_its_objects_were_listed_has_its_seg(reader, archive) -> None:
    server, job = an_archive(), a_result(reader, names=("mask.dcm",))
    Mask.objects.filter(job_id=job.pk).update(dicom_objects=[])

    owed()
    send(server, archive)

    assert archive.stored == [f"mask.dcm of {job.pk}".encode()]


def test_a_result_without_dicom_owes_nothing(reader) -> None:
    server, job = an_archive(), a_result(reader, names=())

    assert owed() == 0
    with pytest.raises(NothingToSend):
        deliveries.send(user=reader, server=server, job_id=job.pk)


def test_only_archives_that_want_results_get_them_by_themselves(reader) -> None:
    an_archive("off", is_enabled=False)
    an_archive("silent", sends_results=False)
    an_archive("newer", sends_since=timezone.now() + timedelta(days=1))
    a_result(reader)

    assert owed() == 0


def test_an_archive_may_want_only_what_came_from_it(reader) -> None:
    server = an_archive(sends_only_own=True)
    job = a_result(reader)
    assert owed() == 0

    Pull.objects.create(server=server, owner=reader, study_uid="1.2.3", study=job.study, state=Pull.State.DONE)

    assert owed() == 2


def test_an_archive_that_is_away_gets_everything_once_it_is_back(reader, archive) -> None:
    """Only the first object is tried: the others would fail in the same way and would make the wait longer."""
    server = an_archive()
    a_result(reader)
    owed()
    archive.failures = [ArchiveAway("No connection.")]

    assert send(server, archive) == 0
    assert deliveries.due_servers() == []
    assert send(server, archive) == 0
    assert states() == [("seg", "waiting", 1), ("sr", "waiting", 0)]
    let_time_pass(server)
    assert send(server, archive) == 2

    assert states() == [("seg", "sent", 2), ("sr", "sent", 1)]
    assert len(archive.stored) == 2
    row = Server.objects.get()
    assert (row.failures, row.trouble, row.rests_until) == (0, "", None)


@pytest.mark.parametrize("failure", [ArchiveAway("x"), ArchiveDenied("x")])
def test_an_archive_that_stays_away_is_never_given_up(reader, archive, failure) -> None:
    server = an_archive()
    a_result(reader, names=("mask.dcm",))
    owed()
    archive.failures = [failure] * 30
    for _ in range(30):
        let_time_pass(server)
        send(server, archive)

    assert states() == [("seg", "waiting", 30)]
    let_time_pass(server)
    send(server, archive)
    assert states() == [("seg", "sent", 31)]


def test_an_archive_that_says_when_is_left_alone_until_then(reader, archive) -> None:
    server = an_archive()
    a_result(reader)
    owed()
    archive.failures = [ArchiveAway("x", retry_after_seconds=600.0)]
    before = timezone.now()

    send(server, archive)

    assert Server.objects.get().rests_until >= before + timedelta(seconds=600)
    assert deliveries.due_servers() == []


def test_what_an_archive_refuses_ends_in_failed_with_its_reason_and_the_rest_goes_on(reader, archive) -> None:
    server = an_archive()
    a_result(reader)
    owed()
    archive.failures = [ArchiveRefused("The archive did not store it: kind of object not supported (0122H).")]

    send(server, archive)

    assert states() == [("seg", "failed", 1), ("sr", "sent", 1)]
    refused = Delivery.objects.get(kind="seg")
    assert (refused.error_code, "0122H" in refused.error) == ("archive_refused", True)


def test_what_an_archive_fails_over_again_and_again_is_given_up(reader, archive) -> None:
    server = an_archive()
    a_result(reader, names=("mask.dcm",))
    owed()
    archive.failures = [ArchiveBusy("500")] * 100
    for _ in range(deliveries.MOST_TRIES + 2):
        let_time_pass(server)
        send(server, archive)

    assert states() == [("seg", "failed", deliveries.MOST_TRIES)]


def test_what_failed_is_sent_when_a_person_says_so(reader, archive) -> None:
    server = an_archive(sends_results=False)
    job = a_result(reader)
    archive.failures = [ArchiveRefused("no"), ArchiveRefused("no")]
    deliveries.send(user=reader, server=server, job_id=job.pk)
    send(server, archive)
    assert {state for _, state, _ in states()} == {"failed"}

    deliveries.send(user=reader, server=server, job_id=job.pk)
    send(server, archive)

    assert states() == [("seg", "sent", 1), ("sr", "sent", 1)]


def test_a_row_that_somebody_died_over_is_sent_by_another(reader, archive) -> None:
    """The process is gone between the archive's yes and the row."""
    server = an_archive()
    a_result(reader, names=("mask.dcm",))
    owed()

    def die() -> None:
        raise KeyboardInterrupt

    archive.on_store = die
    with pytest.raises(KeyboardInterrupt):
        send(server, archive)
    archive.on_store = lambda: None
    assert send(server, archive) == 0
    Delivery.objects.update(claimed_until=LONG_AGO)

    assert send(server, archive) == 1
    assert states() == [("seg", "sent", 1)]


def test_who_lost_a_claim_does_not_undo_what_another_has_done(reader, archive) -> None:
    server = an_archive()
    a_result(reader, names=("mask.dcm",))
    owed()

    def overtaken() -> None:
        archive.on_store = lambda: None
        Delivery.objects.update(claimed_until=LONG_AGO)
        assert send(server, archive) == 1

    archive.on_store = overtaken
    archive.failures = []
    send(server, archive)

    assert states() == [("seg", "sent", 1)]
    assert len(archive.stored) == 2


def test_what_is_under_way_when_the_process_ends_is_sent_later(reader, archive) -> None:
    server = an_archive()
    a_result(reader)
    owed()
    archive.failures = [Stopping()]

    assert send(server, archive) == 0

    assert states() == [("seg", "waiting", 0), ("sr", "waiting", 0)]
    assert send(server, archive) == 2


def test_a_damaged_file_is_not_sent(reader, archive) -> None:
    server = an_archive()
    job = a_result(reader, names=("mask.dcm",))
    storage.path_of(f"masks/{job.pk}-x/mask.dcm").write_bytes(b"something else")
    owed()

    send(server, archive)

    assert (states(), archive.stored) == ([("seg", "failed", 1)], [])
    assert Delivery.objects.get().error_code == "stored_file_damaged"


def test_what_nobody_foresaw_is_tried_again_and_told_to_the_operator(reader, archive) -> None:
    server = an_archive()
    a_result(reader, names=("mask.dcm",))
    owed()
    archive.failures = [ZeroDivisionError("a bug")]

    with pytest.raises(ZeroDivisionError):
        send(server, archive)

    assert states() == [("seg", "waiting", 1)]


def test_the_archive_of_the_environment_is_a_row_without_its_password(settings) -> None:
    settings.DICOMWEB = services_place("http://seg:hunter2@127.0.0.1:8042/dicom-web")
    services.know_default()
    services.know_default()
    Server.objects.update(sends_results=False)

    services.know_default()

    row = Server.objects.get()
    assert (row.name, row.url, row.is_from_environment) == ("default", "http://127.0.0.1:8042/dicom-web", True)
    assert not row.sends_results
    assert "hunter2" not in str(vars(row))
    assert list(services.in_use()) == [row]
    settings.DICOMWEB = None
    assert list(services.in_use()) == []


def services_place(url: str) -> Any:
    from server.pacs.place import place_of

    return place_of(url)


def test_the_command_sends_what_waits_and_says_what_is_left(reader, archive, monkeypatch, capsys) -> None:
    monkeypatch.setattr(deliveries.send_due, "__kwdefaults__", {"opener": archive.opener})
    an_archive()
    a_result(reader)
    archive.failures = [ArchiveRefused("no"), ArchiveRefused("no")]

    call_command("pacs_send")
    call_command("pacs_send", "--archive", "attic", "--retry")

    assert capsys.readouterr().out.splitlines() == ["tried=2 waiting=0 failed=2", "tried=2 waiting=0 failed=0"]


def test_several_kinds_of_work_that_fail_at_once_make_one_wait(archive) -> None:
    """Sending and watching fail in the same moment; the wait grew twice, and an archive that was back was not asked."""
    server = an_archive()

    for _ in range(5):
        services.note_failure(server, ArchiveAway("x"))

    assert Server.objects.get().failures == 1


def test_an_archive_that_answers_anything_gets_what_waits_at_once(reader, archive) -> None:
    server = an_archive()
    a_result(reader)
    owed()
    archive.failures = [ArchiveAway("x", retry_after_seconds=3600.0)]
    send(server, archive)
    assert deliveries.due_servers() == []

    services.note_answer(server)

    assert deliveries.due_servers() == [server]
    assert send(server, archive) == 2


def test_an_object_over_which_an_archive_hangs_up_does_not_keep_the_others_back(reader, archive) -> None:
    server = an_archive()
    a_result(reader)
    owed()
    archive.failures = [ArchiveAway("hung up")]
    send(server, archive)
    Server.objects.update(rests_until=None)

    assert deliveries._claimed(server).kind == "sr"
