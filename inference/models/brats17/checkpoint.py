"""Read tensors from a TensorFlow 1 checkpoint without TensorFlow: every length is checked before it is believed.

The index file is a LevelDB table (github.com/google/leveldb, doc/table_format.md) whose values are BundleEntryProto
messages (tensorflow/core/protobuf/tensor_bundle.proto); the data file holds the tensors one after the other.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.models.errors import CheckpointInvalid

MAX_INDEX_BYTES = 1 << 20
MAX_FILE_BYTES = 64 << 20
MAX_KEY_BYTES = 1024
MAX_TENSORS = 10_000
MAX_DIMENSIONS = 8

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_PLAIN = 0  # block compression; the checkpoints' writer uses no other
_FLOAT = 1  # DT_FLOAT of tensorflow/core/framework/types.proto
_CRC_POLYNOMIAL = 0x82F63B78
_CRC_DELTA = 0xA282EAD8


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in the data file: `size` bytes from `offset`, `dtype` as TensorFlow numbers its types."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_checkpoint(index: Path, data: Path, *, wanted: Callable[[str], bool]) -> dict[str, npt.NDArray[np.float32]]:
    """The float32 tensors whose names are `wanted`, in the axis order TensorFlow gave them.

    Raises CheckpointInvalid when either file is not what it says, or a checksum does not fit.
    """
    entries = read_index(_bytes_of(index, limit=MAX_INDEX_BYTES))
    raw = memoryview(_bytes_of(data, limit=MAX_FILE_BYTES))
    return {name: _tensor(name, entry, raw) for name, entry in entries.items() if wanted(name)}


def read_index(raw: bytes) -> dict[str, Entry]:
    """Every tensor a checkpoint's index names. Raises CheckpointInvalid."""
    if len(raw) < _FOOTER_BYTES or struct.unpack("<Q", raw[-8:])[0] != _MAGIC:
        raise CheckpointInvalid("the index does not end as a table does")
    footer = _Cursor(raw[-_FOOTER_BYTES:-8])
    footer.varint(), footer.varint()  # the metaindex: nothing of ours
    blocks = _block(raw, footer.varint(), footer.varint())
    entries: dict[str, Entry] = {}
    for _, handle in _pairs(blocks):
        place = _Cursor(handle)
        for key, value in _pairs(_block(raw, place.varint(), place.varint())):
            if len(entries) >= MAX_TENSORS:
                raise CheckpointInvalid("it names too many tensors")
            if key:  # the empty key is the header
                entries[key.decode("utf-8", errors="replace")] = _entry(value)
            else:
                _check_header(value)
    return entries


def crc32c(raw: bytes | memoryview) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4) of some bytes."""
    crc = 0xFFFFFFFF
    for byte in raw:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The checksum as LevelDB and TensorFlow store it, so that a checksum of checksums stays useful."""
    return (((crc >> 15) | (crc << 17)) + _CRC_DELTA) & 0xFFFFFFFF


class _Cursor:
    """Reads numbers and pieces from bytes, and never past their end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._raw)

    def take(self, count: int) -> bytes:
        if count > len(self._raw) - self._at:
            raise CheckpointInvalid("a length reaches beyond its end")
        self._at += count
        return self._raw[self._at - count : self._at]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
        raise CheckpointInvalid("a number is longer than 64 bits")

    def fields(self) -> Iterator[tuple[int, int | bytes]]:
        """The fields of a protocol buffer message: its number, and a number or bytes."""
        while not self.is_done:
            tag = self.varint()
            kind = tag & 7
            if kind == 0:
                yield tag >> 3, self.varint()
            elif kind == 2:
                yield tag >> 3, self.take(self.varint())
            elif kind in (1, 5):
                yield tag >> 3, int.from_bytes(self.take(8 if kind == 1 else 4), "little")
            else:
                raise CheckpointInvalid("a field has a type that is not in use")


def _block(raw: bytes, offset: int, size: int) -> bytes:
    """The content of a block, its checksum checked."""
    if offset + size + _TRAILER_BYTES > len(raw):
        raise CheckpointInvalid("a block lies outside of the index")
    content, kind = raw[offset : offset + size], raw[offset + size]
    (stored,) = struct.unpack_from("<I", raw, offset + size + 1)
    if kind != _PLAIN:
        raise CheckpointInvalid("a block is compressed")
    if masked(crc32c(raw[offset : offset + size + 1])) != stored:
        raise CheckpointInvalid("a block's checksum does not fit")
    return content


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, in order; each key repeats the start of the one before."""
    restarts = int.from_bytes(block[-4:], "little") if len(block) >= 4 else 0
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise CheckpointInvalid("a block is shorter than its own list of restarts")
    cursor, key = _Cursor(block[:end]), b""
    while not cursor.is_done:
        shared, added, length = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or shared + added > MAX_KEY_BYTES:
            raise CheckpointInvalid("a key is longer than it can be")
        key = key[:shared] + cursor.take(added)
        yield key, cursor.take(length)


def _check_header(value: bytes) -> None:
    header = dict(_Cursor(value).fields())
    if header.get(1, 1) != 1 or header.get(2, 0) != 0:
        raise CheckpointInvalid("it is not one little-endian file")


def _entry(value: bytes) -> Entry:
    numbers, shape = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}, b""
    for field, content in _Cursor(value).fields():
        if field == 2 and isinstance(content, bytes):
            shape = content
        elif field in numbers and isinstance(content, int):
            numbers[field] = content
        elif field == 7:
            raise CheckpointInvalid("a tensor is stored in slices")
    return Entry(numbers[1], _shape(shape), shard=numbers[3], offset=numbers[4], size=numbers[5], crc=numbers[6])


def _shape(message: bytes) -> tuple[int, ...]:
    """The sizes in a TensorShapeProto: field 2 repeated, each with its size in field 1."""
    sizes: list[int] = []
    for field, content in _Cursor(message).fields():
        if field != 2 or not isinstance(content, bytes) or len(sizes) >= MAX_DIMENSIONS:
            raise CheckpointInvalid("a tensor's shape is not a short list of sizes")
        size = dict(_Cursor(content).fields()).get(1, 0)
        if not isinstance(size, int) or size > MAX_FILE_BYTES:
            raise CheckpointInvalid("a tensor is larger than its file")
        sizes.append(size)
    return tuple(sizes)


def _tensor(name: str, entry: Entry, raw: memoryview) -> npt.NDArray[np.float32]:
    if entry.dtype != _FLOAT or entry.shard != 0:
        raise CheckpointInvalid(f"{name} is not float32 in the one file")
    if entry.size != 4 * math.prod(entry.shape) or entry.offset + entry.size > len(raw):
        raise CheckpointInvalid(f"{name} lies outside of the file, or is not as large as its shape")
    piece = raw[entry.offset : entry.offset + entry.size]
    if masked(crc32c(piece)) != entry.crc:
        raise CheckpointInvalid(f"the checksum of {name} does not fit")
    return np.frombuffer(piece, dtype="<f4").reshape(entry.shape).astype(np.float32)


def _bytes_of(path: Path, *, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise CheckpointInvalid(f"{path.name} is larger than {limit >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointInvalid(f"{path.name} cannot be read") from error


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_CRC_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()
