"""Archives over HTTP: who may, what is shown, what is written down; and the admin, which never shows a secret."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from server.audit.models import Entry
from server.pacs import admin as pacs_admin
from server.pacs import api, deliveries, services
from server.pacs.errors import ArchiveAway
from server.pacs.findings import FoundStudy
from server.pacs.models import Delivery, Pull, Rule, Server
from server.pacs.place import place_of
from server.pacs.secrets import unseal
from tests.server.pacs.fakes import FakeArchive, a_result, an_archive
from tests.server.shelf import a_study, a_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    found = FakeArchive()
    for module in (api, services):
        monkeypatch.setattr(module, "open_archive", found.opener)
    return found


@pytest.fixture
def doctor() -> User:
    """Somebody who may use the archives and is not staff."""
    user = a_user("doctor")
    user.user_permissions.set(Permission.objects.filter(codename__in=("search_archive", "send_result")))
    return user


@pytest.fixture
def client(doctor: User) -> Client:
    browser = Client()
    browser.force_login(doctor)
    return browser


@pytest.fixture
def chief() -> Client:
    """An administrator's browser."""
    browser = Client()
    browser.force_login(User.objects.create_superuser("chief"))
    return browser


def search(client: Client, name: str = "attic", **typed: str) -> Any:
    return client.get(f"/api/pacs/{name}/studies/", typed)


def test_the_archives_are_listed_by_name_without_their_addresses(client, settings) -> None:
    settings.DICOMWEB = place_of("http://127.0.0.1:8042/dicom-web")
    an_archive(sends_results=False)
    an_archive("off", is_enabled=False)

    answer = client.get("/api/pacs/").json()

    assert answer == {
        "servers": [
            {"name": "attic", "is_default": False, "can_search": True, "sends_results": False},
            {"name": "default", "is_default": True, "can_search": True, "sends_results": True},
        ]
    }


def test_a_search_shows_what_is_there_and_which_of_it_is_here(client, doctor, archive) -> None:
    server, study = an_archive(), a_study(doctor, uid="1.2.3")
    a_study(a_user("stranger"), uid="1.2.4")
    archive.studies = {
        "1.2.3": FoundStudy("1.2.3", "DOE^JANE", "4711", "2026-01-31", "Brain", "A7", ("MR",), 4, 96),
        "1.2.4": FoundStudy("1.2.4"),
    }

    answer = search(client, patient_id="4711").json()

    assert answer["is_complete"]
    assert answer["studies"][0] == {
        "uid": "1.2.3",
        "patient_name": "DOE^JANE",
        "patient_id": "4711",
        "date": "2026-01-31",
        "description": "Brain",
        "accession": "A7",
        "modalities": ["MR"],
        "series_count": 4,
        "study": study.pk,
    }
    assert answer["studies"][1]["study"] is None
    noted = Entry.objects.get(action="pacs.search")
    assert (noted.actor, noted.ids) == (f"user:{doctor.pk}", {"archive": str(server.pk)})


def test_more_than_a_page_is_said_to_be_more(client, archive) -> None:
    an_archive()
    archive.studies = {f"1.{number}": FoundStudy(f"1.{number}") for number in range(150)}

    answer = search(client, patient_name="doe").json()

    assert (len(answer["studies"]), answer["is_complete"]) == (100, False)


@pytest.mark.parametrize(
    ("typed", "status", "code"),
    [
        ({}, 422, "search_too_wide"),
        ({"patient_name": "*"}, 422, "search_too_wide"),
        ({"patient_name": "x" * 200}, 422, "invalid_request"),
        ({"patient_id": "1\\2"}, 422, "search_too_wide"),
    ],
)
def test_a_search_that_says_too_little_is_refused(client, archive, typed, status, code) -> None:
    an_archive()

    answer = search(client, **typed)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Entry.objects.filter(action="pacs.search").exists()


def test_an_archive_that_is_away_is_a_problem_and_no_failure_of_the_server(client, archive) -> None:
    an_archive()
    archive.failures = [ArchiveAway("No connection to the archive (Connection refused).")]

    answer = search(client, patient_id="4711")

    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert (answer.json()["code"], answer.json()["detail"]) == (
        "archive_away",
        "No connection to the archive (Connection refused).",
    )


