"""A forward proxy as in many hospitals: plain requests pass, and tunnels, which WebSocket needs, are refused."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from urllib.parse import urlsplit

REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BlockingProxy:
    """Runs in a thread of its own, on a free port of 127.0.0.1. `refused` counts the tunnels that were asked for."""

    def __init__(self) -> None:
        self.is_blocking = True
        self.refused = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> BlockingProxy:
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        """Until nobody is left: a connection accepted a moment ago begins its task only now."""
        self._server.close()
        await asyncio.sleep(0)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=1.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            await _close(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if method != "CONNECT":
            await self._pass_on(head, target, reader, writer)
        elif self.is_blocking:
            self.refused += 1
            writer.write(REFUSED)
        else:
            host, _, port = target.rpartition(":")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await _join(b"", host, int(port), reader, writer)

    async def _pass_on(
        self, head: bytes, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One request a connection: in its own words but for the address and the connection header."""
        url = urlsplit(target)
        path = url.path + (f"?{url.query}" if url.query else "")
        lines = head.decode("latin-1").split("\r\n")
        kept = [line for line in lines[1:-2] if not line.lower().startswith(("proxy-", "connection:"))]
        first = f"{lines[0].split(' ')[0]} {path} HTTP/1.1"
        rewritten = "\r\n".join([first, *kept, "Connection: close", "", ""]).encode("latin-1")
        await _join(rewritten, url.hostname or "", url.port or 80, reader, writer)


async def _join(first: bytes, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    up_reader, up_writer = await asyncio.open_connection(host, port)
    up_writer.write(first)
    upwards = asyncio.create_task(_pump(reader, up_writer))
    try:
        await _pump(up_reader, writer)
    finally:
        upwards.cancel()
        await _close(up_writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()
