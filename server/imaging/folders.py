"""The shelf as folders below DATA_DIR."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from server.imaging import disk
from server.imaging.errors import StoredFileDamaged

_PIECE_BYTES = 1 << 20
_TRUST_SECONDS = 60.0
"""How long a digest stays believed of a file that has not been written since, so that ranges do not read it anew."""


class FolderShelf:
    """`server.imaging.storage.Shelf` on a disk: a rename makes a folder appear, whole."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, staged: Path, relative: str) -> None:
        """Move the settled folder to its place. Raises StorageFull, StorageFailed."""
        target = self._root / relative
        with disk.told():
            disk.make_folder(target.parent)
            disk.rename(staged, target)

    def take_back(self, relative: str, staged: Path) -> None:
        """Move it back to where it was made."""
        (self._root / relative).rename(staged)

    def remove(self, relative: str) -> None:
        """Drop the folder."""
        shutil.rmtree(self._root / relative, ignore_errors=True)

    def folders(self, parent: str) -> Iterator[tuple[str, float]]:
        """By the time of the rename that brought each there."""
        root = self._root / parent
        for folder in root.iterdir() if root.is_dir() else ():
            yield folder.name, folder.stat().st_ctime

    def check(self, relative: str, *, size: int, sha256: str) -> None:
        """Read it all and compare; a minute's ranges of one unchanged file share one reading."""
        path = self._root / relative
        with disk.told():
            try:
                state = path.stat()
                moment = int(time.monotonic() / _TRUST_SECONDS)
                found = _digest_of(str(path), state.st_ino, state.st_size, state.st_mtime_ns, moment)
            except FileNotFoundError:
                raise StoredFileDamaged from None
        if state.st_size != size or found != sha256:
            raise StoredFileDamaged

    def pieces(self, relative: str, first: int, last: int | None = None) -> Iterator[bytes]:
        """Straight from the file."""
        with disk.told(), self._opened(relative) as source:
            source.seek(first)
            left = sys.maxsize if last is None else last - first + 1
            while left and (piece := source.read(min(left, _PIECE_BYTES))):
                left -= len(piece)
                yield piece

    @contextmanager
    def local(self, relative: str) -> Iterator[Path]:
        """The place itself."""
        yield self._root / relative

    def link(self, relative: str) -> str | None:
        """None: only the server reads the disk."""
        return None

    def probe(self) -> None:
        """Nothing more than what the machine's own probe found out."""

    def _opened(self, relative: str) -> BinaryIO:
        try:
            return (self._root / relative).open("rb")
        except FileNotFoundError:
            raise StoredFileDamaged from None


@lru_cache(maxsize=256)
def _digest_of(path: str, *_state: int) -> str:
    """sha256 (hex); the other arguments are what tells one state of the file from another."""
    with Path(path).open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
