"""The jobs API over HTTP, field by field as contract.md has it."""

import hashlib
import json

import pytest
from django.test import Client
from django.utils import timezone

from server.accounts.services import issue_api_token
from server.audit.models import Entry
from server.core.events import Finished, Leased, Started
from server.imaging import storage
from server.imaging.models import Mask
from server.jobs import services
from server.jobs.api import preferred_wait
from server.jobs.models import Job
from tests.server.shelf import a_study, a_user, four_series

pytestmark = pytest.mark.django_db

JOBS = "/api/mri/segmentation/jobs/"


@pytest.fixture
def reader():
    return a_user()


@pytest.fixture
def four(reader):
    return four_series(a_study(reader))


@pytest.fixture
def client(reader):
    return signed_in(reader)


def signed_in(user) -> Client:
    return Client(headers={"Authorization": f"Bearer {issue_api_token(user=user)}"})


def click(client: Client, four, *, query: str = "", headers: dict[str, str] | None = None, **body):
    fields = {"sequence_series_ids": [one.pk for one in four], **body}
    url = f"/api/mri/segmentation/series/{four[1].pk}/segment/{query}"
    return client.post(url, json.dumps(fields), content_type="application/json", headers=headers or {})


CHANGE = {"since": "2025-11-01", "regions": {"WT": {"before_ml": 0.0, "after_ml": 3.0, "ml": 3.0, "percent": None}}}


def finish(job_id: str, *, with_seg: bool = False) -> None:
    """The job ends with a mask on the disk."""
    said = {"at": timezone.now(), "fence": 1, "worker_id": "w1"}
    services.record(job_id, Leased(at=said["at"], worker_id="w1"))
    services.record(job_id, Started(**said))
    folder = storage.path_of(f"masks/{job_id}")
    folder.mkdir(parents=True, exist_ok=True)
    beside = {"report.dcm": "sr", "key-1.dcm": "key", "summary.dcm": "pdf"} if with_seg else {}
    for name in ("mask.nii.gz", "mask.dcm", "report.json", "summary.pdf", *beside):
        (folder / name).write_bytes(name.encode())

    def store() -> None:
        Mask.objects.create(
            job_id=job_id,
            series=Job.objects.get(pk=job_id).series,
            nii_path=f"masks/{job_id}/mask.nii.gz",
            seg_path=f"masks/{job_id}/mask.dcm" if with_seg else None,
            report_path=f"masks/{job_id}/report.json",
            sha256=hashlib.sha256(b"mask.nii.gz").hexdigest(),
            size=11,
            volumes_ml={"WT": 3.0, "TC": 2.0, "ET": 1.0},
            pdf_sha256=hashlib.sha256(b"summary.pdf").hexdigest(),
            dicom_objects=[
                {"kind": kind, "name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()}
                for name, kind in beside.items()
            ],
            change=CHANGE if with_seg else None,
        )

    services.record(job_id, Finished(**said, result_id="r"), together_with=store)


def test_a_click_is_answered_with_the_job_and_where_it_is(client, four):
    answer = click(client, four)

    assert answer.status_code == 202
    job = answer.json()
    assert answer["Location"] == f"{JOBS}{job['id']}/"
    assert (job["state"], job["route"], job["queue_position"], job["waiting_reason"]) == (
        "queued",
        "server",
        1,
        "no_worker",
    )
    assert job["sequence_series_ids"] == [one.pk for one in four]
    assert (job["seq"], job["error"], job["result"]) == (1, None, None)
    assert client.get(answer["Location"]).json() == job


def test_the_route_may_be_chosen_in_the_query(client, four):
    assert click(client, four, query="?use_local=true").json()["route"] == "lab"
    assert click(client, four, query="?use_local=false").json()["route"] == "server"


def test_the_same_click_twice_is_the_same_job(client, four):
    assert click(client, four).json()["id"] == click(client, four).json()["id"]


def test_an_idempotency_key_answers_with_its_job_even_after_the_end(client, four):
    first = click(client, four, headers={"Idempotency-Key": "abc"}).json()
    client.post(f"{JOBS}{first['id']}/cancel/")

    again = click(client, four, headers={"Idempotency-Key": "abc"}).json()

    assert (again["id"], again["state"]) == (first["id"], "cancelled")
    assert click(client, four).json()["id"] != first["id"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"sequence_series_ids": ["a", "b", "c", "d", "e"]}, 422, "sequences_unclear"),
        ({"sequence_series_ids": ["a", "b"]}, 404, "series_not_found"),
        ({"sequence_series_ids": []}, 422, "invalid_request"),
        ({"sequence_series_ids": ["a", "b", "c", "d"]}, 404, "series_not_found"),
        ({"priority": "at once"}, 422, "invalid_request"),
        ({"model": "../weights"}, 422, "invalid_request"),
    ],
)
def test_a_click_that_is_not_clear_is_a_problem(client, four, body, status, code):
    answer = click(client, four, **body)

    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["code"] == code


