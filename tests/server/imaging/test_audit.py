"""Who brought something in and who took something out is written down, by ids alone."""

from __future__ import annotations

import pytest

from server.audit.models import Entry
from server.imaging.models import Series
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db


def noted(action: str) -> list[tuple[str, dict[str, str]]]:
    return [(entry.actor, entry.ids) for entry in Entry.objects.filter(action=action).order_by("pk")]


def test_a_study_that_was_brought_in_is_noted_once(client, owner):
    client.post("/api/mri/uploads/", {"files": deliveries.four_niftis()})
    client.post("/api/mri/uploads/", {"files": deliveries.four_niftis()})

    assert noted("study.upload") == [(f"user:{owner.pk}", {"study": Series.objects.first().study_id})]


def test_a_volume_that_was_taken_in_parts_is_noted_once(client, owner):
    client.post("/api/mri/uploads/", {"files": [deliveries.nifti("t1.nii")]})
    series = Series.objects.get()
    url = f"/api/mri/series/{series.pk}/volume.nii.gz"

    for part in ("bytes=0-9", "bytes=10-19", "bytes=20-"):
        client.get(url, headers={"Range": part})
    client.head(url)
    client.get(url, headers={"If-None-Match": f'"{series.volume_sha256}"'})

    assert noted("volume.download") == [(f"user:{owner.pk}", {"series": series.pk, "study": series.study_id})]


def test_what_was_refused_is_not_noted(client, stranger):
    client.post("/api/mri/uploads/", {"files": [deliveries.nifti("t1.nii")]})
    client.force_login(stranger)

    client.get(f"/api/mri/series/{Series.objects.get().pk}/volume.nii.gz")

    assert noted("volume.download") == []
