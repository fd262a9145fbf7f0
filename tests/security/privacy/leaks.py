"""Looking for marks in bytes of any kind: as they are, and below every wrapping that anything on the way uses."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

import zstandard

from tests.security.privacy.marks import NAMES, SPELLINGS

DEEPEST = 5
MOST_BYTES = 64 * 1024 * 1024
_CHUNK_HEADS = re.compile(rb"\r\n[0-9a-fA-F]{1,8}\r\n")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){8,}")
_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})")
_ZIP = re.compile(rb"PK\x03\x04")
_ZSTD, _GZIP, _ZLIB = (
    re.compile(rb"\x28\xb5\x2f\xfd"),
    re.compile(rb"\x1f\x8b\x08"),
    re.compile(rb"\x78[\x01\x5e\x9c\xda]"),
)


def marks_in(blob: bytes, *, digests: frozenset[str] = frozenset()) -> set[str]:
    """The marks in some bytes, in any spelling."""
    return {mark for layer in unfolded(blob) for mark in _plain_marks(layer, digests)}


def unfolded(blob: bytes, *, depth: int = 0) -> Iterator[bytes]:
    """The bytes, and what is packed or encoded in them, and what is packed in that."""
    yield blob
    if depth < DEEPEST:
        for unfold in (_joined, _decompressed, _from_base64, _from_hex, _unescaped):
            for inner in unfold(blob):
                if inner and inner != blob:
                    yield from unfolded(inner, depth=depth + 1)


def _plain_marks(layer: bytes, digests: frozenset[str]) -> Iterator[str]:
    lower = layer.lower()
    # Without its zeros UTF-16 is what it was.
    for text in (lower, lower.replace(b"\0", b"")):
        yield from (found.group().decode() for found in SPELLINGS.finditer(text))
    yield from (name.decode("utf-8", "replace") for name in NAMES if name in layer)
    for run in _HEX.findall(lower.replace(b"-", b"")):
        if run[:16].decode() in digests:
            yield f"digest {run[:16].decode()}"


def _joined(blob: bytes) -> Iterator[bytes]:
    """A chunked body without the lengths between its chunks."""
    if _CHUNK_HEADS.search(blob):
        yield _CHUNK_HEADS.sub(b"", blob)


def _decompressed(blob: bytes) -> Iterator[bytes]:
    kinds: tuple[tuple[re.Pattern[bytes], Callable[[bytes], bytes]], ...] = (
        (_ZSTD, lambda packed: zstandard.ZstdDecompressor().decompressobj().decompress(packed)),
        (_GZIP, lambda packed: zlib.decompressobj(31).decompress(packed, MOST_BYTES)),
        (_ZIP, _zipped),
        (_ZLIB, lambda packed: zlib.decompressobj(15).decompress(packed, MOST_BYTES)),
    )
    for magic, decompress in kinds:
        for start in magic.finditer(blob):
            try:
                yield decompress(blob[start.start() :])
            except (zlib.error, zstandard.ZstdError):
                continue  # bytes that look like a beginning


def _zipped(packed: bytes) -> bytes:
    """The file behind a local header of a zip."""
    start = 30 + int.from_bytes(packed[26:28], "little") + int.from_bytes(packed[28:30], "little")
    return zlib.decompressobj(-15).decompress(packed[start:], MOST_BYTES)


def _from_base64(blob: bytes) -> Iterator[bytes]:
    for run in _BASE64.findall(blob):
        plain = run.translate(bytes.maketrans(b"-_", b"+/"))
        for start in range(4):
            # A run may begin with what stood before it, a path or a name.
            whole = plain[start : start + (len(plain) - start) // 4 * 4]
            yield base64.b64decode(whole)
            rest = plain[start + len(whole) :]
            if len(rest) > 1:
                yield base64.b64decode(whole + rest.ljust(4, b"="))


def _from_hex(blob: bytes) -> Iterator[bytes]:
    for run in _HEX.findall(blob):
        yield binascii.unhexlify(run)


def _unescaped(blob: bytes) -> Iterator[bytes]:
    if _ESCAPE.search(blob):
        yield _ESCAPE.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "replace"), blob)
    if b"%" in blob:
        yield unquote_to_bytes(blob)