def test_nobody_clicks_unsigned(four):
    assert click(Client(), four).status_code == 401


def test_the_jobs_of_a_study_of_somebody_else_are_not_there(client, four):
    job = click(client, four).json()
    stranger = signed_in(a_user("stranger"))

    answers = [
        stranger.get(f"{JOBS}{job['id']}/"),
        stranger.get(f"{JOBS}{job['id']}/events"),
        stranger.post(f"{JOBS}{job['id']}/cancel/"),
        stranger.get(f"{JOBS}{job['id']}/mask.nii.gz"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert stranger.get(JOBS).json() == {"jobs": []}
    assert Job.objects.get().state == "queued"


def test_the_list_shows_the_newest_first_and_can_be_narrowed(client, four):
    old = click(client, four).json()["id"]
    client.post(f"{JOBS}{old}/cancel/")
    new = click(client, four).json()["id"]

    def ids(query: str = "") -> list[str]:
        return [job["id"] for job in client.get(JOBS + query).json()["jobs"]]

    assert ids() == [new, old]
    assert ids("?state=open") == [new]
    assert ids("?state=cancelled") == [old]
    assert ids("?study=other") == []


def test_cancelling_ends_in_cancelled_unless_the_job_has_ended(client, four):
    first = click(client, four).json()["id"]
    answer = client.post(f"{JOBS}{first}/cancel/")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")

    second = click(client, four).json()["id"]
    finish(second)
    answer = client.post(f"{JOBS}{second}/cancel/")
    assert (answer.status_code, answer.json()["state"]) == (202, "succeeded")


def test_waiting_answers_with_the_finished_job(client, four):
    first = click(client, four, headers={"Idempotency-Key": "k"}).json()["id"]
    finish(first)

    answer = click(client, four, headers={"Idempotency-Key": "k", "Prefer": "wait=30"})

    assert (answer.status_code, answer["Preference-Applied"]) == (200, "wait=30")
    assert answer.json()["result"]["volumes_ml"] == {"WT": 3.0, "TC": 2.0, "ET": 1.0}


def test_waiting_too_short_answers_as_if_nothing_had_been_asked(client, four):
    answer = click(client, four, headers={"Prefer": "wait=0"})

    assert (answer.status_code, answer.has_header("Preference-Applied")) == (202, False)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("wait=5", 5.0),
        ("respond-async, wait=10", 10.0),
        ('Wait="7"', 7.0),
        ("wait=600", 60.0),
        ("wait=soon", None),
        ("wait=5; x=y", 5.0),
    ],
)
def test_the_preference_is_read_as_the_standard_writes_it(header, seconds):
    assert preferred_wait(header) == seconds


def test_the_log_can_be_read_from_a_position(client, four):
    job = click(client, four).json()
    client.post(f"{JOBS}{job['id']}/cancel/")

    everything = client.get(f"{JOBS}{job['id']}/events").json()
    rest = client.get(f"{JOBS}{job['id']}/events?since=1").json()
    nothing = client.get(f"{JOBS}{job['id']}/events?since=2").json()

    assert [event["type"] for event in everything["events"]] == ["queued", "cancelled"]
    assert (rest["seq"], [event["seq"] for event in rest["events"]]) == (2, [2])
    assert rest["events"][0]["job"]["state"] == "cancelled"
    assert (nothing["seq"], nothing["events"], nothing["epoch"]) == (2, [], job["epoch"])


