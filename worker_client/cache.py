"""Fetched inputs on disk by their sha256: a retry on the same worker moves no bytes. The least lately used go first.

Flow: 6 run
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker_client.errors import DigestMismatch

SPARE_BYTES = 256 << 20
"""Left free on the disk: masks and the outbox need room more than yesterday's inputs."""
_READ_BYTES = 1 << 20
_NAME = re.compile("[0-9a-f]{64}")


class Cache:
    """A folder of artifacts, each named by its digest, `cap_bytes` in all. Methods block; call them from a thread."""

    def __init__(self, folder: Path, *, cap_bytes: int) -> None:
        self._folder = folder
        self._cap_bytes = cap_bytes
        self._in_use: Counter[str] = Counter()
        # Several inputs arrive at the same moment, each in a thread of its own.
        self._tidying = threading.Lock()

    @contextmanager
    def in_use(self, digests: Iterable[str]) -> Iterator[None]:
        """Keep these artifacts, fetched or being fetched, whatever has to go."""
        held = tuple(digests)
        self._in_use.update(held)
        try:
            yield
        finally:
            self._in_use.subtract(held)
            self._in_use += Counter()  # drops what is at zero

    def find(self, sha256: str, *, size: int) -> Path | None:
        """The artifact, if it is here and still sound: a disk may flip a bit, so the digest is taken again."""
        path = self._folder / sha256
        if not path.is_file():
            return None
        if not _is_sound(path, sha256=sha256, size=size):
            with self._tidying:
                path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return path

    def newest(self, most: int) -> tuple[str, ...]:
        """The first 16 hex digits of what is here, the most lately used first."""
        found = [(mtime, path.name) for mtime, _, path in self._files() if _NAME.fullmatch(path.name)]
        return tuple(name[:16] for _, name in sorted(found, reverse=True)[:most])

    def part(self, sha256: str) -> Path:
        """Where the bytes of an artifact gather; their number is how far the fetch has come."""
        return self._folder / f"{sha256}.part"

    def adopt(self, sha256: str, *, size: int) -> Path:
        """Take a gathered artifact in, and make room for it. Raises DigestMismatch, and the bytes are gone then."""
        part = self.part(sha256)
        part.touch()
        if not _is_sound(part, sha256=sha256, size=size):
            with self._tidying:
                part.unlink()
            raise DigestMismatch(sha256[:12])
        with self._tidying:
            path = part.replace(self._folder / sha256)
            self._make_room()
        return path

    def make_room(self, incoming_bytes: int) -> None:
        """Let the least lately used go, so that `incoming_bytes` more fit under the cap and on the disk."""
        with self._tidying:
            self._make_room(incoming_bytes)

    def _make_room(self, incoming_bytes: int = 0) -> None:
        files = self._files()
        over_cap = sum(size for _, size, _ in files) + incoming_bytes - self._cap_bytes
        short_of_disk = incoming_bytes + SPARE_BYTES - shutil.disk_usage(self._folder).free
        surplus = max(over_cap, short_of_disk)
        for _, size, path in sorted(files):
            if surplus <= 0:
                return
            if self._in_use[path.name.removesuffix(".part")] <= 0:
                path.unlink(missing_ok=True)
                surplus -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time of last use, size and path of every file; one that leaves meanwhile is left out."""
        found = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found


def _is_sound(path: Path, *, sha256: str, size: int) -> bool:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size:
            return False
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest() == sha256
