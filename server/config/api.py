"""The HTTP API: one document, one shape of error (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from django.http import Http404, HttpRequest, HttpResponse
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser

from server.accounts.api import router as accounts_router
from server.accounts.auth import user_auth
from server.config.document import DescribedAPI
from server.config.problems import problem_of, problem_response
from server.core.errors import Problem
from server.dispatch.api import router as dispatch_router
from server.imaging.api import router as imaging_router
from server.jobs.api import router as jobs_router
from server.pacs.api import router as pacs_router


class StrictParser(Parser):
    """Refuses what the standard library lets through: NaN, and escapes of half a character, which no database takes."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The JSON of a request. Raises msgspec.DecodeError, which is answered with 400."""
        return msgspec.json.decode(request.body)


api = DescribedAPI(
    title="Segwire",
    version="1",
    description="MRI segmentation, pushed to a worker the moment it is asked for.",
    openapi_url="/schema/",
    docs_url="/docs/",
    auth=user_auth,
    parser=StrictParser(),
    urls_namespace="api",
)
api.add_router("/mri/segmentation/", jobs_router, tags=["segmentation"])
api.add_router("/mri/", imaging_router, tags=["imaging"])
api.add_router("/pacs/", pacs_router, tags=["archives"])
api.add_router("/", dispatch_router, tags=["workers"])
api.add_router("/", accounts_router, tags=["accounts"])


def _let_head_follow_get(prefix_and_routers: Iterable[tuple[Any, ...]]) -> None:
    """RFC 9110, 9.3.2: what can be read can be asked about. The server sends no body with it."""
    for _, router, *_ in prefix_and_routers:
        for view in router.path_operations.values():
            known = {method for operation in view.operations for method in operation.methods}
            for operation in view.operations:
                if "GET" in operation.methods and "HEAD" not in known:
                    operation.methods.append("HEAD")
        _let_head_follow_get(router._routers)


_let_head_follow_get(api._routers)


@api.exception_handler(Problem)
def on_problem(_request: HttpRequest, problem: Problem) -> HttpResponse:
    """A refusal that the code means."""
    return problem_of(problem)


@api.exception_handler(ValidationError)
def on_validation_error(_request: HttpRequest, error: ValidationError) -> HttpResponse:
    """A request whose fields are off: each is named, none of its values is repeated."""
    errors = [{"where": ".".join(str(step) for step in item["loc"]), "what": item["msg"]} for item in error.errors]
    detail = "; ".join(f"{item['where']}: {item['what']}" for item in errors)
    return problem_response(
        status=422, code="invalid_request", title="The request is not as it should be", detail=detail, extra={}
    )


@api.exception_handler(AuthenticationError)
def on_authentication_error(_request: HttpRequest, _error: AuthenticationError) -> HttpResponse:
    """Nobody is signed in."""
    return problem_response(
        status=401,
        code="not_signed_in",
        title="Sign in first",
        detail="Sign in first, or send a valid bearer token.",
        extra={},
    )


@api.exception_handler(Http404)
def on_not_found(_request: HttpRequest, _error: Http404) -> HttpResponse:
    """Nothing under this address."""
    return problem_response(
        status=404, code="not_found", title="Nothing is here", detail="Nothing is at this address.", extra={}
    )


@api.exception_handler(HttpError)
def on_http_error(_request: HttpRequest, error: HttpError) -> HttpResponse:
    """A refusal of the framework's own, such as a missing CSRF token or a body that is not JSON."""
    title = HTTPStatus(error.status_code).phrase
    return problem_response(
        status=error.status_code,
        code=title.lower().replace(" ", "_"),
        title=title,
        detail=str(error),
        extra={},
    )
