"""`POST /api/worker/sync/`: the worker's conversation by long-poll, where no WebSocket gets through (decision 0013).

Flow: 4 push
"""

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from server import addresses
from server.dispatch.errors import BadSync, NotABrowserEndpoint, SyncTooLarge, TooManyLinks
from server.dispatch.farewells import farewell
from server.dispatch.links import MOST_BYTES, MOST_FRAMES, links
from server.dispatch.reception import hosts_of
from worker_client.protocol.codec import encode
from worker_client.protocol.errors import CloseCode

LINK_NAME_LENGTH = 64
UNKNOWN_JITTER_SECONDS = 3.0


class _Request(msgspec.Struct):
    session: str | None = None
    ack: int | None = None
    frames: list[msgspec.Raw] = []


class _Answer(msgspec.Struct):
    session: str | None
    frames: list[msgspec.Raw]


_requests = msgspec.json.Decoder(_Request)


async def exchange(request: HttpRequest) -> HttpResponse:
    """Take a worker's frames and answer with the server's, at most LIMITS.long_poll_seconds later.

    Raises:
        NotABrowserEndpoint, SyncTooLarge, BadSync, TooManyLinks.
    """
    if request.headers.get("Origin") or request.headers.get("Cookie"):
        raise NotABrowserEndpoint
    asked = _read(request)
    if asked.session is None:
        hosts, address = hosts_of(request.META.get("HTTP_HOST", "")), addresses.of_request(request)
        link = links.open(hosts=hosts, address=address)
        if link is None:
            raise TooManyLinks
    else:
        link = links.find(asked.session[:LINK_NAME_LENGTH])
    if link is None:
        return _answer(None, [msgspec.Raw(_start_anew())])
    link.confirm(asked.ack)
    link.take(asked.frames)
    return _answer(link.name, await link.hear(seconds=settings.LIMITS.long_poll_seconds))


def _read(request: HttpRequest) -> _Request:
    if len(request.body) > MOST_BYTES:
        raise SyncTooLarge
    try:
        asked = _requests.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSync from error
    if len(asked.frames) > MOST_FRAMES:
        raise SyncTooLarge
    return asked


def _answer(name: str | None, frames: list[msgspec.Raw]) -> HttpResponse:
    body = msgspec.json.encode(_Answer(session=name, frames=frames))
    return HttpResponse(body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _start_anew() -> bytes:
    """The server was restarted, the request reached another one, or the link was silent for too long."""
    unknown = farewell(CloseCode.GOING_AWAY, "this link is not known here", jitter_seconds=UNKNOWN_JITTER_SECONDS)
    assert unknown.bye is not None
    return encode(unknown.bye).encode()
