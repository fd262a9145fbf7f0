"""A second door behind CSRF: browsers say where a request comes from (Sec-Fetch-Site), and no script can change it."""

from __future__ import annotations

from collections.abc import Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from server.config.problems import problem_response

SAFE = ("GET", "HEAD", "OPTIONS")
OWN = ("", "same-origin", "none")


class FetchSiteMiddleware:
    """Refuses what a foreign page sends with the person's cookies. Without the header (programs) it asks nothing."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest):
        refusal = _refusal(request)
        if iscoroutinefunction(self):
            return self._acall(request, refusal)
        return refusal or self.get_response(request)

    async def _acall(self, request: HttpRequest, refusal: HttpResponse | None) -> HttpResponse:
        return refusal or await self.get_response(request)


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if request.method in SAFE or request.headers.get("Sec-Fetch-Site", "") in OWN:
        return None
    speaks_for_itself = "Authorization" in request.headers
    if speaks_for_itself or request.headers.get("Origin", "").lower() in settings.ALLOWED_ORIGINS:
        return None
    return problem_response(
        status=403,
        code="foreign_site",
        title="Not from this site",
        detail="Another site's page sent this request; open the viewer itself.",
        extra={},
    )
