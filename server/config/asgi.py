"""The composition of HTTP and the two sockets. The browser's carries a session, the worker's must not."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.config.settings")

from django.core.asgi import get_asgi_application

http_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import URLPattern, path

from frontend_bridge.routing import websocket_urlpatterns as browser_sockets
from server.config.lanes import OnLanes
from server.config.sockets import SessionFromKnownOrigin, Unrouted
from server.dispatch.routing import websocket_urlpatterns as worker_sockets


def signed_in(route: URLPattern) -> URLPattern:
    """The same route, with `scope["user"]` from the session when the page's origin is one of ours."""
    return URLPattern(route.pattern, AuthMiddlewareStack(SessionFromKnownOrigin(route.callback)))


application = ProtocolTypeRouter(
    {
        "http": OnLanes(http_application),
        "websocket": URLRouter(
            [
                *worker_sockets,
                *(signed_in(route) for route in browser_sockets),
                path("", Unrouted.as_asgi()),
                path("<path:anything>", Unrouted.as_asgi()),
            ]
        ),
    }
)