@pytest.mark.parametrize(
    ("columns", "status", "code"),
    [
        ({"name": "another"}, 404, "archive_not_found"),
        ({"is_enabled": False}, 404, "archive_not_found"),
        ({"can_search": False}, 409, "archive_cannot_search"),
    ],
)
def test_an_archive_that_cannot_be_searched_says_so(client, archive, columns, status, code) -> None:
    an_archive(**{"name": "attic", **columns})

    answer = search(client, patient_id="4711")

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_who_has_no_permission_sees_no_patients(archive) -> None:
    an_archive()
    browser = Client()
    browser.force_login(a_user("student"))

    asked = [
        search(browser, patient_id="4711"),
        browser.post("/api/pacs/attic/studies/1.2.3/pull/"),
        browser.post("/api/pacs/attic/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV/send/"),
    ]

    assert [answer.status_code for answer in asked] == [403, 403, 403]


def test_a_pull_is_asked_for_and_followed(client, doctor) -> None:
    server = an_archive()

    answer = client.post("/api/pacs/attic/studies/1.2.3/pull/")
    again = client.post("/api/pacs/attic/studies/1.2.3/pull/")

    asked = answer.json()
    assert (answer.status_code, again.json()["id"]) == (202, asked["id"])
    assert asked == {**asked, "state": "queued", "done": 0, "total": 0, "study": None, "refused": [], "error": None}
    assert client.get(f"/api/pacs/pulls/{asked['id']}/").json() == asked
    noted = Entry.objects.get(action="pacs.pull")
    assert noted.ids == {"pull": asked["id"], "archive": str(server.pk)}


def test_a_result_is_sent_and_followed(client, doctor, archive) -> None:
    server, job = an_archive(), a_result(doctor)
    archive.failures = [ArchiveAway("No connection.")]

    answer = client.post(f"/api/pacs/attic/jobs/{job.pk}/send/")
    deliveries.send_due(server.pk, opener=archive.opener, is_stopping=lambda: False)

    assert answer.status_code == 202
    shown = client.get("/api/pacs/deliveries/", {"job": job.pk}).json()["deliveries"]
    assert [(one["kind"], one["state"], one["server"]) for one in shown] == [
        ("seg", "waiting", "attic"),
        ("sr", "waiting", "attic"),
    ]
    assert shown[0]["error"] == {"code": "archive_away", "message": "No connection."}
    assert (shown[0]["attempts"], shown[0]["sent_at"], shown[1]["error"]) == (1, None, None)
    deliveries.retry(Delivery.objects.all())
    deliveries.send_due(server.pk, opener=archive.opener, is_stopping=lambda: False)
    shown = client.get("/api/pacs/deliveries/", {"job": job.pk}).json()["deliveries"]
    assert {(one["state"], one["error"]) for one in shown} == {("sent", None)}
    assert all(one["sent_at"] for one in shown)


def test_what_is_not_finished_or_another_users_is_not_sent(client, doctor) -> None:
    an_archive()
    theirs = a_result(a_user("stranger"))
    ours = a_result(doctor, uid="1.2.9", names=())

    answers = [client.post(f"/api/pacs/attic/jobs/{job.pk}/send/") for job in (theirs, ours)]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (404, "job_not_found"),
        (409, "nothing_to_send"),
    ]


def test_the_figures_count_what_waits_and_what_failed(client, doctor) -> None:
    server, job = an_archive(), a_result(doctor)
    deliveries.send(user=doctor, server=server, job_id=job.pk)
    Delivery.objects.filter(kind="sr").update(state="failed")
    Pull.objects.create(server=server, owner=doctor, study_uid="1.2.3")

    page = Client().get("/metrics").content.decode()

    for line in (
        'segwire_deliveries{state="waiting"} 1.0',
        'segwire_deliveries{state="failed"} 1.0',
        'segwire_open_pulls{state="queued"} 1.0',
    ):
        assert line in page


NEW = {
    "name": "attic",
    "url": "https://archive.example.org/dicom-web/",
    "auth": "basic",
    "username": "seg",
    "secret": "hunter2",
    "calling_aet": "SEGWIRE",
    "is_enabled": "on",
    "can_search": "on",
    "sends_since_0": "2026-01-01",
    "sends_since_1": "00:00:00",
    "poll_seconds": "60",
    "stable_seconds": "60",
}


