"""What narrows or ends a person's rights reaches their open sockets at once, not at the next look in five minutes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from server.imaging.models import Study
from tests.frontend_bridge.sockets import connected, follow, heard, in_thread, says
from tests.server.shelf import a_study, a_user

pytestmark = pytest.mark.django_db(transaction=True)

Change = Callable[[User, Group, Study], object]


@pytest.fixture
def reader() -> User:
    """Sees the study as a member of the group alone."""
    return a_user("reader")


@pytest.fixture
def group(reader: User) -> Group:
    made = Group.objects.create(name="neuro")
    reader.groups.add(made)
    return made


@pytest.fixture
def study(group: Group) -> Study:
    made = a_study(a_user("owner"))
    made.groups.add(group)
    return made


def _is_deactivated(user: User, *_: object) -> None:
    user.is_active = False
    user.save()


def _gets_a_password(user: User, *_: object) -> None:
    user.set_password("another-secret-word")
    user.save()


def _by_an_administrator(user: User, *_: object) -> None:
    a_user("boss", is_staff=True)
    User.objects.filter(username="boss").update(is_superuser=True)
    boss = Client()
    boss.force_login(User.objects.get(username="boss"))
    answer = boss.post(
        f"/admin/auth/user/{user.pk}/password/", {"password1": "w0rds-are-w1nd", "password2": "w0rds-are-w1nd"}
    )
    assert answer.status_code == 302, answer.content


@pytest.mark.parametrize("change", [_is_deactivated, _gets_a_password, _by_an_administrator])
async def test_who_may_not_be_signed_in_any_more_is_put_out(reader, group, study, change: Change):
    async with connected(reader) as socket:
        await follow(socket, f"study:{study.pk}")
        await in_thread(change)(reader, group, study)
        frames = await heard(socket, "close")

    assert [frame.get("code") for frame in frames] == [4501, 4501]
    assert frames[0]["reconnect"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda _, group, study: study.groups.remove(group),
        lambda _, __, study: study.groups.clear(),
        lambda _, group, study: group.studies.remove(study),
        lambda reader, group, _: reader.groups.remove(group),
        lambda reader, _, __: reader.groups.clear(),
        lambda reader, group, _: group.user_set.remove(reader),
        lambda _, group, __: group.user_set.clear(),
        lambda _, group, __: group.delete(),
    ],
    ids=[
        "study unshared",
        "study shared with nobody",
        "group loses the study",
        "user leaves the group",
        "user leaves all groups",
        "group loses the user",
        "group is emptied",
        "group is deleted",
    ],
)
async def test_a_study_that_may_not_be_seen_any_more_is_left_with_a_word(reader, group, study, change: Change):
    topic = f"study:{study.pk}"
    async with connected(reader) as socket:
        await follow(socket, topic, id="s1")
        await in_thread(change)(reader, group, study)
        (error,) = await heard(socket, "error")
        await says(socket, t="ping")
        (pong,) = await heard(socket, "pong")

    assert (error["code"], error["topic"], error["id"]) == ("study_not_found", topic, "s1")
    assert pong["t"] == "pong"


async def test_an_owner_who_gives_a_study_away_sees_it_no_longer(study):
    owner = await in_thread(User.objects.get)(username="owner")
    heir = await in_thread(a_user)("heir")
    async with connected(owner) as socket:
        await follow(socket, f"study:{study.pk}")
        study.owner = heir
        await in_thread(study.save)()
        (error,) = await heard(socket, "error")

    assert error["code"] == "study_not_found"


async def test_who_is_no_longer_staff_leaves_the_workers_and_stays_signed_in():
    boss = await in_thread(a_user)("boss", is_staff=True)
    async with connected(boss) as socket:
        await follow(socket, "workers")
        boss.is_staff = False
        await in_thread(boss.save)()
        (error,) = await heard(socket, "error")
        await says(socket, t="ping")
        (pong,) = await heard(socket, "pong")

    assert (error["code"], error["topic"]) == ("not_allowed", "workers")
    assert pong["t"] == "pong"
