"""Waking watchers up. A poke carries no truth: it may be lost, doubled or late, and must never fail a request.

Two channel messages exist: `topic.poke` says that a log has grown, `topic.news` carries something of which only
the newest counts (progress, preview, telemetry).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

log = structlog.get_logger(__name__)

_loop: asyncio.AbstractEventLoop | None = None


def speak_on(loop: asyncio.AbstractEventLoop | None) -> None:
    """Send pokes on this loop from now on, so that no thread waits for its turn there."""
    global _loop  # noqa: PLW0603  (one loop a process, named by the dispatcher's clock)
    _loop = loop


def aside(send: Callable[..., Coroutine[Any, Any, None]], *args: Any, **kwargs: Any) -> None:
    """Send something from a thread without waiting until it is sent; where no loop is known, wait."""
    if _loop is None or _loop.is_closed():
        async_to_sync(send)(*args, **kwargs)
    else:
        asyncio.run_coroutine_threadsafe(send(*args, **kwargs), _loop)


def group_of(topic: str) -> str:
    """Name of the channel layer group of a topic (only letters, digits, hyphen, underscore and point are allowed)."""
    return topic.replace(":", ".")


async def apoke(topic: str, *, seq: int) -> None:
    """Say that the log of `topic` has reached `seq`."""
    await _send(topic, {"type": "topic.poke", "topic": topic, "seq": seq})


async def anews(topic: str, *, kind: str, body: dict[str, Any]) -> None:
    """Pass something on of which only the newest counts."""
    await _send(topic, {"type": "topic.news", "topic": topic, "kind": kind, "body": body})


def poke(topic: str, *, seq: int) -> None:
    """The same as `apoke`, from a thread."""
    aside(apoke, topic, seq=seq)


def news(topic: str, *, kind: str, body: dict[str, Any]) -> None:
    """The same as `anews`, from a thread."""
    aside(anews, topic, kind=kind, body=body)


async def _send(topic: str, message: dict[str, Any]) -> None:
    try:
        await get_channel_layer().group_send(group_of(topic), message)
    except Exception as error:  # noqa: BLE001  (the layer may be anything and away; the log has the truth)
        log.warning("a poke was lost", topic=topic, cause=type(error).__name__)
