"""The few calls by which files reach the disk, in one place: a test may let each fail, or record their order.

The order is always write, fsync, rename, fsync of the folder; only then may a row speak of the file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.imaging.errors import StorageFailed, StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FAILED = frozenset({errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EMFILE, errno.ENFILE})


def write(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of `content` at `offset`."""
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def sync(descriptor: int) -> None:
    """Wait until what was written has reached the disk."""
    os.fsync(descriptor)


def sync_path(path: Path) -> None:
    """The same for a file or folder by its name; for a folder it is its entries that are safe afterwards."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def create(path: Path) -> None:
    """An empty file that nobody but this user may read, and whose name survives a power cut."""
    make_folder(path.parent)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    sync_path(path.parent)


def make_folder(folder: Path) -> None:
    """The folder and what is missing above it, each name safe on the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True, mode=0o700)
    sync_path(folder.parent)


def rename(source: Path, target: Path) -> None:
    """Move a file or folder in one step, and make the move last."""
    source.rename(target)
    sync_path(target.parent)


@contextmanager
def told() -> Iterator[None]:
    """Turn what a full, read-only or failing disk raises into what the client is told.

    Raises:
        StorageFull, StorageFailed: both may go away, so the same request may be repeated.
    """
    try:
        yield
    except OSError as error:
        problem = problem_of(error.errno)
        if problem is None:
            raise
        raise problem from error


def problem_of(number: int | None) -> StorageFull | StorageFailed | None:
    """What an error number of the system means to a client; None when it says nothing about the disk."""
    if number in _FULL:
        return StorageFull()
    return StorageFailed() if number in _FAILED else None
