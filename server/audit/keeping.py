"""Sealing beside everything else a server does, so that no request waits for the chain."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from django.db import connections

from server.audit import services

log = structlog.get_logger(__name__)

SEAL_SECONDS = 10.0


async def keep_sealed() -> None:
    """Seal what was noted, again and again until cancelled; the first time also what lies far behind."""
    everything = True
    with suppress(asyncio.CancelledError):
        while True:
            try:
                await asyncio.to_thread(_seal_in_thread, everything=everything)
                everything = False
            except Exception:
                # A locked or absent database passes; the entries wait for the next round.
                log.exception("the audit log could not be sealed")
            await asyncio.sleep(SEAL_SECONDS)


def _seal_in_thread(*, everything: bool) -> None:
    try:
        services.seal(everything=everything)
        services.announce_head()
    finally:
        connections.close_all()
