"""Rows of studies that came by C-STORE, for the rules."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from server.pacs.models import LONGEST_SENTENCE, Sighting
from server.pacs.rules import Facts

State = Sighting.State


def note_read(study_uid: str, facts: Facts, *, images: int, study_id: str) -> None:
    """A study is here; the rules look at it next. One that was analysed already stays as it is."""
    _note(study_uid, facts, images=images, state=State.HERE, study_id=study_id, reason="")


def note_refused(study_uid: str, facts: Facts, *, images: int, reason: str) -> None:
    """Nothing of what came could be read."""
    _note(study_uid, facts, images=images, state=State.PASSED, reason=reason[:LONGEST_SENTENCE])


@transaction.atomic
def _note(study_uid: str, facts: Facts, **columns: Any) -> None:
    told = {**columns, "facts": facts.plain(), "grown_at": timezone.now()}
    row, is_new = Sighting.objects.get_or_create(server=None, study_uid=study_uid, defaults=told)
    if not is_new and row.state != State.STARTED:
        Sighting.objects.filter(pk=row.pk, state=row.state).update(**told)
