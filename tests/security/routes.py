"""Every address of the server, and who gets what there. A route that is not in this table fails the walk."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from server.config.api import api
from tests.security.scene import CONTENT, SHA256, Scene

SAFE = ("GET", "HEAD", "OPTIONS")
PEOPLE = ("owner", "member", "other", "staff")
PROGRAMS = ("revoked API token", "expired API token", "API token of one who left", "made-up API token")
FORGERS = ("expired data token", "forged data token", "data token of another key", "revoked worker")
LATE = ("worker with the last attempt's token", "other worker for this job")
WORKERS = ("worker", "worker that may only fetch", "other worker", *LATE, *FORGERS)
PAGES_WITHOUT_CSRF = ("owner without CSRF", "owner on a foreign page")
EVERYBODY = ("anonymous", *PEOPLE, *PAGES_WITHOUT_CSRF, "owner's program", *PROGRAMS, *WORKERS)

Expected = dict[str, int]
Request = dict[str, Any]


def everybody(status: int, **exceptions: int) -> Expected:
    """The same for all; `exceptions` by name, with _ for a space."""
    return dict.fromkeys(EVERYBODY, status) | _named(exceptions)


def _named(exceptions: Mapping[str, int]) -> Expected:
    return {name.replace("_", " "): status for name, status in exceptions.items()}


def signed_in(status: int, *, method: str, **exceptions: int) -> Expected:
    """Whoever has a session or an API token; a change needs the CSRF token of our own page."""
    without = status if method in SAFE else 403
    return (
        everybody(401)
        | dict.fromkeys((*PEOPLE, "owner's program"), status)
        | dict.fromkeys(PAGES_WITHOUT_CSRF, without)
        | _named(exceptions)
    )


def study(status: int, *, method: str) -> Expected:
    """Owner, members of the study's groups, staff; for others it does not exist."""
    return signed_in(status, method=method, other=404)


def mine(status: int, *, method: str) -> Expected:
    """The owner alone: not the group, not staff."""
    return signed_in(status, method=method, other=404, member=404, staff=404)


def attempt(status: int, *, method: str, fetch_only: int, elsewhere: int) -> Expected:
    """The worker that holds the job, with the token of this attempt; sessions and API tokens open nothing here."""
    return everybody(401) | {
        "owner on a foreign page": 401 if method in SAFE else 403,
        "worker": status,
        "worker that may only fetch": fetch_only,
        "other worker": elsewhere,
        **dict.fromkeys(LATE, 409),
    }


@dataclass(frozen=True)
class Row:
    """One method of one address. `hides` names what is replaced by a made-up id to see that both look the same."""

    expected: Expected
    request: Callable[[Scene], Request] = lambda _: {}
    hides: str = ""
    names: Callable[[Scene], dict[str, str]] = lambda _: {}
    methods: tuple[str, ...] = field(default=())


def _json(body: Any) -> Request:
    return {"data": json.dumps(body), "content_type": "application/json"}


def _click(scene: Scene) -> Request:
    return _json({"sequence_series_ids": list(scene.done.sequence_series_ids)})


def _tus(_: Scene, **headers: str) -> Request:
    return {"headers": {"Tus-Resumable": "1.0.0", **headers}}


def _chunk(_: Scene) -> Request:
    kind = "application/offset+octet-stream"
    headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
    return {"data": b"01234", "content_type": kind, "headers": headers}


def _begin(scene: Scene) -> Request:
    told = {"job": scene.hold.job_id, "fence": str(scene.hold.fence), "role": "mask", "sha256": SHA256}
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())
    return {"headers": {"Upload-Length": str(len(CONTENT)), "Upload-Metadata": metadata}}


def _no_files(_: Scene) -> Request:
    return {"data": b"--b--\r\n", "content_type": "multipart/form-data; boundary=b"}


def _mask_upload(scene: Scene) -> dict[str, str]:
    return {"upload_id": scene.mask_upload.pk}


def _held(scene: Scene) -> dict[str, str]:
    return {"job_id": scene.held.pk}


