"""A middleware that looks at every answer on its way out, on the event loop as well as in a thread."""

from __future__ import annotations

from collections.abc import Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse


class FinishingMiddleware:
    """Subclasses say in `finish` what becomes of an answer; it must not block."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest):
        if iscoroutinefunction(self):
            return self._acall(request)
        return self.finish(request, self.get_response(request))

    def finish(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """The answer to send."""
        raise NotImplementedError

    async def _acall(self, request: HttpRequest) -> HttpResponse:
        return self.finish(request, await self.get_response(request))
