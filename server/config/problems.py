"""The one shape of an error of the API (RFC 9457), also where the frameworks answer before any of our code runs."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from server.config.finishing import FinishingMiddleware
from server.core.errors import Problem

CONTENT_TYPE = "application/problem+json"
API = "/api/"
SENTENCES = {
    404: "Nothing is at this address.",
    405: "This address does not answer that method; the header Allow says which it does.",
    500: "The server failed in a way that nobody foresaw; the operator's log says more.",
}


def problem_response(*, status: int, code: str, title: str, detail: str, extra: Mapping[str, Any]) -> HttpResponse:
    """An application/problem+json answer."""
    body = {**extra, "type": f"urn:segwire:{code}", "title": title, "status": status, "detail": detail, "code": code}
    return JsonResponse(body, status=status, content_type=CONTENT_TYPE)


def problem_of(problem: Problem) -> HttpResponse:
    """The answer to a refusal that the code means."""
    answer = problem_response(
        status=problem.status,
        code=problem.code,
        title=problem.title,
        detail=problem.detail,
        extra=dict(problem.extra),
    )
    for name, value in problem.headers.items():
        answer.headers[name] = value
    return answer


class ProblemMiddleware(FinishingMiddleware):
    """Turns the error pages of Django and of the API framework under `/api/` into problem documents.

    Those are answers to unknown addresses and methods, to requests too odd to be read, and to what nobody foresaw.
    """

    def finish(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if response.status_code < HTTPStatus.BAD_REQUEST or not is_page or not request.path.startswith(API):
            return response
        title = HTTPStatus(response.status_code).phrase
        problem = problem_response(
            status=response.status_code,
            code=title.lower().replace(" ", "_"),
            title=title,
            detail=SENTENCES.get(response.status_code, "The request cannot be served."),
            extra={},
        )
        for name, value in response.headers.items():
            if name != "Content-Type":
                problem.headers[name] = value
        problem.headers["Content-Length"] = str(len(problem.content))
        problem.cookies = response.cookies
        return problem
