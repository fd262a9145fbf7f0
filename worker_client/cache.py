"""Fetched inputs on disk by their sha256: a retry on the same worker moves no bytes. The least lately used go first.

Flow: 6 run
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worker_client.errors import DigestMismatch

_READ_BYTES = 1 << 20


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

    def _make_room(self) -> None:
        files = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in self._folder.iterdir()]
        surplus = sum(size for _, size, _ in files) - self._cap_bytes
        for _, size, path in sorted(files):
            if surplus <= 0:
                return
            if self._in_use[path.name.removesuffix(".part")] <= 0:
                path.unlink(missing_ok=True)
                surplus -= size


def _is_sound(path: Path, *, sha256: str, size: int) -> bool:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size:
            return False
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest() == sha256
