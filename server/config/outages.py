"""The answer to a request that the database could not serve: 503, to be asked again, and not "nobody foresaw this"."""

from __future__ import annotations

import sys

import structlog
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.defaults import server_error

from server.config.problems import API, problem_response

log = structlog.get_logger(__name__)

RETRY_SECONDS = 2
DETAIL = "The database does not answer at the moment. Ask again in some seconds; asking twice does no harm."


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler of what no view caught; it is called inside the `except`.

    A connection that broke, a deadlock and a statement that took too long all pass; what they began is rolled back.
    """
    cause = sys.exc_info()[1]
    if not isinstance(cause, (OperationalError, InterfaceError)):
        return server_error(request)
    log.warning("the database did not serve a request", cause=type(cause.__cause__ or cause).__name__)
    answer = _problem() if request.path.startswith(API) else HttpResponse(DETAIL, status=503, content_type="text/plain")
    answer.headers["Retry-After"] = str(RETRY_SECONDS)
    return answer


def _problem() -> HttpResponse:
    return problem_response(
        status=503, code="database_unavailable", title="The database is unavailable", detail=DETAIL, extra={}
    )
