"""Received images on the disk, by study, until a study has come to rest and is read in.

    DATA_DIR/received/<title>-<port>/arriving/         files still being written
                                    /<digest of the study's UID>/<digest of the image's UID>.dcm
                                    /reading-<digest>/ being read in; put back by the next start if it died
                                    /failed-<digest>/  for the operator: reading it in failed as nobody foresaw

A sender is told "stored" only after its image is on the disk under its name, so nothing acknowledged is lost.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from server.imaging import disk

ARRIVING = "arriving"
READING, FAILED = "reading-", "failed-"
_DIGITS = 32


@dataclass
class Spool:
    """One listener's folder. Methods may be called from any thread."""

    root: Path
    _busy: dict[Hashable, set[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self) -> Path:
        """Make the folders, put back what a dead process was reading, and answer where arriving files are written."""
        arriving = self.root / ARRIVING
        shutil.rmtree(arriving, ignore_errors=True)
        disk.make_folder(arriving)
        for folder in list(self.root.glob(f"{READING}*")):
            self._put_back(folder)
        return arriving

    def take(self, file: Path, *, study_uid: str, image_uid: str, sender: Hashable) -> None:
        """Keep an arrived file; the same image again takes the place of the first."""
        key = _digest(study_uid)
        with self._lock:
            self._busy.setdefault(sender, set()).add(key)
        folder = self.root / key
        with disk.told():
            disk.make_folder(folder)
            disk.sync_path(file)
            disk.rename(file, folder / f"{_digest(image_uid)}.dcm")

    def gone(self, sender: Hashable) -> None:
        """The sender has hung up: its studies may come to rest."""
        with self._lock:
            self._busy.pop(sender, None)

    def at_rest(self, *, seconds: float) -> Iterator[Path]:
        """Folders of studies that nobody is sending and to which nothing has come for so long."""
        with self._lock:
            busy = set[str]().union(*self._busy.values())
        before = time.time() - seconds
        for folder in sorted(self.root.iterdir()):
            is_study = folder.name != ARRIVING and not folder.name.startswith((READING, FAILED))
            if is_study and folder.name not in busy and folder.stat().st_mtime <= before:
                yield folder

    def begin(self, folder: Path) -> Path:
        """Set a study's folder apart; what comes now begins another one."""
        apart = self.root / f"{READING}{folder.name}"
        os.rename(folder, apart)  # noqa: PTH104  (Path.rename answers a path that nobody needs)
        return apart

    def finish(self, apart: Path) -> None:
        """It has been read in, or refused for good."""
        shutil.rmtree(apart, ignore_errors=True)

    def give_back(self, apart: Path) -> None:
        """It is to be read in later."""
        self._put_back(apart)

    def keep_for_operator(self, apart: Path) -> None:
        """It can neither be read in nor thrown away."""
        kept = self.root / f"{FAILED}{apart.name.removeprefix(READING)}"
        shutil.rmtree(kept, ignore_errors=True)
        apart.rename(kept)

    def free_bytes(self) -> int:
        """Room on the disk."""
        return shutil.disk_usage(self.root).free

    def _put_back(self, apart: Path) -> None:
        folder = self.root / apart.name.removeprefix(READING)
        disk.make_folder(folder)
        for file in apart.iterdir():
            if not (folder / file.name).exists():
                file.rename(folder / file.name)
        shutil.rmtree(apart, ignore_errors=True)


def _digest(uid: str) -> str:
    """A name for a folder or file; UIDs come from outside."""
    return hashlib.sha256(uid.encode()).hexdigest()[:_DIGITS]
