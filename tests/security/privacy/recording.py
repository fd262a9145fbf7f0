"""A TCP proxy on loopback that keeps every byte of both directions."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from tests.system.stack import free_port

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
UPGRADE = b"upgrade: websocket"


@dataclass
class Heard:
    """One connection: what the client said, and what the server."""

    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)

    def streams(self) -> Iterator[bytes]:
        """Both directions as they were meant: frames of a WebSocket without heads and masks, joined."""
        for stream in (bytes(self.up), bytes(self.down)):
            head, _, rest = stream.partition(b"\r\n\r\n")
            yield head
            yield _payloads(rest) if UPGRADE in head.lower() else rest


class RecordingProxy:
    """Passes everything on to `target_port`; with `refuses_websockets` as in a network that lets none through."""

    def __init__(self, target_port: int, *, refuses_websockets: bool = False) -> None:
        self.target_port = target_port
        self.refuses_websockets = refuses_websockets
        self.heard: list[Heard] = []
        self._listening = socket.create_server(("127.0.0.1", free_port()))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def streams(self) -> list[bytes]:
        """Everything that was said so far."""
        return [stream for one in self.heard for stream in one.streams() if stream]

    def __enter__(self) -> RecordingProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        heard = Heard()
        self.heard.append(heard)
        with near, suppress(OSError):
            head = near.recv(65536)
            heard.up += head
            if self.refuses_websockets and UPGRADE in head.lower():
                near.sendall(REFUSAL)
                return
            with socket.create_connection(("127.0.0.1", self.target_port)) as far:
                far.sendall(head)
                down = threading.Thread(target=_pass_on, args=(far, near, heard.down), daemon=True)
                down.start()
                _pass_on(near, far, heard.up)
                down.join()


def _pass_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            kept += piece
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def _payloads(rest: bytes) -> bytes:
    """RFC 6455, 5.2: the payloads of one direction, one after the other."""
    found, at = bytearray(), 0
    while at + 2 <= len(rest):
        is_masked, length = rest[at + 1] & 0x80, rest[at + 1] & 0x7F
        at += 2
        wide = {126: 2, 127: 8}.get(length, 0)
        if wide:
            length = int.from_bytes(rest[at : at + wide], "big")
            at += wide
        mask = rest[at : at + 4] if is_masked else b""
        at += len(mask)
        payload = rest[at : at + length]
        at += length
        found += bytes(octet ^ mask[place % 4] for place, octet in enumerate(payload)) if mask else payload
    return bytes(found)
