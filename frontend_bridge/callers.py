"""Who is on a socket: a person of this page's session, or whoever a ticket was made for.

Both functions read the database and block.

Flow: 9 browser
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.accounts import binding, throttle, tickets

TICKET = "ticket"


@dataclass(frozen=True)
class Caller:
    """A known user, and the key (of a session or of an API token) without which the socket ends."""

    user: Any
    key: str


def by_ticket(ticket: str, *, address: str) -> Caller | None:
    """Who shows this ticket; None for one that is wrong, used or too old. Whoever guesses is slowed down.

    Raises:
        TooMany: this address has failed too often.
    """
    throttle.check_failures(TICKET, address)
    found = tickets.redeem(ticket)
    if found is None:
        throttle.failed(TICKET, address)
        return None
    user, key = found
    return Caller(user=user, key=key)


def still_there(key: str | None) -> Any | None:
    """Whose key this is by now; None once signed out, revoked, inactive, or the password changed."""
    return binding.user_of(key)
