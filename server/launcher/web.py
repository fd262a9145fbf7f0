"""Daphne with a limit on bodies that holds while the bytes arrive.

Stock Daphne spools any body before the application sees a byte of it: an unauthenticated 600 MiB POST to an unknown
address went into memory (daphne#483). Here the count is kept as chunks come in and the answer is 413.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server
from twisted.internet import reactor

from server.config.limits import Limits
from server.launcher.valve import Valve

HANDSHAKE_SECONDS = 5
HEADERS_SECONDS = 15.0
"""From the first byte of a request to the end of its headers; Twisted's own limit begins anew with every byte."""
LINGER_SECONDS = 2.0

TOO_LARGE = json.dumps(
    {
        "type": "urn:segwire:body_too_large",
        "title": "The body is too large",
        "status": 413,
        "detail": "A request may carry 8 MiB; send larger files resumably (tus) at /api/mri/uploads/tus/.",
        "code": "body_too_large",
    }
).encode()
REFUSAL = (
    b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Content-Length: " + str(len(TOO_LARGE)).encode() + b"\r\n\r\n" + TOO_LARGE
)


class BoundedRequest(WebRequest):
    """A request that refuses its body as soon as it is known to be too long."""

    body_limit = Limits().body_bytes + 64 * 1024  # multipart headers come on top of the file itself
    received = 0
    is_refused = False

    def __init__(self, channel: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(channel, *arguments, **options)
        channel.has_asked = True
        self._patience = reactor.callLater(HEADERS_SECONDS, self._hang_up)

    def gotLength(self, length: int | None) -> None:
        if self._patience.active():
            self._patience.cancel()
        super().gotLength(None if length and length > self.body_limit else length)
        if length and length > self.body_limit:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if self.is_refused:
            return
        self.received += len(data)
        if self.received > self.body_limit:
            self._refuse()
            return
        super().handleContentChunk(data)

    def process(self) -> Any:
        return None if self.is_refused else super().process()

    def _refuse(self) -> None:
        self.is_refused = True
        self.content.truncate(0)
        self.channel.transport.write(REFUSAL)
        # Closing at once would reset the connection before the client has read the answer.
        reactor.callLater(LINGER_SECONDS, self._hang_up)

    def connectionLost(self, reason: Any) -> None:
        if self._patience.active():
            self._patience.cancel()
        super().connectionLost(reason)

    def _hang_up(self) -> None:
        if self.channel is not None:
            self.channel.loseConnection()


class BoundedFactory(HTTPFactory):
    """Makes bounded requests, and hangs up on who connects and does not ask."""

    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = BoundedRequest
        reactor.callLater(HEADERS_SECONDS, _drop_unless_asked, protocol._channel)
        return protocol


def _drop_unless_asked(channel: Any) -> None:
    if not getattr(channel, "has_asked", False) and channel.transport is not None:
        channel.transport.abortConnection()


class WebServer(Server):
    """Daphne's server with our request class and the settings that the evidence supports (design: pitfalls)."""

    def __init__(self, application: Any, *, host: str, port: int, limits: Limits, on_ready: Callable[[], None]) -> None:
        interface = host.replace(":", "\\:")
        super().__init__(
            application=application,
            endpoints=[f"tcp:port={port}:interface={interface}"],
            signal_handlers=False,
            websocket_timeout=-1,
            websocket_handshake_timeout=HANDSHAKE_SECONDS,
            websocket_max_message_size=limits.transport_message_bytes,
            websocket_max_frame_size=limits.transport_message_bytes,
            # A timeout shorter than the interval: overlapping timers cut healthy, slow clients.
            ping_interval=20,
            ping_timeout=15,
            application_close_timeout=10,
            request_buffer_size=64 * 1024,
            server_name="segwire",
            ready_callable=on_ready,
        )
        self.listen_failure = ""
        self._ports: list[Any] = []

    def run(self) -> None:
        """Serve until `stop`. The factory is looked up by name inside Daphne, so it is replaced for this call."""
        from daphne import server as daphne_server

        original = daphne_server.HTTPFactory
        daphne_server.HTTPFactory = BoundedFactory
        try:
            super().run()
        finally:
            daphne_server.HTTPFactory = original

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        await super().handle_reply(protocol, message)
        if message["type"] == "websocket.accept" and protocol.transport is not None:
            protocol.valve = Valve(protocol.transport)
        elif message["type"] == "websocket.send" and hasattr(protocol, "valve"):
            await protocol.valve.passable()

    def listen_success(self, port: Any) -> None:
        super().listen_success(port)
        self._ports.append(port)

    def stop_listening(self) -> None:
        """Take no new connection: a balancer goes to the next server, and who comes back does not come here."""
        for port in self._ports:
            port.stopListening()
        self._ports.clear()

    def unfinished(self) -> int:
        """How many requests have not been answered yet; sockets do not count."""
        return sum(
            isinstance(protocol, BoundedRequest) and "disconnected" not in details
            for protocol, details in self.connections.items()
        )

    def listen_error(self, failure: Any) -> None:
        self.listen_failure = failure.getErrorMessage()
        super().listen_error(failure)

    def kill_all_applications(self) -> Any:
        # Daphne indexes what its own reaper may just have deleted.
        for details in self.connections.values():
            details.setdefault("application_instance", _Ended())
        return super().kill_all_applications()


class _Ended:
    """Stands for an application that is gone already."""

    def done(self) -> bool:
        return True
