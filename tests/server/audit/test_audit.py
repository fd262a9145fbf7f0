"""The audit log: written in the caller's transaction, never changed, sealed afterwards, and its breaks are found."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from server.audit import guards, selectors, services
from server.audit.chain import Break
from server.audit.errors import AppendOnly, NotAnId
from server.audit.models import Entry, Seal

pytestmark = pytest.mark.django_db


@pytest.fixture
def guarded() -> Iterator[None]:
    """The triggers as in a real database; the transaction of the test takes them away again."""
    guards.put(connection)
    yield
    guards.lift(connection)


def noted(count: int, *, action: str = "job.request") -> None:
    """So many entries."""
    for number in range(count):
        services.note(actor="user:1", action=action, job=f"01JOB{number}")


def sealed(count: int) -> None:
    """So many entries, each sealed in a round of its own."""
    for _ in range(count):
        noted(1)
        services.seal()


def found() -> list[tuple[str, int]]:
    """What verification finds."""
    return [(finding.what, finding.number) for finding in selectors.findings()]


def tampered(statement: str, *values: Any) -> None:
    """Somebody with the database's password."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def audited(*arguments: str) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command("audit", *arguments, stdout=out)
    return out.getvalue()


def test_a_note_goes_with_its_transaction() -> None:
    with transaction.atomic():
        noted(1)
        transaction.set_rollback(True)

    assert not Entry.objects.exists()


def test_a_note_costs_one_statement(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        services.note(actor="user:1", action="job.request", job="01JOB", study="01STUDY")


@pytest.mark.parametrize("text", ["KIM, Young", "a b", "x" * 129, "김철수", "=HYPERLINK()", "a\n"])
def test_the_log_takes_no_free_text(text: str) -> None:
    with pytest.raises(NotAnId, match="study"):
        services.note(actor="user:1", action="study.upload", study=text)


def test_the_code_cannot_change_an_entry() -> None:
    sealed(1)
    entry = Entry.objects.get()

    for attempt in (entry.save, entry.delete, Entry.objects.all().delete, Seal.objects.get().delete):
        with pytest.raises(AppendOnly):
            attempt()
    with pytest.raises(AppendOnly):
        Entry.objects.update(actor="user:2")


@pytest.mark.parametrize("table", guards.TABLES)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET {column} = 'x'"])
def test_the_database_refuses_to_change_what_is_written(guarded: None, table: str, statement: str) -> None:
    sealed(1)
    column = "actor" if table == "audit_entry" else "sha256"

    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        tampered(statement.format(table, column=column))

    assert (Entry.objects.count(), Seal.objects.count()) == (1, 1)


def test_an_untouched_log_is_whole() -> None:
    sealed(3)
    noted(2)
    services.seal()

    assert found() == []
    assert [seal.number for seal in Seal.objects.all()] == [1, 2, 3, 4, 5]


def test_a_changed_entry_is_found() -> None:
    sealed(3)
    tampered("UPDATE audit_entry SET actor = 'user:2' WHERE id = %s", Seal.objects.get(number=2).entry_id)

    assert found() == [(Break.CHANGED, 2)]


def test_a_changed_entry_with_a_seal_made_anew_is_found() -> None:
    sealed(3)
    second = Seal.objects.select_related("entry").get(number=2)
    second.entry.actor = "user:2"
    digest = services.digest_of(second.entry, number=2, previous=second.previous)
    tampered("UPDATE audit_entry SET actor = 'user:2' WHERE id = %s", second.entry_id)
    tampered("UPDATE audit_seal SET sha256 = %s WHERE number = 2", digest)

    assert found() == [(Break.REMOVED, 3)]


def test_a_removed_entry_is_found() -> None:
    sealed(4)
    gone = Seal.objects.get(number=2).entry_id
    tampered("DELETE FROM audit_seal WHERE number = 2")
    tampered("DELETE FROM audit_entry WHERE id = %s", gone)

    assert found() == [(Break.REMOVED, 2)]


def test_an_entry_that_was_slipped_in_later_is_found() -> None:
    sealed(2)
    Entry(actor="user:2", action="result.download", at=timezone.now() - timedelta(days=2)).save()
    services.seal()

    assert found() == [(Break.INSERTED, 3)]


def test_entries_that_waited_for_a_server_are_not_suspicious() -> None:
    """Commands write entries while no server runs; the first round of the next start seals them all."""
    for hours in (30, 20, 10):
        Entry(actor="server", action="worker.enrol", at=timezone.now() - timedelta(hours=hours)).save()
    services.seal()

    assert found() == []


def test_a_log_that_was_cut_off_is_found_with_an_anchor() -> None:
    sealed(3)
    anchor = audited("head").strip()
    gone = Seal.objects.get(number=3).entry_id
    tampered("DELETE FROM audit_seal WHERE number = 3")
    tampered("DELETE FROM audit_entry WHERE id = %s", gone)

    assert found() == []
    with pytest.raises(CommandError, match="not as it was written"):
        audited("verify", "--anchor", anchor)


def test_a_slow_transaction_is_sealed_after_faster_ones() -> None:
    """On PostgreSQL a number is given before the commit, so a lower one may appear later."""
    late = Entry.objects.create(actor="server", action="offer", id=500)
    Entry.objects.create(actor="server", action="offer", id=501)
    Seal.objects.create(
        number=1,
        entry_id=501,
        sha256=services.digest_of(Entry.objects.get(id=501), number=1, previous=""),
        sealed_at=timezone.now(),
    )

    services.seal()

    assert Seal.objects.get(number=2).entry_id == late.pk
    assert found() == []


def test_verification_says_that_nobody_seals() -> None:
    Entry(actor="server", action="offer", at=timezone.now() - timedelta(hours=2)).save()

    with pytest.raises(CommandError, match="is a server running"):
        audited("verify")

    assert "sealed=1" in audited("seal")
    assert "sealed=1 unsealed=0" in audited("verify")


def test_the_export_has_every_field_and_its_place() -> None:
    services.note(actor="anonymous", action="user.refused", address="192.0.2.7")
    sealed(1)

    first, second = (json.loads(line) for line in audited("export").splitlines())

    assert (first["number"], first["actor"], first["address"]) == (1, "anonymous", "192.0.2.7")
    assert (second["ids"], second["sha256"]) == ({"job": "01JOB0"}, Seal.objects.get(number=2).sha256)


def test_the_export_begins_where_it_is_asked_to() -> None:
    Entry(actor="server", action="offer", at=timezone.now() - timedelta(days=3)).save()
    noted(1)
    yesterday = (timezone.now() - timedelta(days=1)).date().isoformat()

    rows = list(csv.DictReader(io.StringIO(audited("export", "--since", yesterday, "--format", "csv"))))

    assert [(row["action"], row["ids"]) for row in rows] == [("job.request", '{"job": "01JOB0"}')]


@pytest.mark.parametrize("arguments", [("export", "--since", "yesterday"), ("verify", "--anchor", "abc")])
def test_an_argument_that_cannot_be_read_is_named(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=f"'{arguments[2]}' is"):
        audited(*arguments)
