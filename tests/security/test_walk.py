"""Everybody knocks at every door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client

from server.ids import new_id
from tests.security.routes import EVERYBODY, TABLE, Row, operations, patterns
from tests.security.scene import Scene, a_scene

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def scene(django_db_setup: None, django_db_blocker: Any) -> Iterator[Scene]:
    """One for all, since every request is taken back."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield a_scene()
        transaction.set_rollback(True)


def asked(scene: Scene, method: str, route: str, row: Row, *, visitor: str, **names: str):
    """The answer to a visitor."""
    path = "/" + route.format(**{**scene.names, **row.names(scene), **names})
    return scene.visitors[visitor].ask(method, path, **row.request(scene))


def test_no_route_is_without_a_row_and_no_row_without_a_route() -> None:
    assert operations() == set(TABLE)


@pytest.mark.parametrize(("method", "route"), TABLE, ids=lambda part: part)
def test_each_visitor_gets_what_the_table_says(scene: Scene, method: str, route: str) -> None:
    row = TABLE[(method, route)]

    answers = {name: asked(scene, method, route, row, visitor=name) for name in EVERYBODY}

    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert statuses == row.expected
    if method == "GET":
        heads = {name: asked(scene, "HEAD", route, row, visitor=name) for name in ("anonymous", "owner", "other")}
        assert {name: head.status_code for name, head in heads.items()}.items() <= statuses.items()
        assert not any(head.content for head in heads.values())
    assert set(scene.visitors) == set(EVERYBODY)


@pytest.mark.parametrize(("method", "route"), [key for key, row in TABLE.items() if row.hides], ids=lambda part: part)
def test_what_is_anothers_looks_like_what_does_not_exist(scene: Scene, method: str, route: str) -> None:
    row = TABLE[(method, route)]
    visitor = "other worker" if route.startswith("api/worker/") else "other"

    hidden = asked(scene, method, route, row, visitor=visitor)
    absent = asked(scene, method, route, row, visitor=visitor, **{row.hides: new_id()})

    assert hidden.status_code == absent.status_code == 404
    assert hidden.content == absent.content
    assert dict(hidden.headers) == dict(absent.headers)


def test_lists_hold_only_what_one_may_see(scene: Scene) -> None:
    def seen(visitor: str) -> tuple[int, int]:
        ask = scene.visitors[visitor].ask
        jobs = ask("GET", "/api/mri/segmentation/jobs/").json()["jobs"]
        studies = ask("GET", "/api/mri/studies/").json()
        assert studies["count"] == len(studies["studies"])
        return len(jobs), studies["count"]

    assert {name: seen(name) for name in ("owner", "member", "other", "staff")} == {
        "owner": (2, 1),
        "member": (2, 1),
        "other": (0, 0),
        "staff": (3, 2),
    }


def test_leaving_the_group_ends_the_sight_at_once(scene: Scene) -> None:
    member = scene.visitors["member"]
    assert member.ask("GET", f"/api/mri/studies/{scene.study.pk}/").status_code == 200

    member.user.groups.clear()

    assert member.ask("GET", f"/api/mri/studies/{scene.study.pk}/").status_code == 404
    assert member.ask("GET", f"/api/mri/segmentation/jobs/{scene.done.pk}/mask.nii.gz").status_code == 404


def admin_paths(scene: Scene) -> list[str]:
    """Every page of the admin, with an id where it wants one."""
    names = {"object_id": scene.study.pk, "app_label": "jobs", "content_type_id": "1", "url": "x", "id": "1"}
    paths = []
    for route, _ in patterns():
        if route.startswith("admin/") and "^" not in route and "(?P" not in route:
            for name, value in names.items():
                for kind in ("", "path:", "int:", "str:"):
                    route = route.replace(f"<{kind}{name}>", value)  # noqa: PLW2901
            paths.append("/" + route)
    return sorted(set(paths))


OPEN_IN_ADMIN = {"/admin/login/": 200, "/admin/logout/": 405, "/admin/jsi18n/": 302}


def test_the_admin_lets_nobody_in_who_is_not_staff(scene: Scene) -> None:
    paths = admin_paths(scene)
    assert len(paths) > 60

    for visitor in ("anonymous", "owner", "owner's program"):
        for path in paths if visitor == "owner" else paths[:20]:
            answer = scene.visitors[visitor].ask("GET", path)
            allowed = {302} | ({OPEN_IN_ADMIN[path]} if path in OPEN_IN_ADMIN else set())
            assert answer.status_code in allowed, (visitor, path)
            if path not in OPEN_IN_ADMIN and answer.status_code == 302 and "<" not in path:
                assert "/login/" in answer["Location"] or answer["Location"].startswith(path), (visitor, path)


def test_staff_see_in_the_admin_only_what_they_were_given(scene: Scene) -> None:
    staff = scene.visitors["staff"]

    assert staff.ask("GET", "/admin/").status_code == 200
    for model in ("imaging/study", "jobs/job", "dispatch/worker", "accounts/apitoken", "audit/entry", "auth/user"):
        assert staff.ask("GET", f"/admin/{model}/").status_code == 403, model


@pytest.mark.parametrize("path", ["audit/entry", "jobs/job"])
def test_not_even_a_superuser_changes_what_only_the_server_writes(scene: Scene, path: str) -> None:
    root = Client()
    root.force_login(User.objects.create_superuser("root"))
    assert root.get(f"/admin/{path}/").status_code == 200

    for verb in ("add", f"{scene.done.pk}/delete", "1/delete"):
        assert root.post(f"/admin/{path}/{verb}/", {"post": "yes"}).status_code in (302, 403)
        assert root.get(f"/admin/{path}/add/").status_code == 403
