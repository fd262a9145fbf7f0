"""A server's enrolment desk and health page over HTTP, and a home folder that is enrolled with a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker_client.home import Home, IdentityFile


@dataclass
class Desk:
    """The server's enrolment desk and its health page, on this machine."""

    port: int = 0
    status: int = 200
    seen: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def a_desk() -> Iterator[Desk]:
    desk = Desk()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            desk.seen.append(msgspec.json.decode(body))
            answer = {"worker_id": "w-9", "server": "http://elsewhere", "epoch": "e-1", "detail": "The token was used."}
            self._say(desk.status, msgspec.json.encode(answer))

        def do_GET(self) -> None:
            self._say(desk.status, b"ok")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    desk.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield desk
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def enrolled(home: Path, server: str) -> Home:
    made = Home(home)
    made.prepare()
    identity = IdentityFile(worker_id="w1", name="lab", server=server, epoch="epoch-1")
    made.remember(identity, key=Ed25519PrivateKey.generate())
    return made
