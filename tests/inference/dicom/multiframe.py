"""Made-up files of the kinds that hold many slices: enhanced multi-frame images, Siemens' mosaics, UIH's grids."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from tests.inference.dicom import images

ENHANCED, LEGACY = f"{images.MR}.1", f"{images.MR}.4"


def item(**elements: Any) -> Dataset:
    found = Dataset()
    for keyword, value in elements.items():
        setattr(found, keyword, value)
    return found


def frame(
    place: int, *, time: int = 1, echo: float = 12.0, kind: Iterable[str] = ("M", "NONE"), **more: Any
) -> Dataset:
    """The functional groups of one axial frame."""
    position = images.ORIGIN + np.array([0, 0, images.BETWEEN_SLICES * place])
    return item(
        PlanePositionSequence=[item(ImagePositionPatient=[*position])],
        FrameContentSequence=[item(TemporalPositionIndex=time, InStackPositionNumber=place + 1, StackID="1")],
        MREchoSequence=[item(EffectiveEchoTime=echo)],
        MRImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", *kind])],
        **more,
    )


def enhanced(frames: list[Dataset], pixels: npt.NDArray[np.int16], **header: Any) -> Dataset:
    """One file of `pixels` (frames, rows, columns)."""
    found = images.image(
        0, pixels[0], SOPClassUID=ENHANCED, ImagePositionPatient=None, PixelSpacing=None, EchoTime=None
    )
    del found.ImageOrientationPatient, found.RepetitionTime, found.ScanningSequence
    found.NumberOfFrames, found.PixelData = len(frames), pixels.tobytes()
    found.EchoPulseSequence = "SPIN"
    found.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[*images.AXIAL])],
            PixelMeasuresSequence=[item(PixelSpacing=[*images.SPACING], SliceThickness=images.BETWEEN_SLICES)],
            MRTimingAndRelatedParametersSequence=[item(RepetitionTime=500.0, FlipAngle=90.0)],
        )
    ]
    found.PerFrameFunctionalGroupsSequence = frames
    for keyword, value in header.items():
        setattr(found, keyword, value)
    return found


def tiled(box: npt.NDArray[np.int16], *, is_square: bool = True) -> npt.NDArray[np.int16]:
    """(slices, rows, columns) as one picture, with no more rows of tiles than needed unless it `is_square`."""
    slices, rows, columns = box.shape
    across = math.ceil(math.sqrt(slices))
    down = across if is_square else math.ceil(slices / across)
    whole = np.zeros((down * across, rows, columns), dtype=box.dtype)
    whole[:slices] = box
    return whole.reshape(down, across, rows, columns).swapaxes(1, 2).reshape(down * rows, across * columns)


def csa(**elements: Iterable[float]) -> bytes:
    """A header of Siemens' own kind with these elements."""
    found = struct.pack("<4s4sII", b"SV10", b"\4\3\2\1", len(elements), 77)
    for name, values in elements.items():
        texts = [f"{value:.8f}".encode() + b"\0" for value in values]
        found += struct.pack("<64si4s3i", name.encode(), len(texts), b"FD\0\0", 4, len(texts), 77)
        for text in texts:
            found += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return found


def mosaic(box: npt.NDArray[np.int16], *, normal: float = 1.0, **header: Any) -> Dataset:
    """An axial mosaic whose first slice lies at ORIGIN and whose slices go up (normal 1) or down (-1)."""
    picture = tiled(box)
    slices, rows, columns = box.shape
    excess_rows, excess_columns = (picture.shape[0] - rows) / 2, (picture.shape[1] - columns) / 2
    corner = images.ORIGIN - np.array([excess_columns * images.SPACING[1], excess_rows * images.SPACING[0], 0])
    kinds = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    found = images.image(0, picture, ImageType=kinds, Manufacturer="SIEMENS", ImagePositionPatient=[*corner], **header)
    found.SpacingBetweenSlices = images.BETWEEN_SLICES
    found.add_new((0x0019, 0x0010), "LO", "SIEMENS MR HEADER")
    found.add_new((0x0019, 0x100A), "US", slices)
    found.add_new((0x0029, 0x0010), "LO", "SIEMENS CSA HEADER")
    found.add_new((0x0029, 0x1010), "OB", csa(SliceNormalVector=(0.0, 0.0, normal)))
    return found


def uih_grid(box: npt.NDArray[np.int16]) -> Dataset:
    """An axial grid of United Imaging, each tile with its position."""
    kinds = ["ORIGINAL", "PRIMARY", "M", "ND", "VFRAME"]
    found = images.image(0, tiled(box, is_square=False), ImageType=kinds, Manufacturer="UIH")
    found.add_new((0x0065, 0x0010), "LO", "Image Private Header")
    found.add_new((0x0065, 0x1050), "DS", str(len(box)))
    places = [images.ORIGIN + np.array([0, 0, images.BETWEEN_SLICES * place]) for place in range(len(box))]
    found.add_new((0x0065, 0x1051), "SQ", [item(ImagePositionPatient=[*place]) for place in places])
    return found
