"""What scanners say in elements of their own: diffusion, Philips' scale, the count of tiles in a mosaic.

Private elements are read from the block they have on every scanner seen (PS3.5, 7.8); a value of another kind is none.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from inference.dicom.facts import number, text

B_VALUE = {
    "siemens": (0x0019, 0x100C),
    "ge": (0x0043, 0x1039),
    "philips": (0x2001, 0x1003),
    "uih": (0x0065, 0x1009),
}
DIRECTION = {
    "siemens": ((0x0019, 0x100E),),
    "ge": ((0x0019, 0x10BB), (0x0019, 0x10BC), (0x0019, 0x10BD)),
    "philips": ((0x2005, 0x10B0), (0x2005, 0x10B1), (0x2005, 0x10B2)),
    "uih": ((0x0065, 0x1037),),
}
PHILIPS_SCALE = (0x2005, 0x100E)
PHILIPS_FRAME = (0x2005, 0x140F)
SIEMENS_TILES = (0x0019, 0x100A)
SIEMENS_IMAGE_HEADER = (0x0029, 0x1010)
UIH_TILES, UIH_FRAMES = (0x0065, 0x1050), (0x0065, 0x1051)

PRIVATE_TAGS = (
    *B_VALUE.values(),
    *(tag for tags in DIRECTION.values() for tag in tags),
    PHILIPS_SCALE,
    SIEMENS_TILES,
    UIH_TILES,
)
"""The short ones, read of every file."""

_GE_B_OFFSET = 1_000_000_000
"""Added to b-values since software release 12."""


def vendor_of(header: Any) -> str:
    """siemens, ge, philips, uih, or empty."""
    maker = text(header, "Manufacturer").lower()
    if maker.startswith("ge ") or maker in {"ge", "gems"}:
        return "ge"
    return next((name for name in ("siemens", "philips", "uih") if name in maker), "")


def b_value(header: Any) -> float | None:
    """Diffusion weighting in s/mm2, in the standard's element or the vendor's."""
    standard = number(header, "DiffusionBValue")
    if standard is not None:
        return standard
    vendor = vendor_of(header)
    found = private_numbers(header, B_VALUE[vendor]) if vendor in B_VALUE else ()
    if not found:
        return None
    return found[0] % _GE_B_OFFSET if vendor == "ge" else found[0]


def direction(header: Any) -> tuple[float, ...]:
    """The diffusion gradient, in the standard's element or the vendor's; empty where none is given."""
    standard = header.get("DiffusionGradientOrientation")
    if standard:
        return tuple(float(one) for one in standard)
    tags = DIRECTION.get(vendor_of(header), ())
    return tuple(one for tag in tags for one in private_numbers(header, tag))


def philips_scaled(header: Any, slope: float, intercept: float) -> tuple[float, float]:
    """Slope and intercept from stored to floating-point values where Philips gives its scale slope, as dcm2niix has it.

    With RS and RI of the header and Philips' SS: value = (stored * RS + RI) / (RS * SS)
    (Chenevert et al., Transl Oncol 7:65, 2014, appendix).
    """
    scale = private_numbers(header, PHILIPS_SCALE) if vendor_of(header) == "philips" else ()
    if not scale or not scale[0] or not math.isfinite(scale[0]) or not slope:
        return slope, intercept
    return 1.0 / scale[0], intercept / (slope * scale[0])


def private_numbers(header: Any, tag: tuple[int, int]) -> tuple[float, ...]:
    """The numbers in a private element, whether its kind is known, unknown (UN) or text; empty if it has none."""
    element = header.get(tag)
    value = None if element is None else element.value
    if isinstance(value, (bytes, bytearray)):
        return _from_bytes(bytes(value))
    several = (value,) if isinstance(value, (str, int, float)) else value or ()
    try:
        return tuple(float(one) for one in several)
    except (TypeError, ValueError):
        return ()


def _from_bytes(value: bytes) -> tuple[float, ...]:
    """Text of numbers; else doubles, floats or shorts, by what the length allows."""
    try:
        return tuple(float(one) for one in value.decode("ascii").strip(" \0").split("\\"))
    except ValueError:
        pass
    for kind, size in (("d", 8), ("f", 4), ("H", 2)):
        if value and len(value) % size == 0 and (kind != "d" or len(value) != 4):
            return struct.unpack(f"<{len(value) // size}{kind}", value)
    return ()
