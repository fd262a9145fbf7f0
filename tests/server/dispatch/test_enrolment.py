"""A machine becomes a worker by a one-time token and the proof of a key."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from server.audit.models import Entry
from server.core.job import State
from server.dispatch import enrolment, keys, services, sessions
from server.dispatch.enrolment import Permission
from server.dispatch.models import EnrolToken, Worker
from server.topics.selectors import events_since
from tests.server.dispatch.fakes import Machine
from tests.server.dispatch.scenes import QUIET, a_job, a_worker, an_arrival, reread, running, session_of

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


def test_the_command_binds_a_token():
    out = StringIO()
    bound = ("--label", "gpu", "--label", "floor-2", "--network", "10.1.2.3/16", "--needs-approval")

    call_command("enrol_token", "lab-1", *bound, stdout=out)

    token = EnrolToken.objects.get()
    assert (token.labels, token.network, token.needs_approval) == (["gpu", "floor-2"], "10.1.0.0/16", True)
    with pytest.raises(CommandError, match="the basement is no network"):
        call_command("enrol_token", "lab-1", "--network", "the basement", stdout=out)


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


def test_whoever_is_revoked_stays_so():
    """Its key may have been stolen; a new enrolment brings a new key."""
    worker = a_worker()
    services.set_state(worker, Worker.State.REVOKED)

    services.set_state(worker, Worker.State.ACTIVE)

    worker.refresh_from_db()
    assert worker.state == "revoked"


@pytest.mark.parametrize(
    ("network", "status"),
    [("", 200), ("127.0.0.0/8", 200), ("10.1.0.0/16", 403), ("::/0", 403), ("127.0.0.1/32", 200)],
)
def test_a_token_may_be_bound_to_a_network(network, status):
    token = enrolment.issue(Permission(name="lab-1", network=network))

    answer = enrol(Machine().application(token))

    assert answer.status_code == status
    assert EnrolToken.objects.get().uses_left == (0 if status == 200 else 1)


def test_a_machine_is_in_its_network_by_either_protocol():
    """A socket that listens on both protocols shows IPv4 clients as ::ffff:10.1.2.3."""
    token = enrolment.issue(Permission(name="lab-1", network="10.1.0.0/16"))
    application = enrolment.Application(**Machine().application(token), address="::ffff:10.1.2.3")

    assert enrolment.enrol(application).name == "lab-1"


def test_a_token_may_be_for_several_machines_and_binds_their_labels():
    token = enrolment.issue(Permission(name="lab", labels=("gpu", "floor-2"), uses=2))

    answers = [enrol(Machine().application(token)).status_code for _ in range(3)]

    assert answers == [200, 200, 403]
    assert {tuple(worker.labels) for worker in Worker.objects.all()} == {("gpu", "floor-2")}


def test_a_machine_may_have_to_wait_for_approval(client):
    client.force_login(a_chief())
    enrol(Machine().application(enrolment.issue(Permission(name="lab-1", needs_approval=True))))
    worker = Worker.objects.get()
    waiting = str(worker.state)

    client.post("/admin/dispatch/worker/", {"action": "approve", "_selected_action": [worker.pk]})

    worker.refresh_from_db()
    assert (waiting, worker.state) == ("pending", "active")


def test_approval_brings_no_suspended_worker_back(client):
    client.force_login(a_chief())
    worker = a_worker()
    services.set_state(worker, Worker.State.SUSPENDED)

    client.post("/admin/dispatch/worker/", {"action": "approve", "_selected_action": [worker.pk]})

    worker.refresh_from_db()
    assert worker.state == "suspended"


def test_a_key_that_was_anybodys_is_no_new_workers():
    """An old key stays its worker's, so that nobody enrols with what was stolen from its disk."""
    machine = Machine()
    Worker.objects.create(name="first", public_key="x", old_public_key=machine.public_key)

    answer = enrol(machine.application(services.issue_enrol_token(name="lab-1")))

    assert answer.status_code == 403


def test_the_admin_makes_a_token_with_everything_it_may_be_bound_to(client):
    client.force_login(a_chief())
    form = {"name": "lab-1", "route": "lab", "labels": "gpu, floor-2,", "network": "10.1.2.3/16", "uses": 3, "hours": 2}

    page = client.post("/admin/dispatch/enroltoken/add/", {**form, "needs_approval": "on"})
    wrong = client.post("/admin/dispatch/enroltoken/add/", {**form, "network": "the basement"})

    token = EnrolToken.objects.get()
    assert keys.is_enrol_token(page.context["token"])
    assert (token.labels, token.network, token.uses_left) == (["gpu", "floor-2"], "10.1.0.0/16", 3)
    assert token.needs_approval
    assert token.expires_at > timezone.now() + timedelta(minutes=119)
    assert wrong.context["token"] == ""


def test_the_admin_drains_a_worker_and_takes_it_back(client):
    client.force_login(a_chief())
    worker = a_worker()
    page = "/admin/dispatch/worker/"

    client.post(page, {"action": "drain", "_selected_action": [worker.pk], "minutes": "5"})
    worker.refresh_from_db()
    drained, left = session_of(worker).is_draining, worker.drain_until - timezone.now()
    client.post(page, {"action": "undrain", "_selected_action": [worker.pk]})

    worker.refresh_from_db()
    assert (drained, timedelta(minutes=4) < left <= timedelta(minutes=5)) == (True, True)
    assert (session_of(worker).is_draining, worker.is_drain_wanted, worker.drain_until) == (False, False, None)


def test_a_worker_that_comes_back_is_still_drained_whatever_it_says():
    worker = a_worker()
    enrolment.drain(worker)

    seat = sessions.take_seat(an_arrival(worker), node="node", channel_name="channel.new")
    sessions.note_ready(worker.pk, seat.session, credits=1, pulse=QUIET, is_draining=False)

    assert session_of(worker).is_draining


def test_who_did_what_to_a_worker_is_written_down(client):
    chief = a_chief()
    client.force_login(chief)
    enrol(Machine().application(services.issue_enrol_token(name="lab-1")))
    worker = Worker.objects.get()

    for action in ("drain", "ask_for_new_key", "suspend", "revoke"):
        client.post("/admin/dispatch/worker/", {"action": action, "_selected_action": [worker.pk]})

    noted = [(entry.actor, entry.action) for entry in Entry.objects.order_by("id") if "worker" in entry.action]
    assert noted == [
        (f"worker:{worker.pk}", "worker.enrol"),
        (f"user:{chief.pk}", "worker.drain"),
        (f"user:{chief.pk}", "worker.want_key"),
        (f"user:{chief.pk}", "worker.suspend"),
        (f"user:{chief.pk}", "worker.revoke"),
    ]
