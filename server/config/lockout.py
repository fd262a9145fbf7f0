"""The answer to whoever tried to sign in too often: a page, or a problem document for a program."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from server.accounts.errors import TooMany
from server.accounts.sign_in import is_turned_away
from server.config.finishing import FinishingMiddleware
from server.config.problems import problem_of

PAGE = "frontend_bridge/locked_out.html"


class LockoutMiddleware(FinishingMiddleware):
    """Replaces the sign-in form, of the pages and of the admin alike, by how long to wait."""

    def finish(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if not is_turned_away(request):
            return response
        seconds = getattr(request, "wait_seconds", settings.AXES_COOLOFF_TIME.total_seconds())
        refusal = TooMany(retry_after_seconds=seconds)
        if not request.accepts("text/html"):
            return problem_of(refusal)
        minutes = max(1, round(refusal.retry_after_seconds / 60))
        page = render(request, PAGE, {"minutes": minutes}, status=refusal.status)
        for name, value in refusal.headers.items():
            page.headers[name] = value
        return page
