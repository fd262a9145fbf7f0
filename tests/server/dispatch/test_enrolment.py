"""A machine becomes a worker by a one-time token and the proof of a key."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from server.core.job import State
from server.dispatch import keys, services
from server.dispatch.models import EnrolToken, Worker
from server.topics.selectors import events_since
from tests.server.dispatch.fakes import Machine
from tests.server.dispatch.scenes import a_job, a_worker, reread, running

pytestmark = pytest.mark.django_db

URL = "/api/worker/enrol/"


def enrol(application: dict[str, str]):
    return Client().post(URL, json.dumps(application), content_type="application/json")


def test_a_token_makes_a_worker_of_its_route():
    token = services.issue_enrol_token(name="lab-1", route="server")

    answer = enrol(Machine().application(token))

    worker = Worker.objects.get()
    assert answer.status_code == 200
    assert answer.json() == {
        "worker_id": worker.pk,
        "server": "http://testserver",
        "epoch": answer.json()["epoch"],
        "storage_origin": "",
    }
    assert (worker.state, worker.route, worker.name) == ("active", "server", "lab-1")
    assert [event.kind for event in events_since("workers", 0)] == ["worker.enrolled"]


def test_the_database_does_not_know_the_token():
    token = services.issue_enrol_token(name="lab-1")

    assert EnrolToken.objects.get().digest == keys.digest_of(token)


def test_a_token_is_good_for_one_machine():
    token = services.issue_enrol_token(name="lab-1")
    enrol(Machine().application(token))

    second = enrol(Machine().application(token))

    assert (second.status_code, second.json()["code"]) == (403, "enrol_refused")
    assert Worker.objects.count() == 1


def test_the_same_request_after_a_lost_answer_is_the_same_worker():
    application = Machine().application(services.issue_enrol_token(name="lab-1"))

    first, again = enrol(application), enrol(application)

    assert again.json() == first.json()


def test_a_token_runs_out():
    token = services.issue_enrol_token(name="lab-1")
    EnrolToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert enrol(Machine().application(token)).status_code == 403


def test_all_refusals_look_the_same():
    token = services.issue_enrol_token(name="lab-1")
    machine = Machine()
    good = machine.application(token)

    answers = [
        enrol({**good, "proof": Machine().application(token)["proof"]}),
        enrol({**good, "name": "another name"}),
        enrol({**good, "public_key": "AAAA"}),
        enrol(machine.application(keys.new_enrol_token())),
        enrol(machine.application("sege_x")),
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {(403, answers[0].content)}
    assert EnrolToken.objects.get().uses_left == 1


def test_the_command_prints_the_token_alone():
    out = StringIO()

    call_command("enrol_token", "lab-1", "--route", "lab", stdout=out)

    token = out.getvalue().removesuffix("\n")
    assert keys.is_enrol_token(token)
    assert enrol(Machine().application(token)).status_code == 200


def test_a_revoked_worker_loses_its_jobs_at_once():
    job, worker = a_job(), a_worker()
    running(job, worker)

    services.set_state(worker, Worker.State.REVOKED)

    assert (reread(job).state, reread(job).causes[-1]["code"]) == (State.QUEUED, "worker_revoked")


def test_a_suspended_worker_keeps_what_it_runs():
    job, worker = a_job(), a_worker()
    running(job, worker)

    services.set_state(worker, Worker.State.SUSPENDED)

    assert reread(job).state == State.RUNNING


def a_chief():
    return User.objects.create_superuser("chief", password="not-so-secret")


def test_the_admin_shows_a_new_token_once(client):
    client.force_login(a_chief())
    page = "/admin/dispatch/enroltoken/add/"

    form = client.get(page)
    shown = client.post(page, {"name": "lab-1", "route": "lab"})

    token = shown.context["token"]
    assert b'name="name"' in form.content
    assert keys.is_enrol_token(token)
    assert token.encode() in shown.content
    assert "no-store" in shown["Cache-Control"]
    assert token.encode() not in client.get("/admin/dispatch/enroltoken/").content


def test_the_admin_lists_workers_and_changes_their_state(client):
    client.force_login(a_chief())
    job, worker = a_job(), a_worker()
    running(job, worker)

    page = client.get("/admin/dispatch/worker/")
    client.post("/admin/dispatch/worker/", {"action": "suspend", "_selected_action": [worker.pk]})

    assert job.pk.encode() in page.content
    worker.refresh_from_db()
    assert worker.state == "suspended"
    assert client.get(f"/admin/dispatch/worker/{worker.pk}/change/").status_code == 200
    assert client.get("/admin/jobs/job/").status_code == 200
