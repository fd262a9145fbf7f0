"""Who comes without a session: a short time and one short frame to show a ticket.

What is said behind the ticket, while it is being read, waits here, within bounds; nobody is served before it is
known who asks.

Flow: 9 browser
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from frontend_bridge import messages as m
from frontend_bridge.inbox import Inbox
from frontend_bridge.ports import BAD_TICKET, TOO_MANY, UNKNOWN, Farewell, Rhythm
from server.accounts.errors import TooMany

BEARER = "seg.bearer."
"""A subprotocol `seg.bearer.<ticket>` is a ticket too."""


class Door:
    """Holds what an unknown caller says until it is known who that is."""

    def __init__(self, rhythm: Rhythm) -> None:
        self._rhythm = rhythm
        self._spoken = asyncio.Event()
        self._inbox = Inbox(frames=rhythm.frame_burst, total_bytes=rhythm.frame_bytes)
        self._bye: m.Bye | None = None

    def take_frame(self, text: str | None) -> None:
        """Something the caller says; None for a binary frame."""
        is_first = not self._spoken.is_set()
        longest = self._rhythm.unknown_frame_bytes if is_first else self._rhythm.frame_bytes
        self._bye = self._bye or self._inbox.put(text, frame_bytes=longest)
        self._spoken.set()

    def dismiss(self, bye: m.Bye) -> None:
        """Nobody is let in any more."""
        self._bye = self._bye or bye
        self._spoken.set()

    async def ticket(self, subprotocols: Sequence[str]) -> str:
        """The ticket the caller shows, in a subprotocol or as the first frame.

        Raises:
            Farewell: nothing came in time, or it was something else.
        """
        for offered in subprotocols:
            if offered.startswith(BEARER):
                return offered.removeprefix(BEARER)
        try:
            async with asyncio.timeout(self._rhythm.sign_in_seconds):
                await self._spoken.wait()
        except TimeoutError:
            raise unauthenticated() from None
        if self._bye is not None:
            raise Farewell(self._bye)
        return _ticket_in(self._inbox.take())

    def held(self) -> list[str]:
        """What was said behind the ticket, in order.

        Raises:
            Farewell: too much of it, or what nobody listens to.
        """
        if self._bye is not None:
            raise Farewell(self._bye)
        frames = []
        while self._inbox:
            frames.append(self._inbox.take())
        return frames


def unauthenticated() -> Farewell:
    """Nobody knows who this is."""
    return Farewell(UNKNOWN, error=m.Error(code="unauthenticated", detail=UNKNOWN.reason))


def bad_ticket() -> Farewell:
    """A ticket that opens nothing."""
    return Farewell(BAD_TICKET, error=m.Error(code="ticket_invalid", detail=BAD_TICKET.reason))


def too_many() -> Farewell:
    """This person, or this address, has as many sockets as there may be; the newest is refused."""
    return Farewell(TOO_MANY, error=m.Error(code="too_many_sockets", detail=TOO_MANY.reason))


def too_often(refusal: TooMany) -> Farewell:
    """Tickets were guessed from this address."""
    bye = m.Bye(code=4429, reason=refusal.detail, reconnect=True, retry_after_s=refusal.retry_after_seconds)
    return Farewell(bye, error=m.Error(code=refusal.code, detail=refusal.detail))


def _ticket_in(text: str) -> str:
    try:
        request = m.decode(text)
    except msgspec.DecodeError:
        raise unauthenticated() from None
    if not isinstance(request, m.Auth):
        raise unauthenticated()
    return request.ticket
