"""The OpenAPI document, held against the server by a fuzzer: nothing fails, and every answer is as it says.

`make test` asks each operation some times; FUZZ_EXAMPLES asks more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.config.api import api
from server.config.problems import CONTENT_TYPE
from tests.security.scene import Scene, a_scene

pytestmark = pytest.mark.django_db
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))
# What HEAD answers is what GET answers (test_walk).
OPERATIONS = [
    (path, method)
    for path, methods in api.get_openapi_schema()["paths"].items()
    for method in methods
    if method != "head" or "get" not in methods
]
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PATIENT = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES < 50,
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("application/offset+octet-stream")
def octets(_: Any, value: Any) -> bytes:
    """A chunk goes as it is."""
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def scene(django_db_setup: None, django_db_blocker: Any) -> Iterator[Scene]:
    """One for all."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield a_scene()
        transaction.set_rollback(True)


@pytest.fixture(scope="module")
def document(scene: Scene) -> Iterator[Any]:
    """The document as the server gives it out. The transaction of the tests stays open between two requests."""
    ends = (request_started, request_finished)
    for signal in ends:
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi("/api/schema/", get_wsgi_application())
    for signal in ends:
        signal.connect(close_old_connections)


def by_real_names(case: Any, scene: Scene) -> None:
    """About half of the requests are for what is there."""
    for name, value in case.path_parameters.items():
        if len(str(value)) % 2:
            case.path_parameters[name] = scene.names[name]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")  # WSGI is only the fuzzer's way in
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda part: part)
def test_every_answer_is_as_the_document_says(document: Any, scene: Scene, path: str, method: str) -> None:
    bearer = scene.visitors["worker" if path.startswith("/api/worker/") else "owner's program"].bearer

    @PATIENT
    @given(case=document[path][method].as_strategy())
    def ask(case: Any) -> None:
        cache.clear()
        by_real_names(case, scene)
        with transaction.atomic():
            answer = case.call(headers={"Authorization": f"Bearer {bearer}"})
            transaction.set_rollback(True)
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400 and case.method != "HEAD":
            assert answer.headers["content-type"] == [CONTENT_TYPE]
            assert answer.json()["status"] == answer.status_code
            assert answer.json()["code"]

    ask()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_a_method_that_is_not_served_is_refused_with_those_that_are(document: Any, scene: Scene, method: str) -> None:
    owner = scene.visitors["owner"]

    for path, served in document.raw_schema["paths"].items():
        known = {name.upper() for name in served}
        if method not in known:
            answer = owner.ask(method, path.format(**scene.names))
            allowed = {name.strip() for name in answer.headers.get("Allow", "").split(",")}
            assert (answer.status_code, allowed) == (405, known), path
            assert answer.headers["Content-Type"] == CONTENT_TYPE


def test_every_operation_has_a_name_of_its_own(document: Any) -> None:
    names = [one["operationId"] for methods in document.raw_schema["paths"].values() for one in methods.values()]

    assert len(names) == len(set(names))
