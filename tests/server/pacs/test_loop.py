"""The thread beside the requests: it gives work out, leaves a slow archive to itself, and ends when it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from server.jobs import outbox
from server.pacs import deliveries, loop, pulls
from server.pacs.archives import Parcel
from server.pacs.errors import Stopping
from server.pacs.loop import Errands
from server.pacs.models import Delivery, Pull, Server
from tests.server.pacs.fakes import FakeArchive, a_result, an_archive
from tests.server.shelf import a_user

SECONDS = 10.0


class Stuck(FakeArchive):
    """It takes an object and answers when it is let go, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def store(self, parcel: Parcel) -> None:
        self.begun.set()
        self.may_go_on.wait(SECONDS)
        super().store(parcel)


@pytest.fixture
def errands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Errands]:
    """Its work on the test's own thread and connection."""
    running = Errands()
    monkeypatch.setattr(running, "_give", lambda _key, work: work())
    yield running
    running.stop()


@pytest.mark.django_db
def test_a_look_writes_sends_and_fetches_what_is_due(errands: Errands, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, server, archive = a_user(), an_archive(), FakeArchive()
    errands._opener = archive.opener
    a_result(reader)
    pulls.request(owner=reader, server=server, study_uid="1.2.404")

    errands.look()

    assert len(archive.stored) == 2
    assert set(Delivery.objects.values_list("state", flat=True)) == {"sent"}
    assert (Pull.objects.get().state, Pull.objects.get().error_code) == ("failed", "not_in_archive")


@pytest.mark.django_db
def test_an_archive_that_is_slow_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own thread; the slow one is not given a second."""
    slow, quick = an_archive("slow"), an_archive("quick")
    monkeypatch.setattr(deliveries, "write_owed", lambda **_: 0)
    monkeypatch.setattr(deliveries, "due_servers", lambda: [slow, quick])
    monkeypatch.setattr(pulls, "due_servers", list)
    seen, stuck, done = [], threading.Event(), threading.Event()

    def send_due(key: int, **_: Any) -> int:
        seen.append(key)
        (stuck.wait(SECONDS) if key == slow.pk else done.set())
        return 0

    monkeypatch.setattr(deliveries, "send_due", send_due)
    errands = Errands()

    errands.look()
    assert done.wait(SECONDS)
    errands._under_way[("send", quick.pk)].result(SECONDS)
    errands.look()
    errands._under_way[("send", quick.pk)].result(SECONDS)
    stuck.set()
    errands.stop()

    assert errands.join(SECONDS)
    assert (seen.count(slow.pk), seen.count(quick.pk)) == (1, 2)


@pytest.mark.django_db(transaction=True)
def test_it_runs_beside_the_requests_and_ends_when_told() -> None:
    reader, archive = a_user(), Stuck()
    an_archive()
    errands = Errands(opener=archive.opener)
    errands.start()
    a_result(reader, names=("mask.dcm",))

    loop.bell.set()
    assert archive.begun.wait(SECONDS)
    errands.stop()
    archive.failures = [Stopping()]
    archive.may_go_on.set()

    assert errands.join(SECONDS)
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.claimed_until) == ("waiting", 0, None)
    assert archive.stored == []


@pytest.mark.django_db
def test_the_success_of_a_job_rings_the_bell() -> None:
    loop.bell.clear()

    for learner in outbox._learners:
        learner("01ARZ3NDEKTSV4RRFFQ69G5FAV")

    assert loop.bell.is_set()


@pytest.mark.django_db
def test_a_look_without_archives_asks_the_database_little(errands: Errands, django_assert_max_num_queries: Any) -> None:
    errands.look()

    with django_assert_max_num_queries(7):
        errands.look()

    assert not Server.objects.exists()
    assert connection.vendor in ("sqlite", "postgresql")