def test_a_secret_goes_into_the_admin_and_never_comes_out(chief) -> None:
    chief.post("/admin/pacs/server/add/", NEW)
    server = Server.objects.get()
    page = chief.get(f"/admin/pacs/server/{server.pk}/change/").content.decode()
    chief.post(f"/admin/pacs/server/{server.pk}/change/", {**NEW, "secret": "", "username": "other"})

    server.refresh_from_db()
    assert (unseal(server.sealed_secret), server.username) == ("hunter2", "other")
    assert server.url == "https://archive.example.org/dicom-web"
    assert "hunter2" not in page
    assert server.sealed_secret not in page
    written = [*LogEntry.objects.values_list("change_message", flat=True), *map(str, Entry.objects.values_list("ids"))]
    assert written
    assert not any("hunter2" in text for text in written)
    assert Entry.objects.filter(action="pacs.archive").count() == 2


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://seg:hunter2@archive.example.org/"},
        {"url": "file:///etc/passwd"},
        {"url": "archive.example.org"},
        {"url": "dicom://ATTIC@10.0.0.7:104"},
        {"url": "dicom://10.0.0.7", "can_search": ""},
        {"name": "pulls"},
        {"name": "Attic 2"},
    ],
)
def test_what_cannot_work_is_not_stored(chief, change) -> None:
    answer = chief.post("/admin/pacs/server/add/", {**NEW, **change})

    assert (answer.status_code, Server.objects.count()) == (200, 0)


def test_a_dicom_archive_takes_results(chief) -> None:
    chief.post(
        "/admin/pacs/server/add/", {**NEW, "url": "dicom://ATTIC@10.0.0.7:104", "can_search": "", "auth": "none"}
    )

    assert (Server.objects.get().url, Server.objects.get().sealed_secret) == ("dicom://ATTIC@10.0.0.7:104", "")


def test_the_address_of_the_environment_is_not_changed_in_the_admin(chief, settings) -> None:
    settings.DICOMWEB = place_of("http://seg:hunter2@127.0.0.1:8042/dicom-web")
    services.know_default()
    server = Server.objects.get()

    chief.post(f"/admin/pacs/server/{server.pk}/change/", {**NEW, "watches_for_new": "on", "stable_seconds": "5"})

    server.refresh_from_db()
    assert (server.url, server.name, server.stable_seconds) == ("http://127.0.0.1:8042/dicom-web", "default", 5)


def run(chief: Client, page: str, action: str, *keys: Any) -> str:
    told = {"action": action, "_selected_action": list(keys)}
    return chief.post(f"/admin/pacs/{page}/", told, follow=True).content.decode()


def test_the_connection_is_tested_from_the_admin(chief, archive) -> None:
    server = an_archive()
    archive.failures = [ArchiveAway("No connection to the archive (Connection refused).")]

    assert "Connection refused" in run(chief, "server", "test_connection", server.pk)
    assert Server.objects.get().trouble
    assert "It answers." in run(chief, "server", "test_connection", server.pk)
    assert not Server.objects.get().trouble


def test_what_failed_is_tried_again_from_the_admin(chief, doctor) -> None:
    server, job = an_archive(), a_result(doctor)
    deliveries.write_owed(since=server.sends_since)
    Delivery.objects.update(state="failed", error_code="archive_refused")
    pull = Pull.objects.create(server=server, owner=doctor, study_uid="1.2.3", state="failed")

    run(chief, "delivery", "retry", *Delivery.objects.values_list("pk", flat=True))
    run(chief, "pull", "retry", pull.pk)

    assert set(Delivery.objects.values_list("state", flat=True)) == {"waiting"}
    assert Pull.objects.get().state == "queued"
    assert Entry.objects.filter(action="pacs.send", ids={"job": job.pk}).exists()


@pytest.mark.parametrize("page", ["server", "pull", "delivery", "rule", "sighting"])
def test_every_page_of_the_admin_opens(chief, page) -> None:
    an_archive()

    assert chief.get(f"/admin/pacs/{page}/").status_code == 200


def test_a_rule_with_a_broken_pattern_is_not_stored(chief, doctor) -> None:
    told = {"name": "brains", "position": "1", "is_enabled": "on", "modality": "MR", "priority": "batch"}

    refused = chief.post("/admin/pacs/rule/add/", {**told, "owner": doctor.pk, "study_description": "(brain"})
    chief.post("/admin/pacs/rule/add/", {**told, "owner": doctor.pk, "study_description": "brain|head"})

    assert "no regular expression" in refused.content.decode()
    assert Rule.objects.get().study_description == "brain|head"
    assert pacs_admin.PATTERNS
