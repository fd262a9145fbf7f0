"""Answers that the server has not acknowledged, on disk: a finished analysis survives any crash of the worker.

One folder an attempt, `JOB.FENCE/`, made whole under another name and then renamed, so that it is there entirely
or not at all:

    answer.json    what will be said
    mask.packed    the compressed mask (results only)
    upload         the path on the server where the upload was begun, so that it goes on and does not start again

Every write is flushed to the disk before its name is (file, folder, rename, parent folder): an answer is announced
only when a power cut could no longer take it.

Flow: 7 progress
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from pathlib import Path

import msgspec

from worker_client.answers import Answer, Key, Result
from worker_client.disk import replace_durably, sync_folder, write_durably
from worker_client.errors import OutboxDamaged

logger = logging.getLogger(__name__)

ANSWER = "answer.json"
MASK = "mask.packed"
UPLOAD = "upload"
DAMAGED = "damaged."
_NAME = re.compile(r"(?P<job>[A-Za-z0-9_-]{1,64})\.(?P<fence>[0-9]{1,18})")

_decoder: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Outbox:
    """The folder of unacknowledged answers. All methods block on the disk; call them from a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> tuple[Answer, ...]:
        """Make the folder, clear what a crash left half-made, and read every answer.

        A damaged entry is set aside as `damaged.…` rather than deleted: it may hold an hour of computing.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        answers = []
        for entry in sorted(self._folder.iterdir()):
            if entry.name.startswith("."):
                shutil.rmtree(entry, ignore_errors=True)
            elif _NAME.fullmatch(entry.name):
                try:
                    answers.append(self._read(entry))
                except OutboxDamaged:
                    logger.exception("An outbox entry is damaged and was set aside", extra={"entry": entry.name})
                    self._set_aside(entry)
        return tuple(answers)

    def store(self, answer: Answer, *, mask: Path | None = None) -> None:
        """Keep an answer, moving the file `mask` in with it. Returns only when all of it is on the disk.

        Raises OSError when the disk is full or fails; nothing half-made is then listed.
        """
        final = self._path(answer.key)
        fresh = self._folder / f".new-{final.name}"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            fresh.mkdir(mode=0o700)
            if mask is not None:
                replace_durably(mask, fresh / MASK)
            write_durably(fresh / ANSWER, msgspec.json.encode(answer))
            sync_folder(fresh)
            if final.exists():
                self.remove(answer.key)
            fresh.replace(final)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        sync_folder(self._folder)

    def remove(self, key: Key) -> None:
        """Delete an answer that the server has acknowledged; nothing happens when it is gone already."""
        final = self._path(key)
        leaving = self._folder / f".gone-{final.name}"
        shutil.rmtree(leaving, ignore_errors=True)
        try:
            final.replace(leaving)
        except FileNotFoundError:
            return
        sync_folder(self._folder)
        shutil.rmtree(leaving, ignore_errors=True)

    def damaged(self) -> int:
        """How many entries were set aside, for a person to look at."""
        return len(list(self._folder.glob(f"{DAMAGED}*"))) if self._folder.is_dir() else 0

    def waiting(self) -> int:
        """How many answers lie here."""
        names = [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []
        return sum(_NAME.fullmatch(name) is not None for name in names)

    def mask_path(self, key: Key) -> Path:
        """Where the packed mask of an answer lies."""
        return self._path(key) / MASK

    def upload_of(self, key: Key) -> str | None:
        """The path of the upload that was begun for this answer, if one was."""
        try:
            return (self._path(key) / UPLOAD).read_text(encoding="utf-8") or None
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def note_upload(self, key: Key, location: str | None) -> None:
        """Remember where the upload was begun; None forgets it. An answer that is gone stays gone."""
        folder = self._path(key)
        if not folder.is_dir():
            return
        if location is None:
            (folder / UPLOAD).unlink(missing_ok=True)
        else:
            write_durably(folder / UPLOAD, location.encode())

    def _path(self, key: Key) -> Path:
        name = f"{key.job}.{key.fence}"
        if not _NAME.fullmatch(name):
            raise ValueError(f"no outbox entry can be called {name!r}")
        return self._folder / name

    def _read(self, entry: Path) -> Answer:
        try:
            answer = _decoder.decode((entry / ANSWER).read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise OutboxDamaged(entry, why=str(error)) from error
        if self._path(answer.key) != entry:
            raise OutboxDamaged(entry, why="it speaks of another attempt")
        if isinstance(answer, Result) and not _is_whole(entry / MASK, answer):
            raise OutboxDamaged(entry, why="its mask is missing, cut off or changed")
        return answer

    def _set_aside(self, entry: Path) -> None:
        aside = self._folder / f"{DAMAGED}{entry.name}"
        shutil.rmtree(aside, ignore_errors=True)
        entry.replace(aside)


def _is_whole(path: Path, result: Result) -> bool:
    """Whether the mask is the one that was computed: a disk may flip a bit, or tear a file at a power cut."""
    try:
        mask = path.read_bytes() if path.stat().st_size == result.size else b""
    except OSError:
        return False
    return hashlib.sha256(mask).hexdigest() == result.sha256
