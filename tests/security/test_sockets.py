"""Every socket and every topic, as everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import Group, User
from django.utils import timezone

from frontend_bridge.feeds import FEEDS
from server.accounts import tickets
from server.accounts.models import ApiToken
from server.accounts.services import issue_api_token
from server.config.asgi import application
from server.dispatch.enrolment import set_state
from server.dispatch.models import Worker
from server.ids import new_id
from server.jobs.models import Job
from tests.frontend_bridge.sockets import connected, heard, in_thread, says
from tests.security.scene import a_job_of
from tests.server.dispatch.fakes import Machine, Talk
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db(transaction=True)

SOCKETS = {"ws/worker/", "ws/segmentation/", "", "<path:anything>"}
MAY_FOLLOW = {
    "job": ("owner", "member", "staff"),
    "study": ("owner", "member", "staff"),
    "workers": ("staff",),
}


@pytest.fixture
def people() -> dict[str, User]:
    """The owner of a study, one of a group it is shared with, somebody else, and staff."""
    found = {name: a_user(name) for name in ("owner", "member", "other")}
    found["staff"] = a_user("chief", is_staff=True)
    found["member"].groups.add(Group.objects.create(name="ward"))
    return found


@pytest.fixture
def job(people: dict[str, User]) -> Job:
    """A job of the shared study."""
    study = a_study(people["owner"])
    study.groups.add(Group.objects.get(name="ward"))
    return a_job_of(people["owner"], four_series(study))


def topics(job: Job) -> dict[str, str]:
    """One topic of each kind."""
    return {"job": f"job:{job.pk}", "study": f"study:{job.study_id}", "workers": "workers"}


async def answered(user: User | None, **frame: Any) -> dict[str, Any]:
    """The first frame that a subscription brings."""
    async with connected(user) as socket:
        await says(socket, t="sub", **frame)
        return (await heard(socket, None))[-1]


def test_no_socket_and_no_topic_is_without_a_row() -> None:
    router = application.application_mapping["websocket"]
    assert isinstance(router, URLRouter)

    assert {str(route.pattern) for route in router.routes} == SOCKETS
    assert set(FEEDS) == set(MAY_FOLLOW)


@pytest.mark.parametrize("kind", MAY_FOLLOW)
async def test_each_topic_is_for_those_who_may_see_it(people: dict[str, User], job: Job, kind: str) -> None:
    topic = topics(job)[kind]

    answers = {name: await answered(user, topic=topic) for name, user in people.items()}
    anonymous = await answered(None, topic=topic)

    admitted = tuple(name for name in people if answers[name]["t"] == "sub.ok")
    assert sorted(admitted) == sorted(MAY_FOLLOW[kind])
    assert {answer["t"] for name, answer in answers.items() if name not in admitted} <= {"error"}
    assert (anonymous["t"], anonymous["code"]) == ("error", "unauthenticated")


@pytest.mark.parametrize("kind", ["job", "study"])
async def test_anothers_topic_looks_like_one_that_does_not_exist(people: dict[str, User], job: Job, kind: str) -> None:
    hidden = await answered(people["other"], topic=topics(job)[kind])
    absent = await answered(people["other"], topic=f"{kind}:{new_id()}")

    assert {**hidden, "topic": ""} == {**absent, "topic": ""}


@pytest.mark.parametrize("topic", ["user:1", "worker:1", "jobs:x", "job:", "job", "workers:x", "study:../x"])
async def test_what_is_no_topic_is_refused_to_staff_too(people: dict[str, User], topic: str) -> None:
    answer = await answered(people["staff"], topic=topic)

    assert answer["t"] == "error"


def _used(ticket: str) -> str:
    tickets.redeem(ticket)
    return ticket


def _revoked(user: User) -> str:
    issue_api_token(user=user)
    token = ApiToken.objects.get(user=user)
    ticket = tickets.issue(user, session_key=f"token:{token.pk}")
    ApiToken.objects.update(revoked_at=timezone.now())
    return ticket


TICKETS: dict[str, Callable[[User], str]] = {
    "made up": lambda _: "segt_" + "x" * 43,
    "used": lambda user: _used(tickets.issue(user, session_key="k")),
    "an API token": lambda user: issue_api_token(user=user),
    "of a gone session": lambda user: tickets.issue(user, session_key="gone"),
    "of a revoked token": _revoked,
}


@pytest.mark.parametrize("kind", TICKETS)
async def test_a_ticket_that_is_worth_nothing_opens_nothing(people: dict[str, User], job: Job, kind: str) -> None:
    ticket = await in_thread(TICKETS[kind])(people["owner"])

    async with connected(None, origin="https://viewer.example") as socket:
        await says(socket, t="auth", ticket=ticket)
        await says(socket, t="sub", topic=f"job:{job.pk}")
        frames = await heard(socket, "close")

    assert not any(frame["t"] in ("sub.ok", "event", "progress") for frame in frames)
    assert frames[-1]["code"] == 4501


HANDSHAKES = {
    "a page's origin": ((b"origin", b"http://testserver"),),
    "a foreign origin": ((b"origin", b"https://elsewhere.example"),),
    "a cookie": ((b"cookie", b"sessionid=x"),),
}


@pytest.mark.parametrize("kind", HANDSHAKES)
async def test_a_browser_has_no_business_at_the_workers_socket(kind: str) -> None:
    machine = Machine()
    worker = await in_thread(machine.enrolled)()
    talk = await Talk(machine, headers=HANDSHAKES[kind]).open()

    refusal = await talk.hear()
    bye = await talk.heard_bye()

    assert (refusal.code, bye.reconnect) == ("not_a_browser_endpoint", False)
    assert not await in_thread(lambda: hasattr(Worker.objects.get(pk=worker.pk), "session"))()


@pytest.mark.parametrize(
    ("state", "code"),
    [(Worker.State.REVOKED, 4510), (Worker.State.PENDING, 4501), (Worker.State.SUSPENDED, None)],
)
async def test_a_worker_is_let_in_as_its_state_allows(state: Worker.State, code: int | None) -> None:
    machine = Machine()
    worker = await in_thread(machine.enrolled)()
    await in_thread(set_state)(worker, state)
    talk = await Talk(machine).open()

    answer = await talk.sign_in(worker.pk)

    assert getattr(answer, "code", None) == code
    await talk.hang_up()
