"""Numbers in the headers of Siemens' own kind (CSA): named elements of little-endian structures, values as text."""

from __future__ import annotations

import struct

_MAX_ELEMENTS, _MAX_ITEMS = 1000, 1000
_ELEMENT, _ITEM = struct.Struct("<64sI4s3I"), struct.Struct("<4I")


def csa_numbers(content: bytes, names: frozenset[str]) -> dict[str, tuple[float, ...]]:
    """The numbers of the elements called `names`; what is damaged or absent is left out."""
    found: dict[str, tuple[float, ...]] = {}
    place = 8 if content[:4] == b"SV10" else 0
    try:
        (count,) = struct.unpack_from("<I", content, place)
        place += 8
        for _ in range(min(count, _MAX_ELEMENTS)):
            raw, _vm, _vr, _type, items, _check = _ELEMENT.unpack_from(content, place)
            values, place = _items(content, place + _ELEMENT.size, min(items, _MAX_ITEMS))
            name = raw.partition(b"\0")[0].decode("latin-1")
            if name in names:
                found[name] = tuple(float(one) for one in values if one)
    except (struct.error, ValueError):
        return found
    return found


def _items(content: bytes, place: int, count: int) -> tuple[list[bytes], int]:
    values = []
    for _ in range(count):
        _, length, _, _ = _ITEM.unpack_from(content, place)
        place += _ITEM.size
        if place + length > len(content):
            raise ValueError("an item is longer than its header")
        values.append(content[place : place + length].partition(b"\0")[0].strip())
        place += -(-length // 4) * 4
    return values, place
