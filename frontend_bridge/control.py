"""Open sockets hear at once of what narrows or ends a person's rights, wherever it is changed.

Users, groups and tokens are changed by Django's own admin and commands, so the edge listens to their signals. Each only
says "look again" to the sockets of the users it may touch; what they may see is read from the database, as it is every
few minutes anyway.

Flow: 9 browser
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.http import HttpRequest

from frontend_bridge.ports import session_name
from server.accounts.models import ApiToken
from server.imaging.models import Study
from server.topics import pokes

MEMBERS_MOVED = {"post_add", "post_remove", "pre_clear"}


def listen() -> None:
    """Called once, when the app is ready."""
    uid = "frontend_bridge.control"
    user_logged_out.connect(_signed_out, dispatch_uid=uid)
    post_save.connect(_user_saved, sender=get_user_model(), dispatch_uid=uid)
    m2m_changed.connect(_members_moved, sender=get_user_model().groups.through, dispatch_uid=uid)
    m2m_changed.connect(_study_shared, sender=Study.groups.through, dispatch_uid=uid)
    pre_save.connect(_owner_looked_up, sender=Study, dispatch_uid=uid)
    post_save.connect(_study_saved, sender=Study, dispatch_uid=uid)
    pre_delete.connect(_group_deleted, sender=Group, dispatch_uid=uid)
    for signal in (post_save, pre_delete):
        signal.connect(_token_changed, sender=ApiToken, dispatch_uid=uid)


def look_again(user_ids: Iterable[Any]) -> None:
    """Tell the open sockets of these users, once the change is committed, to look at their rights again."""
    told = set(user_ids)

    def tell() -> None:
        for user_id in told:
            pokes.poke(f"user:{user_id}", seq=0)

    transaction.on_commit(tell, robust=True)


def _signed_out(*, request: HttpRequest, user: Any, **_: object) -> None:
    """Django says so before the session is gone, so looking it up again could still find it: name it instead."""
    if user is not None:
        body = {"session": session_name(request.session.session_key)}
        pokes.news(f"user:{user.pk}", kind="signed_out", body=body)


def _user_saved(*, instance: Any, update_fields: Iterable[str] | None, **_: object) -> None:
    if set(update_fields or ()) != {"last_login"}:
        look_again([instance.pk])


def _members_moved(*, instance: Any, action: str, pk_set: set[Any] | None, reverse: bool, **_: object) -> None:
    if action not in MEMBERS_MOVED:
        return
    if not reverse:
        look_again([instance.pk])
    else:
        look_again(pk_set if pk_set is not None else _members([instance.pk]))


def _study_shared(*, instance: Any, action: str, pk_set: set[Any] | None, reverse: bool, **_: object) -> None:
    if action not in MEMBERS_MOVED:
        return
    if reverse:
        look_again(_members([instance.pk]))
    else:
        look_again(_members(pk_set if pk_set is not None else instance.groups.values_list("pk", flat=True)))


def _owner_looked_up(*, instance: Study, **_: object) -> None:
    """Whose it is before the change; afterwards nobody knows."""
    before = Study.objects.filter(pk=instance.pk).exclude(owner=instance.owner_id)
    instance._owners_before = [] if instance._state.adding else list(before.values_list("owner", flat=True))


def _study_saved(*, instance: Study, **_: object) -> None:
    look_again(instance._owners_before)


def _group_deleted(*, instance: Group, **_: object) -> None:
    look_again(_members([instance.pk]))


def _token_changed(*, instance: ApiToken, created: bool = False, **_: object) -> None:
    if not created:
        look_again([instance.user_id])


def _members(group_ids: Iterable[Any]) -> list[Any]:
    return list(get_user_model().objects.filter(groups__in=list(group_ids)).values_list("pk", flat=True))