def test_the_results_are_attachments_with_a_tag(client, four):
    job_id = click(client, four).json()["id"]
    finish(job_id, with_seg=True)
    result = client.get(f"{JOBS}{job_id}/").json()["result"]

    mask = client.get(result["mask_url"])

    assert mask.content == b"mask.nii.gz"
    assert (mask["ETag"], mask["Content-Disposition"]) == (
        f'"{result["sha256"]}"',
        f'attachment; filename="{job_id}.nii.gz"',
    )
    assert client.get(result["mask_url"], headers={"If-None-Match": mask["ETag"]}).status_code == 304
    assert client.head(result["mask_url"]).headers["ETag"] == mask["ETag"]
    assert client.get(result["seg_url"]).content == b"mask.dcm"
    assert client.get(result["report_url"])["Content-Type"] == "application/json"


def test_there_is_no_result_before_the_end_and_no_seg_without_dicom(client, four):
    job_id = click(client, four).json()["id"]
    early = client.get(f"{JOBS}{job_id}/mask.nii.gz")
    assert (early.status_code, early.json()["code"]) == (409, "result_not_ready")

    finish(job_id)

    assert client.get(f"{JOBS}{job_id}/").json()["result"]["seg_url"] is None
    assert client.get(f"{JOBS}{job_id}/mask.dcm").json()["code"] == "seg_not_available"


def test_what_lies_beside_the_mask_is_handed_out_and_noted_by_name(client, four):
    job_id = click(client, four).json()["id"]
    finish(job_id, with_seg=True)
    result = client.get(f"{JOBS}{job_id}/").json()["result"]

    urls = (result["sr_url"], result["pdf_url"], f"{JOBS}{job_id}/summary.dcm", *result["key_image_urls"])
    answers = [client.get(url) for url in urls]

    assert [answer.content.decode() for answer in answers] == ["report.dcm", "summary.pdf", "summary.dcm", "key-1.dcm"]
    assert {answer["Content-Type"] for answer in answers} == {"application/dicom", "application/pdf"}
    assert answers[1]["Content-Disposition"] == f'attachment; filename="{job_id}.summary.pdf"'
    assert result["change"] == {"WT": {"ml": 3.0, "percent": None}, "since": "2025-11-01"}
    noted = Entry.objects.filter(action="result.download").order_by("pk").values_list("ids", flat=True)
    assert [ids["form"] for ids in noted] == ["report.dcm", "summary.pdf", "summary.dcm", "key-1.dcm"]


def test_a_result_of_nifti_has_a_summary_and_no_dicom_objects(client, four):
    job_id = click(client, four).json()["id"]
    finish(job_id)
    result = client.get(f"{JOBS}{job_id}/").json()["result"]

    answers = [client.get(f"{JOBS}{job_id}/{name}") for name in ("report.dcm", "summary.dcm", "key/1.dcm")]

    assert [answer.json()["code"] for answer in answers] == ["file_not_available"] * 3
    assert (result["sr_url"], result["key_image_urls"], result["change"]) == (None, [], None)
    assert client.get(result["pdf_url"]).content == b"summary.pdf"
    assert client.get(f"{JOBS}{job_id}/key/100.dcm").status_code == 422


def test_the_open_requests_are_listed_as_the_polling_worker_read_them(client, four):
    job = click(client, four).json()
    staff = signed_in(a_user("staff", is_staff=True))

    found = staff.get("/api/mri/segmentation/pending-requests/").json()

    assert found == {
        "requests": [
            {
                "request_id": job["id"],
                "series_id": four[1].pk,
                "sequence_series_ids": [one.pk for one in four],
                "created_at": job["created_at"],
                "state": "queued",
            }
        ]
    }
    assert client.get("/api/mri/segmentation/pending-requests/").status_code == 403
    assert Client().get("/api/mri/segmentation/pending-requests/").status_code == 401
