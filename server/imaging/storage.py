"""Where files lie, and how one appears there: complete, safe, or not at all.

On this machine, below DATA_DIR, whatever STORAGE_URL says:
    staging/<id>/                          being written; removed when done or after a day
    uploads/<id>                           chunks of an upload so far (with STORAGE_URL: in the bucket)
On the shelf, which is DATA_DIR too or, with STORAGE_URL, a bucket; a row names each folder:
    series/<id>/volume.nii.gz, artifact, originals/*.dcm
    masks/<job id>-<id>/mask.nii.gz, mask.dcm, report.json, report.dcm, summary.pdf, summary.dcm, key-<n>.dcm
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from django.conf import settings

from server.ids import new_id
from server.imaging import disk
from server.imaging.errors import StoredFileDamaged

STALE_SECONDS = 24 * 3600.0
"""Longer than any delivery waits for the parser and is read."""
ORPHAN_SECONDS = 3600.0
"""Longer than any transaction between a published folder and its row."""


class Shelf(Protocol):
    """Where finished files stay. Paths are relative, as in the rows; a folder is kept whole or not at all.

    Every method may raise StorageFull or StorageFailed; those that read raise StoredFileDamaged too.
    """

    def keep(self, staged: Path, relative: str) -> None:
        """Put a staged folder there for good; when this returns a row may name it."""

    def take_back(self, relative: str, staged: Path) -> None:
        """Undo `keep`: no row came of it, and the staged folder is to be used again."""

    def remove(self, relative: str) -> None:
        """Take a folder away; gone already is fine."""

    def folders(self, parent: str) -> Iterator[tuple[str, float]]:
        """The names below `parent`, and when each last changed (Unix time)."""

    def check(self, relative: str, *, size: int, sha256: str) -> None:
        """Cheap enough for every request: the file is there and, as far as the shelf can tell, unharmed."""

    def pieces(self, relative: str, first: int, last: int | None = None) -> Iterator[bytes]:
        """The bytes from `first` to `last`, both included, or to the end; a piece at a time."""

    def local(self, relative: str) -> AbstractContextManager[Path]:
        """A file or folder as one on this machine, to be read only."""

    def link(self, relative: str) -> str | None:
        """An address under which its bearer may fetch the file for ten minutes; None where there is no such thing."""

    def probe(self) -> None:
        """Find out whether the shelf can be used."""


def shelf() -> Shelf:
    """The shelf of the settings."""
    if settings.STORAGE is not None:
        from server.imaging.s3 import shelf_of  # its packages are an extra

        return shelf_of(settings.STORAGE)
    from server.imaging.folders import FolderShelf

    return FolderShelf(Path(settings.DATA_DIR))


def origin() -> str:
    """The origin of the object storage that links lead to, its port always named; empty without one."""
    if settings.STORAGE is None:
        return ""
    parts = urlsplit(settings.STORAGE.endpoint)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def path_of(relative: str) -> Path:
    """A file or folder below DATA_DIR on this machine."""
    return Path(settings.DATA_DIR) / relative


def upload_path(upload_id: str) -> str:
    """Where the chunks of an upload are gathered, relative to DATA_DIR."""
    return f"uploads/{upload_id}"


@contextmanager
def staging() -> Iterator[Path]:
    """A folder to write in that is gone afterwards, whatever happens. What shall stay is kept out of it."""
    folder = path_of(f"staging/{new_id()}")
    with disk.told():
        disk.make_folder(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path) -> None:
    """Put everything below `folder` on the disk for good, so that a rename may make it visible."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            disk.sync_path(Path(parent) / name)
        disk.sync_path(Path(parent))


def read(relative: str, *, sha256: str) -> bytes:
    """A small file of the shelf, exactly as it was put there. An empty `sha256` is that of files from before digests.

    Raises:
        StoredFileDamaged, StorageFailed.
    """
    content = b"".join(shelf().pieces(relative, 0))
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise StoredFileDamaged
    return content


def remove(relative: str) -> None:
    """Take a file or folder of this machine away; gone already is fine."""
    target = path_of(relative)
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def sweep(*, known_uploads: set[str]) -> None:
    """Remove what a killed process has left on this machine: staging folders, and chunks that no row knows."""
    oldest = time.time() - STALE_SECONDS
    for parent, known in (("staging", set[str]()), ("uploads", known_uploads)):
        root = path_of(parent)
        for entry in root.iterdir() if root.is_dir() else ():
            if f"{parent}/{entry.name}" not in known and entry.stat().st_ctime < oldest:
                remove(f"{parent}/{entry.name}")


def drop_orphans(parent: str, *, known: set[str]) -> None:
    """Remove folders of the shelf that no row knows and that are an hour old: kept, but never committed."""
    place, oldest = shelf(), time.time() - ORPHAN_SECONDS
    for name, changed_at in list(place.folders(parent)):
        if f"{parent}/{name}" not in known and changed_at < oldest:
            place.remove(f"{parent}/{name}")


def probe() -> None:
    """Find out whether files can be written on this machine and kept on the shelf. Raises what went wrong."""
    own = path_of(".ready")
    own.write_bytes(b"ok")
    own.unlink(missing_ok=True)
    shelf().probe()
