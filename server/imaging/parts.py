"""What has come of an upload so far: one file that grows, or an object a chunk where a bucket is shared by all servers.

The row's offset is the truth. Bytes are safe before it moves, and bytes beyond it count for nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from django.conf import settings

from server.ids import new_id
from server.imaging import disk, storage
from server.imaging.errors import UploadBusy, UploadGone
from server.imaging.models import Upload

_PIECE_BYTES = 1 << 20


class Parts(Protocol):
    """The bytes of one upload. Every method may raise StorageFull or StorageFailed."""

    def begin(self) -> None:
        """Make place for them."""

    def alone(self) -> AbstractContextManager[None]:
        """Keep others from writing meanwhile. Raises UploadBusy, UploadGone."""

    def write(self, chunk: bytes, offset: int) -> list[str]:
        """Put a chunk safely there; what the row's `parts` shall be once it counts."""

    def pieces(self, names: list[str]) -> Iterator[bytes]:
        """Everything that counts, in order; `names` is what the row's `parts` are, or shall be."""

    def whole(self, folder: Path) -> Path:
        """The complete upload as a file on this machine, in `folder` if it is nowhere else."""

    def remove(self) -> None:
        """Drop them."""


def parts_of(upload: Upload) -> Parts:
    """Where the bytes of this upload lie."""
    return FileParts(upload) if settings.STORAGE is None else ObjectParts(upload)


class FileParts:
    """One file below DATA_DIR. Several servers need that folder in common."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._path = storage.path_of(upload.path)

    def begin(self) -> None:
        """An empty file."""
        with disk.told():
            disk.create(self._path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A lock on the file: two requests at one offset must not mix their bytes."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            raise UploadGone from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise UploadBusy from None
        finally:
            os.close(descriptor)

    def write(self, chunk: bytes, offset: int) -> list[str]:
        """In its place; on the disk, as an offset that was acknowledged must not be ahead of it."""
        with disk.told():
            descriptor = os.open(self._path, os.O_WRONLY)
            try:
                disk.write(descriptor, chunk, offset)
                disk.sync(descriptor)
            finally:
                os.close(descriptor)
        return []

    def pieces(self, names: list[str]) -> Iterator[bytes]:
        """As they lie in the file."""
        with disk.told(), self._path.open("rb") as source:
            left = self._upload.length
            while left and (piece := source.read(min(left, _PIECE_BYTES))):
                left -= len(piece)
                yield piece

    def whole(self, folder: Path) -> Path:
        """The file itself."""
        return self._path

    def remove(self) -> None:
        """The file goes."""
        storage.remove(self._upload.path)


class ObjectParts:
    """One object a chunk, under a name that nobody else writes; the row says which of them count."""

    def __init__(self, upload: Upload) -> None:
        from server.imaging.s3 import shelf_of

        self._upload = upload
        self._shelf = shelf_of(settings.STORAGE)

    def begin(self) -> None:
        """Objects need no place made."""

    def alone(self) -> AbstractContextManager[None]:
        """Nothing to keep apart: of two chunks at one offset only the one counts whose row update comes first."""
        return nullcontext()

    def write(self, chunk: bytes, offset: int) -> list[str]:
        """An object of its own."""
        name = f"{offset:015d}-{new_id()}"
        self._shelf.put(f"{self._upload.path}/{name}", chunk)
        return [*self._upload.parts, name]

    def pieces(self, names: list[str]) -> Iterator[bytes]:
        """Object by object."""
        for name in names:
            yield from self._shelf.pieces(f"{self._upload.path}/{name}", 0)

    def whole(self, folder: Path) -> Path:
        """Gathered into one file."""
        target = folder / f"upload-{self._upload.pk}"
        with disk.told(), target.open("xb") as out:
            out.writelines(self.pieces(self._upload.parts))
        return target

    def remove(self) -> None:
        """All objects go, those that never counted too."""
        self._shelf.remove(self._upload.path)
