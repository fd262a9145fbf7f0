"""Zip archives, unpacked with suspicion: names are never paths, sizes are counted and not believed.

Refusal codes: archive_damaged, archive_unsafe, archive_encrypted, archive_too_large.
"""

from __future__ import annotations

import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from inference.errors import InputInvalid
from server.imaging.parser.orders import Bounds

_CHUNK_BYTES = 1 << 20
_SMALL_BYTES = 16 << 20
"""An archive may expand to this much whatever its ratio: a few blank slices shrink a thousandfold."""
_LITTER = frozenset({"dicomdir", "thumbs.db", "desktop.ini"})
_DAMAGED = (
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    ValueError,  # UnicodeError too
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile raises on bytes that are not what they claim to be."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


@dataclass
class _Budget:
    left: int

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise InputInvalid("archive_too_large", "The archive expands to more than is allowed.")


def is_zip(path: Path) -> bool:
    """Whether the file starts like a zip archive with at least one member."""
    with path.open("rb") as source:
        return source.read(4) == b"PK\x03\x04"


def is_litter(name: str) -> bool:
    """Whether a file of this name lies in every folder of its kind and is meant by nobody."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return is_hidden or (bool(parts) and parts[-1].lower() in _LITTER)


def unpack(archive: Path, into: Path, *, bounds: Bounds) -> list[tuple[Path, str]]:
    """Write each member below `into` under a number; (file, name in the archive) of each.

    Raises:
        InputInvalid: with a code of the module docstring.
    """
    allowed = max(_SMALL_BYTES, min(bounds.archive_bytes, bounds.archive_ratio * archive.stat().st_size))
    budget = _Budget(allowed)
    files: list[tuple[Path, str]] = []
    try:
        with zipfile.ZipFile(archive) as members:
            for place, member in enumerate(_checked(members.infolist(), bounds=bounds)):
                target = into / f"{place:06d}"
                with members.open(member) as source:
                    _copy(source, target, budget=budget)
                files.append((target, member.filename))
    except OSError as error:
        if error.errno != errno.EINVAL:  # a directory that points before the beginning; all else is the disk's
            raise
        raise _damaged() from error
    except _DAMAGED as error:
        raise _damaged() from error
    return files


def _checked(members: list[zipfile.ZipInfo], *, bounds: Bounds) -> Iterator[zipfile.ZipInfo]:
    if len(members) > bounds.archive_members:
        raise InputInvalid("archive_too_large", f"The archive has more than {bounds.archive_members} members.")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        mode = member.external_attr >> 16
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(mode):
            raise InputInvalid("archive_unsafe", "The archive holds a link, or a name that leads out of it.")
        if member.flag_bits & 0x1:
            raise InputInvalid("archive_encrypted", "The archive is encrypted.")
        if member.compress_type not in _METHODS:
            raise _damaged()
        if not member.is_dir() and not is_litter(member.filename):
            yield member


def _damaged() -> InputInvalid:
    return InputInvalid("archive_damaged", "The archive is damaged or of an unknown kind.")


def _copy(source: IO[bytes], target: Path, *, budget: _Budget) -> None:
    with target.open("xb") as out:
        while piece := source.read(_CHUNK_BYTES):
            budget.spend(len(piece))
            out.write(piece)
