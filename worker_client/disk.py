"""Writing files so that a power cut leaves either the old or the new one, never half of one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file whole: beside it first, flushed, then renamed over it, then the folder flushed."""
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        # What a full disk took half of must not keep it full.
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_durably(source: Path, target: Path) -> None:
    """Move a file within one file system, its bytes flushed before its new name is."""
    with source.open("r+b") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder. Windows cannot open folders, and journals renames by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
