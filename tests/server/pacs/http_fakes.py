"""An archive on 127.0.0.1 that answers with exactly the bytes it was given, however wrong they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What comes back. `length` may lie; None: as long as it is."""

    body: bytes = b""
    status: int = 200
    kind: str = "application/dicom+json"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    drip: Callable[[], Iterator[bytes]] | None = None
    """Pieces instead of a body, without a length."""


class FakeHttp:
    """Answers by path, and notes what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.done = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/dicom-web"

    def on(self, path: str, *answers: Answer) -> None:
        """The answers at a path below the service, one after another; the last is repeated."""
        self.answers[f"/dicom-web{path}"] = list(answers)

    def serve(self) -> None:
        """Until `stop`."""
        self._server.serve_forever(poll_interval=0.01)

    def stop(self) -> None:
        """End, whoever still reads."""
        self.done.set()
        self._server.shutdown()
        self._server.server_close()

    def answer_to(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The next answer."""
        self.asked.append((method, path, headers, body))
        waiting = self.answers.get(path.partition("?")[0], [Answer(status=404)])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"fake": self})


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHttp

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.fake.answer_to(self.command, self.path, dict(self.headers), body)
        length = {"Content-Length": str(len(answer.body) if answer.length is None else answer.length)}
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.kind, **answer.headers, **({} if answer.drip else length)}.items():
            self.send_header(name, value)
        self.end_headers()
        # The client may have had enough before the end.
        with suppress(OSError):
            for piece in answer.drip() if answer.drip else (answer.body,):
                self.wfile.write(piece)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def fake_http() -> Iterator[FakeHttp]:
    """One that listens."""
    fake = FakeHttp()
    thread = threading.Thread(target=fake.serve, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.stop()
        thread.join()