JOBS, MRI, WORKER = "api/mri/segmentation/", "api/mri/", "api/worker/"
A_JOB = JOBS + "jobs/{job_id}/"
RESULT = study(200, method="GET")
TABLE: dict[tuple[str, str], Row] = {
    ("POST", JOBS + "series/{series_id}/segment/"): Row(study(202, method="POST"), _click, hides="series_id"),
    ("GET", JOBS + "jobs/"): Row(signed_in(200, method="GET")),
    ("GET", A_JOB): Row(RESULT, hides="job_id"),
    ("GET", A_JOB + "events"): Row(RESULT, hides="job_id"),
    ("POST", A_JOB + "cancel/"): Row(study(202, method="POST"), hides="job_id", names=_held),
    **{
        (method, A_JOB + name): Row(RESULT, hides="job_id")
        for method in ("GET", "HEAD")
        for name in (
            *("mask.nii.gz", "mask.dcm", "report.json"),
            *("report.dcm", "summary.pdf", "summary.dcm", "key/{number}.dcm"),
        )
    },
    ("GET", JOBS + "pending-requests/"): Row(
        everybody(401)
        | dict.fromkeys((*PEOPLE, *PAGES_WITHOUT_CSRF, "owner's program"), 403)
        | {"staff": 200, "worker": 200, "worker that may only fetch": 200, "other worker": 200}
        | dict.fromkeys(LATE, 409)
    ),
    ("POST", MRI + "uploads/"): Row(signed_in(422, method="POST"), _no_files),
    ("GET", MRI + "uploads/batches/{batch}/"): Row(mine(200, method="GET"), hides="batch"),
    ("GET", MRI + "studies/"): Row(signed_in(200, method="GET")),
    ("GET", MRI + "studies/{study_id}/"): Row(RESULT, hides="study_id"),
    ("GET", MRI + "series/{series_id}/"): Row(RESULT, hides="series_id"),
    ("PATCH", MRI + "series/{series_id}/"): Row(
        study(200, method="PATCH"), lambda _: _json({"sequence": "T1"}), hides="series_id"
    ),
    ("GET", MRI + "series/{series_id}/volume.nii.gz"): Row(RESULT, hides="series_id"),
    ("HEAD", MRI + "series/{series_id}/volume.nii.gz"): Row(RESULT, hides="series_id"),
    ("OPTIONS", MRI + "uploads/tus/"): Row(everybody(204)),
    ("POST", MRI + "uploads/tus/"): Row(
        signed_in(201, method="POST"), lambda scene: _tus(scene, **{"Upload-Length": "5"})
    ),
    ("HEAD", MRI + "uploads/tus/{upload_id}"): Row(mine(200, method="HEAD"), _tus, hides="upload_id"),
    ("PATCH", MRI + "uploads/tus/{upload_id}"): Row(mine(204, method="PATCH"), _chunk, hides="upload_id"),
    ("DELETE", MRI + "uploads/tus/{upload_id}"): Row(mine(204, method="DELETE"), _tus, hides="upload_id"),
    ("POST", WORKER + "enrol/"): Row(
        everybody(403), lambda _: _json({"token": "sege_x", "name": "lab", "public_key": "", "proof": ""})
    ),
    # Whoever comes gets a challenge and no more; a session's cookie shows a browser, which has no business here.
    ("POST", WORKER + "sync/"): Row(
        everybody(200) | dict.fromkeys((*PEOPLE, *PAGES_WITHOUT_CSRF), 403), lambda _: _json({"session": None})
    ),
    ("GET", WORKER + "artifacts/{artifact_id}"): Row(
        attempt(200, method="GET", fetch_only=200, elsewhere=404), hides="artifact_id"
    ),
    ("POST", WORKER + "uploads/"): Row(attempt(201, method="POST", fetch_only=401, elsewhere=400), _begin),
    ("HEAD", WORKER + "uploads/{upload_id}"): Row(
        attempt(200, method="HEAD", fetch_only=401, elsewhere=404), names=_mask_upload, hides="upload_id"
    ),
    ("PATCH", WORKER + "uploads/{upload_id}"): Row(
        attempt(204, method="PATCH", fetch_only=401, elsewhere=404), _chunk, names=_mask_upload, hides="upload_id"
    ),
    ("GET", "api/pacs/"): Row(signed_in(200, method="GET")),
    ("GET", "api/pacs/deliveries/"): Row(RESULT, lambda scene: {"QUERY_STRING": f"job={scene.done.pk}"}),
    ("GET", "api/pacs/pulls/{pull_id}/"): Row(signed_in(200, method="GET", other=404, member=404), hides="pull_id"),
    # Whoever may search sees patients of the whole archive, so it takes a permission; and here nobody answers.
    ("GET", "api/pacs/{name}/studies/"): Row(
        signed_in(403, method="GET", staff=503), lambda _: {"QUERY_STRING": "patient_id=4711"}
    ),
    ("POST", "api/pacs/{name}/studies/{uid}/pull/"): Row(signed_in(403, method="POST", staff=202)),
    ("POST", "api/pacs/{name}/jobs/{job_id}/send/"): Row(signed_in(403, method="POST", staff=202)),
    ("POST", "api/ws-ticket/"): Row(signed_in(200, method="POST")),
    ("GET", "api/session/"): Row(signed_in(200, method="GET")),
    # The document and its page describe the interface and show nothing that is stored.
    ("GET", "api/schema/"): Row(everybody(200)),
    ("GET", "api/docs/"): Row(everybody(200)),
    ("GET", "api/"): Row(everybody(404)),
    ("GET", "healthz"): Row(everybody(200)),
    ("GET", "readyz"): Row(everybody(503)),  # no dispatcher runs here
    ("GET", "metrics"): Row(
        everybody(403, staff=200) | {"made-up API token": 403},
        lambda _: {"REMOTE_ADDR": "203.0.113.9"},
    ),
    ("POST", "i18n/setlang/"): Row(everybody(302) | dict.fromkeys(PAGES_WITHOUT_CSRF, 403)),
    ("GET", ""): Row(everybody(302) | dict.fromkeys((*PEOPLE, *PAGES_WITHOUT_CSRF), 200)),
    ("GET", "login/"): Row(everybody(200) | dict.fromkeys((*PEOPLE, *PAGES_WITHOUT_CSRF), 302)),
    ("POST", "logout/"): Row(everybody(302) | dict.fromkeys(PAGES_WITHOUT_CSRF, 403)),
}


