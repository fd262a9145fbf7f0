"""The connection to the server: choose a way, keep it, come back.

The loop is written out, since `async for … in connect()` starts its pauses anew after every handshake (an
accept-then-close server is then asked 56 times a second) and takes a 403 for final, which is all that Daphne answers
when it cannot serve a handshake.

Flow: 5 receive
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import httpx

from worker_client.actions import HangUp
from worker_client.address import health_url, sync_url
from worker_client.comeback import Backoff, ComeBack, StayAway, Verdict
from worker_client.conversation import NO_CLOSE_FRAME, End, Owner
from worker_client.errors import ServerForbids
from worker_client.fallback import SyncLine, SyncRefused
from worker_client.outgoing import Outgoing
from worker_client.protocol import messages as wire
from worker_client.ways import PATIENCE_SECONDS, Way, Ways
from worker_client.websocket import Found, Route, SocketFailed, converse, find_socket, open_socket

__all__ = ["Link", "Route"]

logger = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 300.0
"""While the way goes over HTTPS, a WebSocket is looked for this often, and at once when HTTPS fails."""
PROOF_SECONDS = 10.0

T = TypeVar("T")


class Link:
    """The connection that is, or the wait for the next one. `luck` is uniform in 0 to 1.

    Without a `client` there is no other way than the WebSocket. `way` is the one that is tried first.
    """

    def __init__(
        self,
        route: Route,
        *,
        client: httpx.AsyncClient | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        look_again_seconds: float = LOOK_AGAIN_SECONDS,
        way: Way = "websocket",
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._route = route
        self._client = client
        self._luck = luck
        self._look_again_seconds = look_again_seconds
        self._ways = Ways(patience_seconds=patience_seconds, is_blocked=way == "https")
        self._backoff = Backoff()
        self._outgoing: Outgoing | None = None
        self._is_over = asyncio.Event()
        self._is_away = False
        self._trying: asyncio.Task[Any] | None = None
        self._look_now = asyncio.Event()
        self._search: asyncio.Task[Found] | None = None
        self._way = way

    @property
    def way(self) -> Way:
        """Which way the present or the last connection goes."""
        return self._way

    def send(self, message: wire.FromWorker) -> None:
        """Queue a message on the present connection; without one it is dropped, as the session starts anew then."""
        if self._outgoing is not None:
            self._outgoing.put(message)

    def hang_up(self, code: int, reason: str) -> None:
        """Close the present connection once everything before it is sent."""
        if self._outgoing is not None:
            self._outgoing.put(HangUp(code, reason))

    def stop(self) -> None:
        """Make no more connections, and give up one that is being made; the present one ends by `hang_up`."""
        self._is_over.set()
        if self._trying is not None:
            self._trying.cancel()

    async def run(self, owner: Owner) -> None:
        """Keep a connection until `stop`. Raises ServerForbids when the server says not to come back."""
        try:
            while not self._is_over.is_set():
                verdict = await self._connect_once(owner)
                if isinstance(verdict, StayAway):
                    raise ServerForbids(verdict.reason, code=verdict.code)
                await self._pause(verdict, owner)
        finally:
            await self._give_up_search()

    async def _pause(self, verdict: ComeBack, owner: Owner) -> None:
        delay = self._backoff.delay(verdict, is_urgent=owner.is_urgent, luck=self._luck())
        if self._client is not None:
            delay = min(delay, max(verdict.after_seconds, self._ways.longest_pause(at=_now())))
        over = asyncio.create_task(self._is_over.wait())
        try:
            # A WebSocket that is found meanwhile must not wait: the server allows ten seconds for hello.
            waiting = {over} if self._search is None else {over, self._search}
            await asyncio.wait(waiting, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()

    async def _connect_once(self, owner: Owner) -> Verdict:
        found = self._found()
        if found is not None:
            return await self._by_socket(found, owner)
        if self._ways.is_blocked and self._client is not None:
            return await self._by_https(self._client, owner)
        began_at = _now()
        has_proof = self._ways.needs_proof(at=began_at) and await self._attempt(self._answers_over_https()) is True
        try:
            socket = await self._attempt(open_socket(self._route))
        except SocketFailed as failed:
            self._miss(str(failed))
            self._ways.socket_failed(began_at=began_at, has_proof=has_proof)
            if self._ways.is_blocked:
                logger.warning("No WebSocket gets through, and HTTPS does: going that way until one does")
                return owner.closed(code=NO_CLOSE_FRAME, reason="")
            return self._ended(End(status=failed.status), owner)
        if socket is None or self._is_over.is_set():
            if socket is not None:
                await socket.close()
            return owner.closed(code=NO_CLOSE_FRAME, reason="")
        return await self._by_socket(Found(socket), owner)

    async def _by_socket(self, found: Found, owner: Owner) -> Verdict:
        self._outgoing, self._is_away, self._way = Outgoing(), False, "websocket"
        began_at = _now()
        owner.opened()
        try:
            end = await converse(found, self._outgoing, owner, clock=_now)
        finally:
            self._outgoing = None
        if end.was_heard:
            self._ways.socket_spoke()
        else:
            self._ways.socket_failed(began_at=began_at, has_proof=False)
        self._ways.socket_ended(signed_in_seconds=_lived(end))
        return self._ended(end, owner)

    async def _by_https(self, client: httpx.AsyncClient, owner: Owner) -> Verdict:
        """Talk over HTTPS, until that ends or a WebSocket is found; hello tells the server what is held."""
        self._search = self._search or asyncio.create_task(self._look_for_socket())
        talk = asyncio.create_task(self._talk_over_https(client, owner))
        try:
            await asyncio.wait({talk, self._search}, return_when=asyncio.FIRST_COMPLETED)
            if self._is_over.is_set():
                await asyncio.wait({talk})
            if not talk.done():
                logger.info("A WebSocket gets through again")
                return owner.closed(code=NO_CLOSE_FRAME, reason="")
            end = talk.result()
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)
            self._outgoing = None
        self._look_now.set()
        return self._ended(end, owner)

    async def _talk_over_https(self, client: httpx.AsyncClient, owner: Owner) -> End:
        line = SyncLine(client, sync_url(self._route.url), luck=self._luck)
        try:
            first = await self._attempt(line.open())
        except SyncRefused as refused:
            self._miss(str(refused))
            return End(status=refused.status)
        if first is None:
            return End()
        self._outgoing, self._is_away, self._way = Outgoing(), False, "https"
        owner.opened()
        return await line.converse(first, self._outgoing, owner, clock=_now)

    async def _look_for_socket(self) -> Found:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_again_seconds):
                    await self._look_now.wait()
            self._look_now.clear()
            with contextlib.suppress(SocketFailed):
                return await find_socket(self._route)

    def _found(self) -> Found | None:
        if self._search is None or not self._search.done():
            return None
        found, self._search = self._search.result(), None
        return found

    async def _give_up_search(self) -> None:
        search, self._search = self._search, None
        if search is None:
            return
        search.cancel()
        await asyncio.wait({search})
        if not search.cancelled() and search.exception() is None:
            search.result().socket.transport.abort()

    async def _answers_over_https(self) -> bool:
        """Whether the server, and nobody in between, answers over HTTPS."""
        if self._client is None:
            return False
        with contextlib.suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(PROOF_SECONDS):
                answer = await self._client.get(health_url(self._route.url))
                return answer.status_code == httpx.codes.OK
        return False

    async def _attempt(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do it, unless `stop` gives it up: None then."""
        if self._is_over.is_set():
            work.close()
            return None
        trying: asyncio.Task[T] = asyncio.create_task(work)
        self._trying = trying
        try:
            return await trying
        except asyncio.CancelledError:
            trying.cancel()
            if not self._is_over.is_set():
                raise
            return None
        finally:
            self._trying = None

    def _miss(self, cause: str) -> None:
        # Once is news; a server that stays away for an hour is not news every few seconds.
        logger.log(logging.INFO if self._is_away else logging.WARNING, "No connection: %s", cause)
        self._is_away = True

    def _ended(self, end: End, owner: Owner) -> Verdict:
        self._backoff.ended(signed_in_seconds=_lived(end), status=end.status)
        if end.was_heard:
            logger.info("The connection ended (%d %s)", end.code, end.reason)
        return owner.closed(code=end.code, reason=end.reason)


def _lived(end: End) -> float:
    return 0.0 if end.welcomed_at is None else _now() - end.welcomed_at


def _now() -> float:
    return asyncio.get_running_loop().time()
