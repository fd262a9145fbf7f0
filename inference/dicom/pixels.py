"""The stored numbers of one file, frame by frame: read in place where they lie plain, decoded where they do not."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels import iter_pixels

from inference.dicom.files import BIG_ENDIAN, PARSE_ERRORS, open_dataset, quiet
from inference.dicom.planes import Instance, Stored
from inference.errors import InputInvalid

Pixels = npt.NDArray[np.generic]

_PIXEL_TAG = 0x7FE00010
_LONG_FORMS = frozenset({b"OB", b"OW", b"UN"})
_UNDEFINED = 0xFFFFFFFF


def read_frames(instance: Instance, frames: list[int]) -> Iterator[Pixels]:
    """The stored pixels (rows, columns) of the frames asked for, in that order, one at a time.

    Raises:
        InputInvalid: undecodable or too_large, with the file's name.
    """
    with _told(instance):
        stored = instance.stored
        if 0 in stored.shape:
            raise InputInvalid("undecodable", "It has no pixels.")
        decoded = _decoded(instance, frames) if stored.syntax.is_encapsulated else _plain(instance, frames)
        for frame in decoded:
            yield _without_overlays(frame, stored)


@contextmanager
def _told(instance: Instance) -> Iterator[None]:
    try:
        with quiet():
            yield
    except InputInvalid as error:
        raise error.about(instance.name) from error.__cause__
    except PARSE_ERRORS as error:
        raise InputInvalid("undecodable", "Its pixels cannot be decoded.", subject=instance.name) from error
    except MemoryError as error:
        raise InputInvalid(
            "too_large", "Its pixels need more memory than may be used.", subject=instance.name
        ) from error


def _decoded(instance: Instance, frames: list[int]) -> Iterator[Pixels]:
    dataset = open_dataset(instance.path, stop_before_pixels=False).dataset
    for frame in iter_pixels(dataset, indices=frames, raw=True):
        if frame.shape != instance.stored.shape:
            raise InputInvalid("undecodable", "Its pixels are not as many as its header says.")
        yield frame


def _plain(instance: Instance, frames: list[int]) -> Iterator[Pixels]:
    stored = instance.stored
    with _content(instance) as (source, length):
        start = source.tell()
        _check_length(stored, length)
        kind = np.dtype(f"{'i' if stored.is_signed else 'u'}{stored.bits_allocated // 8}")
        kind = kind.newbyteorder(">" if stored.syntax == BIG_ENDIAN else "<")
        for frame in frames:
            source.seek(start + frame * stored.frame_bytes)
            pixels = np.frombuffer(source.read(stored.frame_bytes), dtype=kind)
            yield pixels.reshape(stored.shape).astype(kind.newbyteorder("="), copy=False)


@contextmanager
def _content(instance: Instance) -> Iterator[tuple[Any, int]]:
    """A file that stands at the first pixel, and how many bytes there are."""
    stored = instance.stored
    if stored.offset is None:
        content = open_dataset(instance.path, stop_before_pixels=False).dataset.PixelData
        yield io.BytesIO(content), len(content)
        return
    with instance.path.open("rb") as source:
        size = source.seek(0, io.SEEK_END)
        source.seek(stored.offset)
        claimed = _skip_head(source, stored)
        yield source, min(claimed, size - source.tell())


def _skip_head(source: Any, stored: Stored) -> int:
    """The length that the element of the pixels claims (PS3.5, 7.1.2); the file stands behind it."""
    order = ">" if stored.syntax == BIG_ENDIAN else "<"
    group, element, vr, length = struct.unpack(f"{order}HH2sH", source.read(8))
    if group << 16 | element != _PIXEL_TAG:
        raise InputInvalid("undecodable", "It has no pixels.")
    if stored.is_implicit:
        length = int.from_bytes(vr + struct.pack("<H", length), "little")
    elif vr in _LONG_FORMS:
        (length,) = struct.unpack(f"{order}I", source.read(4))
    if length == _UNDEFINED:
        raise InputInvalid("undecodable", "Its pixels are compressed, and its header says that they are not.")
    return int(length)


def _check_length(stored: Stored, length: int) -> None:
    """Fewer bytes than announced are a loss; a whole frame more is something else than the header describes."""
    expected = stored.frame_bytes * stored.frames
    if length < expected:
        raise InputInvalid("undecodable", "It ends before all its pixels have come.")
    if length >= expected + stored.frame_bytes:
        raise InputInvalid("undecodable", "It holds more pixels than its header says.")


def _without_overlays(pixels: Pixels, stored: Stored) -> Pixels:
    """Only the bits that are stored (PS3.5, 8.1.1): old scanners keep drawings in the others."""
    if not 1 <= stored.bits_stored <= stored.bits_allocated:
        raise InputInvalid("undecodable", "Its header contradicts itself over the bits of a pixel.")
    unused = pixels.dtype.itemsize * 8 - stored.bits_stored
    if not unused:
        return pixels
    shift = pixels.dtype.type(unused)
    cleared: Pixels = np.right_shift(np.left_shift(pixels, shift), shift)
    return cleared