def operations() -> set[tuple[str, str]]:
    """Every method and address that the server answers, the admin's apart."""
    found = {(method, route) for method, route in _of_the_api()}
    known = {route for _, route in found}
    for route, _ in patterns():
        spelled = route.replace("<", "{").replace(">", "}")
        if spelled not in known and not spelled.startswith("admin/"):
            found.add((POSTED.get(spelled, "GET"), spelled))
    return found


POSTED = {"i18n/setlang/": "POST", "logout/": "POST"}


def patterns() -> Iterator[tuple[str, URLPattern]]:
    """Every address as Django resolves it."""
    yield from _within(get_resolver(), "")


def _within(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, URLPattern]]:
    for one in resolver.url_patterns:
        route = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _within(one, route)
        else:
            yield route, one


def _of_the_api() -> Iterator[tuple[str, str]]:
    for prefix, router in api._routers:
        yield from _of_router(_joined("api", prefix), router)


def _of_router(prefix: str, router: Any) -> Iterator[tuple[str, str]]:
    """HEAD beside GET has no row of its own: it is walked with the GET."""
    for path, view in router.path_operations.items():
        for operation in view.operations:
            for method in operation.methods:
                if method != "HEAD" or "GET" not in operation.methods or ("HEAD", _joined(prefix, path)) in TABLE:
                    yield method, _joined(prefix, path)
    for further, inner, *_ in router._routers:
        yield from _of_router(_joined(prefix, further), inner)


def _joined(prefix: str, path: str) -> str:
    return f"{prefix.rstrip('/')}/{path.lstrip('/')}"
