"""Folders and files on the server's own disk, gathered for reading in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User

from server.imaging.ingest import Ingested, ingest
from server.imaging.parser.archive import is_litter
from server.imaging.parser.orders import Named


def import_paths(*, owner: Any, paths: Iterable[Path], is_replacement: bool = False) -> Ingested:
    """Read DICOM folders, zip archives and NIfTI files in, each folder named as one delivery.

    NIfTI files named one by one are one study; those in a folder are one study a folder.

    Raises:
        NothingReadable, SeriesConflict.
    """
    files = [file for path in paths for file in (_below(path) if path.is_dir() else [_alone(path)])]
    return ingest(owner=owner, files=files, is_replacement=is_replacement)


def importer(username: str | None) -> User | None:
    """The user of that name, or else the first superuser; None when there is none."""
    if username:
        return User.objects.filter(username=username).first()
    return User.objects.filter(is_superuser=True).order_by("pk").first()


def _alone(file: Path) -> Named:
    return Named(path=str(file.resolve()), name=file.name)


def _below(folder: Path) -> list[Named]:
    files = {path.relative_to(folder).as_posix(): path.resolve() for path in folder.rglob("*") if path.is_file()}
    return [
        Named(path=str(file), name=name, group=str(file.parent))
        for name, file in sorted(files.items())
        if not is_litter(name)
    ]
