"""What every answer carries, and the one shape of an error."""

from __future__ import annotations

import pytest
from django.test import Client

from server.config.csp import HEADER

pytestmark = pytest.mark.django_db


def test_every_page_has_the_strict_policy(client: Client) -> None:
    pages = [client.get(path) for path in ("/login/", "/admin/login/", "/healthz", "/nowhere")]

    policies = [page.headers["Content-Security-Policy"] for page in pages]
    assert all("script-src 'self';" in policy and "unsafe" not in policy for policy in policies)
    assert policies[0] == policies[2] == policies[3] == HEADER
    assert {page.headers["X-Content-Type-Options"] for page in pages} == {"nosniff"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/api/mri/studies/", 401, "not_signed_in"),
        ("get", "/api/mri/segmentation/jobs/", 401, "not_signed_in"),
        ("post", "/api/mri/uploads/", 401, "not_signed_in"),
        ("post", "/api/mri/segmentation/series/x/segment/", 401, "not_signed_in"),
    ],
)
def test_an_error_is_a_problem_document(client: Client, method: str, path: str, status: int, code: str) -> None:
    answer = getattr(client, method)(path)

    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "detail"} <= set(problem)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/api/nothing/", 404, "not_found"),
        ("delete", "/api/mri/studies/", 405, "method_not_allowed"),
        ("patch", "/api/mri/uploads/", 405, "method_not_allowed"),
    ],
)
def test_an_answer_of_the_frameworks_is_a_problem_document_too(
    client: Client, method: str, path: str, status: int, code: str
) -> None:
    answer = getattr(client, method)(path)

    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Content-Security-Policy"] == HEADER
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert ("Allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize("body", [b"{", b'{"token":"\\ud800","name":"a","public_key":"","proof":""}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused(client: Client, body: bytes) -> None:
    answer = client.post("/api/worker/enrol/", body, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_a_page_that_is_not_there_stays_a_page(client: Client) -> None:
    assert client.get("/nowhere").headers["Content-Type"].startswith("text/html")


def test_a_token_that_is_wrong_is_no_session(client: Client) -> None:
    answer = client.get("/api/mri/studies/", headers={"Authorization": "Bearer sega_wrong"})

    assert answer.status_code == 401


def test_the_api_describes_itself(client: Client) -> None:
    paths = client.get("/api/schema/").json()["paths"]

    assert "/api/mri/segmentation/series/{series_id}/segment/" in paths
    assert "/api/mri/uploads/" in paths


def test_no_browser_and_no_proxy_keeps_an_answer_of_the_api(client: Client) -> None:
    assert client.get("/api/mri/studies/").headers["Cache-Control"] == "private, no-store"


def test_nobody_else_may_embed_or_open_what_is_here(client: Client) -> None:
    page = client.get("/login/")

    assert page.headers["Cross-Origin-Opener-Policy"] == page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert "camera=()" in page.headers["Permissions-Policy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer x"}, 200),
    ],
)
def test_a_change_from_a_foreign_page_is_refused(client: Client, headers: dict[str, str], status: int) -> None:
    answer = client.post("/login/", {}, headers=headers)

    assert answer.status_code == status
