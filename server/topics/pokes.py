"""Waking watchers up. A poke carries no truth: it may be lost, doubled or late, and must never fail a request.

Two channel messages exist: `topic.poke` says that a log has grown, `topic.news` carries something of which only
the newest counts (progress, preview, telemetry).
"""

from __future__ import annotations

from typing import Any

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

log = structlog.get_logger(__name__)


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
    async_to_sync(apoke)(topic, seq=seq)


def news(topic: str, *, kind: str, body: dict[str, Any]) -> None:
    """The same as `anews`, from a thread."""
    async_to_sync(anews)(topic, kind=kind, body=body)


async def _send(topic: str, message: dict[str, Any]) -> None:
    try:
        await get_channel_layer().group_send(group_of(topic), message)
    except Exception as error:  # noqa: BLE001  (the layer may be anything and away; the log has the truth)
        log.warning("a poke was lost", topic=topic, cause=type(error).__name__)
