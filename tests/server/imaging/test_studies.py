"""Who sees which study, and how its voxels come over HTTP."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.test import AsyncClient, Client

from server.imaging import selectors, services
from server.imaging.errors import SeriesNotFound
from server.imaging.models import Series, Study
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def series(owner) -> Series:
    """One stored NIfTI series of the owner."""
    return services.ingest_uploaded(owner=owner, files=[deliveries.nifti("t1.nii.gz")]).series[0]


def browser_of(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


async def fetched(user, series: Series, **headers: str):
    client = AsyncClient()
    await client.aforce_login(user)
    answer = await client.get(f"/api/mri/series/{series.pk}/volume.nii.gz", headers=headers)
    content = b"".join([piece async for piece in answer]) if answer.streaming else answer.content
    return answer, content


def test_the_owner_sees_the_study_and_its_series(client, series):
    listed = client.get("/api/mri/studies/").json()

    assert (listed["count"], listed["studies"][0]["id"]) == (1, series.study_id)
    assert client.get(f"/api/mri/studies/{series.study_id}/").json()["series"][0]["id"] == series.pk
    assert client.get(f"/api/mri/series/{series.pk}/").json()["sequence"] == "T1"
    assert client.get(f"/api/mri/series/{series.uid}/").json()["id"] == series.pk


def test_the_list_is_paged_and_ends_where_it_ends(client, series):
    beyond = client.get("/api/mri/studies/?offset=99999999999999999999&limit=0")

    assert beyond.json() == {"studies": [], "count": 1}


def test_a_study_is_found_by_the_uid_it_has_in_the_archive(client, series):
    uid = series.study.uid

    found, other = (client.get("/api/mri/studies/", {"uid": asked}).json() for asked in (uid, "1.2.3"))

    assert [one["id"] for one in found["studies"]] == [series.study_id]
    assert other == {"studies": [], "count": 0}


def test_a_stranger_sees_nothing_and_cannot_tell_it_from_what_does_not_exist(series, stranger):
    client = browser_of(stranger)

    there = client.get(f"/api/mri/series/{series.pk}/")
    nowhere = client.get("/api/mri/series/01ARZ3NDEKTSV4RRFFQ69G5FAV/")

    assert client.get("/api/mri/studies/").json() == {"studies": [], "count": 0}
    assert client.get(f"/api/mri/studies/{series.study_id}/").status_code == 404
    assert (there.status_code, there.content) == (nowhere.status_code, nowhere.content)
    assert there.json()["code"] == "series_not_found"
    assert client.get(f"/api/mri/series/{series.pk}/volume.nii.gz").status_code == 404


def test_a_member_of_a_group_it_is_shared_with_sees_it(series, stranger):
    group = Group.objects.create(name="neuroradiology")
    stranger.groups.add(group)

    services.share(study=Study.objects.get(), group=group)

    assert browser_of(stranger).get("/api/mri/studies/").json()["count"] == 1
    assert selectors.series_for(stranger, series.uid).pk == series.pk


def test_staff_see_all(series, stranger):
    stranger.is_staff = True
    stranger.save()

    assert browser_of(stranger).get("/api/mri/studies/").json()["count"] == 1


def test_of_two_users_series_with_one_identifier_ones_own_comes_first(series, stranger, owner):
    theirs = services.ingest_uploaded(owner=stranger, files=[deliveries.nifti("t1.nii.gz")]).series[0]
    owner.is_staff = True

    assert theirs.uid == series.uid
    assert selectors.series_for(owner, series.uid).pk == series.pk
    assert selectors.series_for(stranger, series.uid).pk == theirs.pk


def test_an_unknown_reference_is_not_found(owner):
    with pytest.raises(SeriesNotFound):
        selectors.series_for(owner, "1.2.3")


async def test_the_voxels_come_whole_with_their_digest(owner, series, data_dir):
    answer, content = await fetched(owner, series)

    assert answer.status_code == 200
    assert content == (data_dir / series.folder / "volume.nii.gz").read_bytes()
    assert answer["ETag"] == f'"{series.volume_sha256}"'
    assert answer["Content-Length"] == str(series.volume_size)
    assert answer["Cache-Control"].startswith("private")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"].startswith("attachment")


async def test_a_part_of_the_voxels_is_a_206(owner, series):
    _, whole = await fetched(owner, series)

    answer, part = await fetched(owner, series, range="bytes=10-29")

    assert (answer.status_code, part) == (206, whole[10:30])
    assert answer["Content-Range"] == f"bytes 10-29/{len(whole)}"
    assert (await fetched(owner, series, range="bytes=-5"))[1] == whole[-5:]
    assert (await fetched(owner, series, range="bytes=20-"))[1] == whole[20:]


async def test_a_part_of_something_else_is_answered_with_the_whole(owner, series):
    answer, content = await fetched(owner, series, **{"range": "bytes=0-3", "if-range": '"another"'})

    assert (answer.status_code, len(content)) == (200, series.volume_size)


async def test_what_the_browser_has_is_not_sent_again(owner, series):
    answer, content = await fetched(owner, series, **{"if-none-match": f'"{series.volume_sha256}"'})

    assert (answer.status_code, content) == (304, b"")


async def test_a_range_beyond_the_end_is_a_416(owner, series):
    answer, _ = await fetched(owner, series, range="bytes=99999999-")

    assert answer.status_code == 416
