"""Is it alive, is it ready: two answers for a balancer, and figures for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from asgiref.sync import sync_to_async
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from server.dispatch import clock
from server.imaging import storage

CHECK_SECONDS = 3.0


async def healthz(_request: HttpRequest) -> HttpResponse:
    """The process answers. It asks nobody, so it stays quick under load."""
    return HttpResponse("ok\n", content_type="text/plain")


async def readyz(_request: HttpRequest) -> HttpResponse:
    """Database, channel layer, storage and dispatcher, each by name; 503 when one is not ready."""
    checks: dict[str, Callable[[], Awaitable[None]]] = {
        "database": _database,
        "layer": _layer,
        "storage": _storage,
        "dispatcher": _dispatcher,
    }
    results = dict(zip(checks, await asyncio.gather(*(_outcome(check) for check in checks.values())), strict=True))
    is_ready = all(result == "ok" for result in results.values())
    return JsonResponse({"ready": is_ready, "checks": results}, status=200 if is_ready else 503)


async def _outcome(check: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as error:  # noqa: BLE001  (whatever is wrong, the answer is "not ready", by name)
        return type(error).__name__
    return "ok"


async def _database() -> None:
    await sync_to_async(_select_one)()


def _select_one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


async def _layer() -> None:
    layer = get_channel_layer()
    if isinstance(layer, InMemoryChannelLayer):
        return
    await layer.ping()


async def _storage() -> None:
    await asyncio.to_thread(storage.probe)


async def _dispatcher() -> None:
    clock.assert_ticking()
