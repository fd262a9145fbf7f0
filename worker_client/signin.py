"""Signing in once, to see whether it works: says hello with what is owed, and goodbye after the welcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from worker_client.actions import Send
from worker_client.answers import Answer
from worker_client.comeback import Verdict
from worker_client.errors import SetUpError
from worker_client.link import Link, Route
from worker_client.profile import Profile
from worker_client.protocol.errors import ProtocolError
from worker_client.protocol.messages import Bye, Challenge, Error, FromServer, FromWorker, Welcome
from worker_client.session import Session


class SignInFailed(SetUpError):
    """The server did not say welcome. `is_refused`: it was reached, and said why."""

    def __init__(self, sentence: str, *, is_refused: bool = False) -> None:
        self.is_refused = is_refused
        super().__init__(sentence)


@dataclass(frozen=True)
class SignedIn:
    """What a sign-in showed: the number of the session, and the server's clock (seconds since 1970)."""

    session: int
    server_time: float


async def sign_in_once(
    route: Route,
    profile: Profile,
    *,
    answers: Iterable[Answer],
    seconds: float,
    client: httpx.AsyncClient | None = None,
) -> SignedIn:
    """Sign in and out again; over HTTPS when there is a `client` for it.

    What is owed is listed, so that the server does not give those jobs to others. Raises SignInFailed.
    """
    link = Link(route, client=client, way="websocket" if client is None else "https")
    visitor = _Visitor(link, Session(profile, answers=answers))
    try:
        async with asyncio.timeout(seconds):
            await link.run(visitor)
    except TimeoutError as error:
        raise SignInFailed(f"The server did not say welcome within {seconds:.0f} s.") from error
    if visitor.welcome is None:
        why = visitor.refusal or "the connection could not be made"
        raise SignInFailed(f"The server did not say welcome: {why}.", is_refused=bool(visitor.refusal))
    return SignedIn(session=visitor.welcome.session, server_time=visitor.server_time)


class _Visitor:
    is_urgent = True

    def __init__(self, link: Link, session: Session) -> None:
        self._link = link
        self._session = session
        self.welcome: Welcome | None = None
        self.server_time = 0.0
        self.refusal = ""

    def opened(self) -> None:
        self._session.opened(at=0.0)

    def received(self, message: FromServer) -> None:
        if isinstance(message, Welcome):
            self.welcome = message
            self._link.send(Bye(id=2, code=1000, reason="only looking", reconnect=False))  # hello was 1
            self._link.hang_up(1000, "only looking")
        elif isinstance(message, Challenge):
            self.server_time = message.server_time
            for action in self._session.received(message, at=0.0):
                if isinstance(action, Send):
                    self._link.send(action.message)
        elif isinstance(message, Bye):
            self.refusal = f"{message.code} {message.reason}"
        elif isinstance(message, Error):
            self.refusal = f"{message.code} {message.detail}".strip()

    def garbled(self, error: ProtocolError) -> None:
        self.refusal = f"it sent a frame that cannot be read ({error.code})"

    def unsendable(self, message: FromWorker) -> None:
        self.refusal = f"{type(message).__name__} is longer than the protocol allows"

    def closed(self, *, code: int, reason: str) -> Verdict:
        self._link.stop()
        self.refusal = self.refusal or (f"it closed with {code} {reason}".strip() if code != 1006 else "")
        return self._session.closed(code=1000, reason=reason)
