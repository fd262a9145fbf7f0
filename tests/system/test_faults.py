"""Processes that die and come back, for real. The whole campaign is a target of its own."""

from __future__ import annotations

import signal

import httpx
import pytest

from tests.system.stack import Stack, click, demo_patient, ended, wait_for

pytestmark = pytest.mark.system


def _is_running(client: httpx.Client, job_id: str) -> bool:
    return bool(client.get(f"/api/mri/segmentation/jobs/{job_id}/").json()["state"] == "running")


def test_a_killed_worker_costs_an_attempt_and_not_the_job(bare_stack: Stack) -> None:
    study, home = demo_patient(bare_stack), bare_stack.enrol_worker()
    bare_stack.start_worker(home)
    with bare_stack.client() as client:
        job = click(client, study).json()
        wait_for(lambda: _is_running(client, job["id"]), seconds=20, what="running job")

        bare_stack.stop("lab", signal.SIGKILL)
        bare_stack.start_worker(home)
        done = ended(client, job["id"])

    assert done["state"] == "succeeded"
    assert done["attempt"] == 2


def test_a_restarted_server_finds_the_job_where_it_was(bare_stack: Stack) -> None:
    """The lease outlives the restart and the worker keeps computing: same attempt, delivered once."""
    study = demo_patient(bare_stack)
    bare_stack.start_worker(bare_stack.enrol_worker())
    with bare_stack.client() as client:
        job = click(client, study).json()
        wait_for(lambda: _is_running(client, job["id"]), seconds=20, what="running job")

        bare_stack.stop("server", signal.SIGKILL)
        bare_stack.start_server()
        done = ended(client, job["id"])
        events = client.get(f"/api/mri/segmentation/jobs/{job['id']}/events", params={"since": 0}).json()["events"]

    assert done["state"] == "succeeded"
    assert done["attempt"] == 1
    assert [event["job"]["state"] for event in events].count("succeeded") == 1


def test_a_click_without_any_worker_waits_and_says_why(bare_stack: Stack) -> None:
    study, home = demo_patient(bare_stack), bare_stack.enrol_worker()
    with bare_stack.client() as client:
        job = click(client, study).json()

        waiting = client.get(f"/api/mri/segmentation/jobs/{job['id']}/").json()
        bare_stack.start_worker(home)
        done = ended(client, job["id"])

    assert (waiting["state"], waiting["waiting_reason"], waiting["queue_position"]) == ("queued", "no_worker", 1)
    assert done["state"] == "succeeded"


def test_the_server_computes_with_a_worker_of_its_own(bare_stack: Stack) -> None:
    """The request overrides USE_LOCAL_INFERENCE=true: the job stays on the server, and the same messages are spoken."""
    study = demo_patient(bare_stack)
    with bare_stack.client() as client:
        job = click(client, study, use_local="false").json()
        done = ended(client, job["id"])

    assert job["route"] == "server"
    assert done["state"] == "succeeded", done["error"]


def test_both_programs_end_in_order_when_asked(bare_stack: Stack) -> None:
    bare_stack.start_worker(bare_stack.enrol_worker())

    codes = [bare_stack.stop("lab"), bare_stack.stop("server")]

    assert codes == [0, 0]
