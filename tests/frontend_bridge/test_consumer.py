"""The browser's socket on the real application: who gets in, what a real job's life looks like, how it ends."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from server.config.asgi import application
from server.core.events import Finished, Leased, Started
from server.dispatch.models import Worker
from server.imaging import storage
from server.imaging.models import Mask, Study
from server.jobs import services
from server.jobs.models import Job
from server.jobs.requests import Wish, request_segmentation
from server.topics import pokes
from server.topics.services import append
from server.topics.sockets import farewell_to_all
from tests.frontend_bridge.sockets import ORIGIN, PATH, connected, follow, heard, in_thread
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = services.Lease(worker_name="lab-1", run_model={"name": "compact", "version": "1", "sha256": "a" * 64})
MASK = gzip.compress(bytes(1000), mtime=0)


@pytest.fixture
def doctor() -> User:
    return a_user("doctor")


@pytest.fixture
def study(doctor: User) -> Study:
    return a_study(doctor)


@pytest.fixture
def job(doctor: User, study: Study) -> Job:
    four = four_series(study)
    wish = Wish(series_ref=four[1].pk, sequence_refs=tuple(one.pk for one in four))
    return Job.objects.get(pk=request_segmentation(user=doctor, wish=wish)["id"])


def finish(job: Job) -> None:
    """The rest of a job's life, as the dispatcher writes it."""
    now = timezone.now()
    Worker.objects.create(pk="w1", name="lab-1", public_key="a2V5")
    services.record(job.pk, Leased(at=now, worker_id="w1"), lease=LEASE)
    services.record(job.pk, Started(at=now, worker_id="w1", fence=1))
    name = f"masks/{job.pk}.nii.gz"
    file = storage.path_of(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(MASK)

    def store() -> None:
        Mask.objects.create(
            job_id=job.pk,
            series_id=job.series_id,
            nii_path=name,
            report_path="report.json",
            sha256=hashlib.sha256(MASK).hexdigest(),
            size=len(MASK),
            volumes_ml={"WT": 3.0, "TC": 2.0, "ET": 1.0},
        )

    services.record(job.pk, Finished(at=now, worker_id="w1", fence=1, result_id="r1"), together_with=store)


def events(frames: list[Any]) -> list[tuple[int, str]]:
    return [(one["seq"], one["type"]) for one in frames if isinstance(one, dict) and one["t"] == "event"]


@pytest.mark.parametrize(
    ("is_signed_in", "origin"),
    [(False, ORIGIN), (True, None), (True, "https://elsewhere.example"), (True, "https://testserver"), (True, "null")],
)
async def test_without_a_session_of_our_own_page_it_says_why_and_closes(doctor, is_signed_in, origin):
    """Cross-site WebSocket hijacking: a foreign page's socket carries the cookie, and the cookie does not count."""
    async with connected(doctor if is_signed_in else None, origin=origin) as socket:
        await socket.send_to(text_data='{"t":"sub","topic":"workers"}')
        frames = await heard(socket, "close")

    assert [frame["t"] for frame in frames] == ["error", "bye", "close"]
    assert frames[0]["code"] == "unauthenticated"
    assert (frames[1]["code"], frames[1]["reconnect"], frames[2]["code"]) == (4501, False, 4501)


async def test_a_job_is_followed_from_the_queue_to_the_mask(doctor, job):
    async with connected(doctor) as socket:
        start = await follow(socket, f"job:{job.pk}", id="s1")
        await in_thread(finish)(job)
        frames = await heard(socket, "mask.end")

    assert (start["recovered"], start["snapshot"]["state"], start["snapshot"]["seq"]) == (False, "queued", start["seq"])
    seqs = [seq for seq, _ in events(frames)]
    assert seqs == list(range(start["seq"] + 1, seqs[-1] + 1))
    assert frames[-4]["job"]["state"] == "succeeded"
    assert frames[-3]["sha256"] == hashlib.sha256(MASK).hexdigest() == hashlib.sha256(frames[-2]).hexdigest()
    assert all(frame["id"] == "s1" for frame in frames if isinstance(frame, dict))


async def test_who_comes_late_gets_the_final_snapshot_and_the_mask(doctor, job):
    await in_thread(finish)(job)
    async with connected(doctor) as socket:
        start = await follow(socket, f"job:{job.pk}")
        frames = await heard(socket, "mask.end")

    assert start["snapshot"]["result"]["volumes_ml"] == {"WT": 3.0, "TC": 2.0, "ET": 1.0}
    assert b"".join(frame for frame in frames if isinstance(frame, bytes)) == MASK


async def test_a_position_from_before_is_recovered_from_the_real_log(doctor, job):
    async with connected(doctor) as socket:
        first = await follow(socket, f"job:{job.pk}")
    await in_thread(finish)(job)
    async with connected(doctor) as socket:
        again = await follow(socket, f"job:{job.pk}", epoch=first["epoch"], seq=first["seq"], mask="url")
        frames = []
        while not frames or frames[-1]["job"]["state"] != "succeeded":
            frames += await heard(socket, "event")

    assert again["recovered"] is True
    assert [seq for seq, _ in events(frames)] == list(range(first["seq"] + 1, first["seq"] + 1 + len(frames)))


@pytest.mark.parametrize("topic_of", [lambda job: f"job:{job.pk}", lambda job: f"study:{job.study_id}"])
async def test_another_doctor_sees_nothing_of_it(job, topic_of: Callable[[Job], str]):
    other = await in_thread(a_user)("other")
    async with connected(other) as socket:
        await socket.send_to(text_data=json.dumps({"t": "sub", "topic": topic_of(job)}))
        (error,) = await heard(socket, "error")

    assert error["code"].endswith("not_found")


async def test_progress_and_preview_come_as_news_without_a_fence(doctor, job):
    topic = f"job:{job.pk}"
    body = {"pseq": 1, "shape": [1, 1, 1], "affine": [1.0] * 16, "labels": "eJw=", "fence": 3}
    async with connected(doctor) as socket:
        await follow(socket, topic)
        await pokes.anews(topic, kind="progress", body={"stage": "inference", "progress": 0.25, "fence": 3})
        progress = await heard(socket, "progress")
        await pokes.anews(topic, kind="preview", body=body)
        preview = await heard(socket, "preview")

    assert progress[-1]["progress"] == 0.25
    assert preview[-1]["labels"] == "eJw="
    assert "fence" not in {*progress[-1], *preview[-1]}


async def test_a_study_tells_of_its_jobs_and_its_series(doctor, job):
    topic = f"study:{job.study_id}"
    async with connected(doctor) as socket:
        start = await follow(socket, topic)
        await in_thread(append)(topic, kind="series.added", payload={"series": "01SER", "path": "/srv/x"})
        (event,) = await heard(socket, "event")

    assert [one["id"] for one in start["snapshot"]["jobs"]] == [job.pk]
    assert event == {
        "t": "event",
        "topic": topic,
        "seq": start["seq"] + 1,
        "type": "series.added",
        "series": "01SER",
        "job": None,
    }


async def test_only_staff_may_watch_the_workers(doctor):
    async with connected(doctor) as socket:
        await socket.send_to(text_data='{"t":"sub","topic":"workers"}')
        (error,) = await heard(socket, "error")

    assert error["code"] == "not_allowed"


async def test_the_administrator_sees_a_worker_change_and_never_its_key(doctor):
    boss = await in_thread(a_user)("boss", is_staff=True)
    worker = await in_thread(Worker.objects.create)(name="lab-pc", public_key="c2VjcmV0LWtleQ==")
    async with connected(boss) as socket:
        start = await follow(socket, "workers")
        await in_thread(append)("workers", kind="connected", payload={"worker": worker.pk})
        (event,) = await heard(socket, "event")

    assert [one["name"] for one in start["snapshot"]["workers"]] == ["lab-pc"]
    assert event["worker"]["id"] == worker.pk
    assert "c2VjcmV0" not in json.dumps([start, event])


async def test_signing_out_ends_open_sockets(doctor):
    browser = Client()
    await in_thread(browser.force_login)(doctor)
    cookie = f"sessionid={browser.cookies['sessionid'].value}".encode()
    headers = [(b"host", b"testserver"), (b"origin", ORIGIN.encode()), (b"cookie", cookie)]
    socket = WebsocketCommunicator(application, PATH, headers=headers)
    await socket.connect(timeout=5)
    await socket.send_to(text_data='{"t":"ping"}')
    await heard(socket, "pong")

    await in_thread(browser.post)("/logout/")
    frames = await heard(socket, "close")
    await socket.disconnect()

    assert [frame.get("code") for frame in frames] == [4501, 4501]


async def test_a_message_of_an_unknown_type_to_the_group_costs_no_socket(doctor, job):
    """Channels ends every member's connection on an unknown type or an exception in a handler (1011)."""
    topic = f"job:{job.pk}"
    async with connected(doctor) as socket:
        await follow(socket, topic)
        layer = get_channel_layer()
        await layer.group_send(pokes.group_of(topic), {"type": "nobody.knows"})
        await layer.group_send(pokes.group_of(topic), {"type": "topic.news"})
        await socket.send_to(text_data='{"t":"ping","ts":5}')
        (pong,) = await heard(socket, "pong")

    assert pong["ts"] == 5


async def test_a_binary_frame_is_answered_with_a_word_and_a_close(doctor):
    async with connected(doctor) as socket:
        await socket.send_to(bytes_data=b"\x00")
        frames = await heard(socket, "close")

    assert [(frame["t"], frame["code"]) for frame in frames] == [("bye", 4503), ("close", 4503)]


async def test_a_server_that_goes_away_says_goodbye_first(doctor):
    async with connected(doctor) as socket:
        await socket.send_to(text_data='{"t":"ping"}')
        await heard(socket, "pong")
        await farewell_to_all(within_seconds=5)
        frames = await heard(socket, "close")

    assert [(frame["t"], frame["code"]) for frame in frames] == [("bye", 4000), ("close", 4000)]
    assert frames[0]["reconnect"] is True


@pytest.mark.skipif("REDIS_URL" in os.environ, reason="only the layer in memory can be looked into")
async def test_a_closed_socket_leaves_its_groups_and_no_task_behind(doctor, job):
    before = asyncio.all_tasks()
    async with connected(doctor) as socket:
        await follow(socket, f"job:{job.pk}")
    await asyncio.sleep(0)

    assert get_channel_layer().groups.get(pokes.group_of(f"job:{job.pk}"), {}) == {}
    assert asyncio.all_tasks() == before
