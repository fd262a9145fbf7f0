"""Where files lie under DATA_DIR, and how one appears there: complete, on the disk, or not at all.

staging/<id>/                              being written; removed when done or after a day
uploads/<id>                               chunks of an upload so far
series/<id>/volume.nii.gz, artifact, originals/*.dcm
masks/<job id>-<id>/mask.nii.gz, mask.dcm, report.json
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from server.ids import new_id

STALE_SECONDS = 24 * 3600.0


def path_of(relative: str) -> Path:
    """The file or folder a row's `path` stands for."""
    return Path(settings.DATA_DIR) / relative


def upload_path(upload_id: str) -> str:
    """Where the chunks of an upload are gathered, relative to DATA_DIR."""
    return f"uploads/{upload_id}"


@contextmanager
def staging() -> Iterator[Path]:
    """A folder to write in that is gone afterwards, whatever happens. What shall stay is published out of it."""
    folder = path_of(f"staging/{new_id()}")
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path) -> None:
    """Put everything below `folder` on the disk for good, so that a rename may make it visible."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def publish(staged: Path, relative: str) -> None:
    """Move a settled file or folder to its place under DATA_DIR in one step."""
    target = path_of(relative)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged.rename(target)
    _sync(target.parent)


def remove(relative: str) -> None:
    """Take a file or folder away; gone already is fine."""
    target = path_of(relative)
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def sweep() -> None:
    """Remove staging folders that a killed process has left behind."""
    drop_orphans("staging", known=set())


def drop_orphans(parent: str, *, known: set[str]) -> None:
    """Remove folders below `parent` that no row knows and that are a day old: published, but never committed."""
    root = path_of(parent)
    oldest = time.time() - STALE_SECONDS
    for folder in root.iterdir() if root.is_dir() else ():
        if f"{parent}/{folder.name}" not in known and folder.stat().st_ctime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
