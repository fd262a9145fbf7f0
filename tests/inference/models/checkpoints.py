"""A TensorFlow 1 checkpoint as its own writer makes it, small, and its pieces for tests that break it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from inference.models.brats17.checkpoint import crc32c, masked

MAGIC = 0xDB4775248B80FB57


def varint(value: int) -> bytes:
    """A number in groups of seven bits, least significant first."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, value: int | bytes, *, fixed: bool = False) -> bytes:
    """A protocol buffer field."""
    if fixed:
        return varint(number << 3 | 5) + struct.pack("<I", value)
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def bundle_entry(shape: tuple[int, ...], *, offset: int, size: int, crc: int, dtype: int = 1) -> bytes:
    """A BundleEntryProto."""
    dims = b"".join(field(2, field(1, length)) for length in shape)
    return field(1, dtype) + field(2, dims) + field(4, offset) + field(5, size) + field(6, crc, fixed=True)


def block(pairs: Mapping[bytes, bytes]) -> bytes:
    """A table block: keys share the start of the one before, as LevelDB writes them."""
    written, before = bytearray(), b""
    for key, value in pairs.items():
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        written += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return bytes(written) + struct.pack("<II", 0, 1)


def table(entries: Mapping[bytes, bytes], *, compression: int = 0) -> bytes:
    """An index file with one block of entries."""
    raw = bytearray()

    def add(content: bytes) -> bytes:
        start = len(raw)
        sealed = content + bytes([compression])
        raw.extend(sealed + struct.pack("<I", masked(crc32c(sealed))))
        return varint(start) + varint(len(content))

    where = add(block(entries))
    meta, index = add(block({})), add(block({b"~": where}))
    return bytes(raw) + (meta + index).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def checkpoint(tensors: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data of float32 tensors."""
    entries, values = {b"": field(1, 1)}, bytearray()
    for name, tensor in sorted(tensors.items()):
        raw = np.ascontiguousarray(tensor, dtype="<f4").tobytes()
        entries[name.encode()] = bundle_entry(tensor.shape, offset=len(values), size=len(raw), crc=masked(crc32c(raw)))
        values += raw
    return table(entries), bytes(values)
