"""Where the worker's WebSocket is."""

from django.urls import path

from server.dispatch.consumers import WorkerConsumer
from worker_client.protocol.identity import WEBSOCKET_PATH

websocket_urlpatterns = [path(WEBSOCKET_PATH.strip("/") + "/", WorkerConsumer.as_asgi())]
