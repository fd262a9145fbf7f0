"""Only what a view has a field for reaches a browser."""

import json

import pytest

from frontend_bridge import messages as m
from frontend_bridge import relay
from tests.frontend_bridge import samples

SECRETS = {
    "fence": 7,
    "lease_until": "2026-11-01T10:00:20+00:00",
    "data_token": "secret-token",
    "nii_path": "/srv/segwire/masks/01JOB/mask.nii.gz",
    "public_key": "secret-key",
    "patient_name": "Somebody",
}


def test_a_job_keeps_what_the_contract_promises():
    snapshot = samples.job()

    told = json.loads(m.encode(relay.job_event("job:01JOB", seq=3, kind="progressed", snapshot=snapshot)))

    assert told["t"] == "event"
    assert told["job"] == snapshot


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_of_a_lease_a_token_a_path_or_a_key_gets_through(secret):
    value = SECRETS[secret]

    frames = [
        relay.job_event("job:01JOB", seq=3, kind="leased", snapshot=samples.job(**{secret: value})),
        relay.worker_event("workers", seq=1, kind="connected", worker=samples.worker(**{secret: value})),
        relay.study_event("study:01", seq=1, kind="series.added", payload={"series": "01SER", secret: value}),
        relay.news("job:01JOB", kind="progress", body={"stage": "fetch", "progress": 0.1, secret: value}),
        relay.news("workers", kind="telemetry", body={"worker": samples.worker(**{secret: value})}),
    ]

    assert all(secret not in m.encode(frame) and str(value) not in m.encode(frame) for frame in frames)


def test_a_result_has_its_files_and_its_change_on_the_socket_as_over_http():
    snapshot = samples.finished()

    told = json.loads(m.encode(relay.job_event("job:01JOB", seq=4, kind="succeeded", snapshot=snapshot)))

    assert told["job"]["result"] == snapshot["result"]


def test_a_result_points_into_the_api_and_nowhere_else():
    snapshot = samples.finished()
    snapshot["result"] |= {"mask_url": "https://elsewhere.example/mask.nii.gz"}

    with pytest.raises(relay.Unfit):
        relay.job_view(snapshot)


def test_a_preview_loses_its_fence_and_keeps_its_grid():
    body = {"job": "01JOB", "fence": 4, "pseq": 2, "shape": [2, 2, 2], "affine": [1.0] * 16, "labels": "eJw="}

    frame = relay.news("job:01JOB", kind="preview", body=body, id="s1")

    assert json.loads(m.encode(frame)) == {
        "t": "preview",
        "id": "s1",
        "topic": "job:01JOB",
        "pseq": 2,
        "shape": [2, 2, 2],
        "affine": [1.0] * 16,
        "labels": "eJw=",
    }


def test_news_of_an_unknown_kind_is_not_told():
    frame = relay.news("job:01JOB", kind="gossip", body={"worker": "x"})

    assert frame is None


@pytest.mark.parametrize(
    "body", [{"progress": 2.0}, {"progress": "half"}, {"progress": float("nan")}, {"stage": "sleeping"}]
)
def test_news_that_breaks_the_contract_is_refused_here_and_not_in_the_browser(body):
    with pytest.raises(relay.Unfit):
        relay.news("job:01JOB", kind="progress", body=body)


def test_a_worker_that_is_gone_is_told_as_none():
    frame = relay.worker_event("workers", seq=4, kind="removed", worker=None)

    assert json.loads(m.encode(frame))["worker"] is None
