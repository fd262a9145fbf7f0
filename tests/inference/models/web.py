"""A folder on the web for tests: knows ranges, can break off and can lie."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Web:
    """`breaks`: bytes sent of a file, by name, before the line goes dead, once each. `asked`: (name, first byte)."""

    folder: Path
    address: str = ""
    ranges: bool = True
    breaks: dict[str, int] = field(default_factory=dict)
    instead: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)

    def bytes_of(self, name: str) -> bytes | None:
        if name in self.instead:
            return self.instead[name]
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None


@contextmanager
def served(folder: Path) -> Iterator[Web]:
    """The folder on a free port of this machine."""
    web = Web(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            raw = web.bytes_of(name)
            if raw is None:
                self.send_error(404)
                return
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(wanted.group(1)) if wanted and web.ranges else 0
            web.asked.append((name, start))
            if start >= len(raw) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(raw) - 1}/{len(raw)}")
            self.send_header("Content-Length", str(len(raw) - start))
            self.end_headers()
            self.wfile.write(raw[start : start + web.breaks.pop(name, len(raw))])

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    web.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
