"""Where the browser's WebSocket lives."""

from django.urls import path

from frontend_bridge.consumers import SegmentationConsumer

websocket_urlpatterns = [path("ws/segmentation/", SegmentationConsumer.as_asgi())]
