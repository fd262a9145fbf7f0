"""Key images as pictures: the slice of a region's largest extent, the mask's outline on it, and what it shows in words.

Seen from the feet, as radiologists look: the patient's right is on the left, the face is up. Nothing on them names the
patient, so they may be shown anywhere.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from inference.contract import REGION_LABELS, Grid, Region, Volume
from inference.export.measures import Line, Measures
from inference.export.report import NOTICE
from inference.export.segments import PARTS, REGION_NAMES

Pixels = npt.NDArray[np.uint8]

SIDE = 720
"""Pixels of the square that the slice is fitted into."""
_HEAD, _FOOT = 76, 84
_MARGIN_MM = 8.0
_TEXT, _SMALL = 21, 17
_WHITE, _GREY = (255, 255, 255), (185, 185, 185)
_DARKEST, _BRIGHTEST = 2.0, 99.6
_AIR_SHARE = 0.08


@dataclass(frozen=True)
class KeyPicture:
    """One region's picture: `pixels` (rows, columns, 3) uint8 RGB, and `labels` (rows, columns) uint8 below them."""

    region: Region
    slice_index: int
    pixels: Pixels
    labels: Pixels
    mm_per_pixel: float
    caption: str


def draw_pictures(
    labels: npt.NDArray[np.uint8], scan: Volume, measures: Mapping[Region, Measures], *, sequence: str
) -> Iterator[KeyPicture]:
    """A picture for each region that is there. `labels` (X, Y, Z) uint8 and the `scan`, on one RAS+ grid."""
    window = window_of(scan.voxels)
    for region, one in measures.items():
        if one.slice_index is not None:
            yield _drawn(labels, scan, one, region=region, window=window, sequence=sequence)


def window_of(voxels: npt.NDArray[np.generic]) -> tuple[float, float]:
    """The grey values shown as black and as white: nearly the darkest and the brightest of what is inside the head.

    Only the middle of what is not air counts: the fat of the scalp would make the brain dark.
    """
    thin = voxels[tuple(slice(None, None, max(1, length // 96)) for length in voxels.shape)].astype(np.float32)
    is_tissue = thin > float(np.percentile(thin, 98.0)) * _AIR_SHARE
    middle = tuple(_middle(is_tissue, axis) for axis in range(3))
    tissue = thin[middle][is_tissue[middle]]
    if tissue.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(tissue, (_DARKEST, _BRIGHTEST)))
    return low, max(high, low + 1e-6)


def _middle(inside: npt.NDArray[np.bool_], axis: int) -> slice:
    found = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
    if found.size == 0:
        return slice(0, 0)
    first, edge = int(found[0]), int(found[-1]) + 1 - int(found[0])
    return slice(first + edge // 5, first + edge - edge // 5)


def _drawn(
    labels: npt.NDArray[np.uint8],
    scan: Volume,
    one: Measures,
    *,
    region: Region,
    window: tuple[float, float],
    sequence: str,
) -> KeyPicture:
    place = one.slice_index or 0
    frame = _Frame.around(scan.voxels[:, :, place], labels[:, :, place], scan.grid)
    low, high = window
    grey = np.clip((frame.cut(scan.voxels[:, :, place]).astype(np.float32) - low) / (high - low) * 255.0, 0.0, 255.0)
    shown = Image.fromarray(grey.astype(np.uint8)).resize(frame.size, Image.Resampling.BICUBIC).convert("RGB")
    painted = Image.fromarray(frame.cut(labels[:, :, place])).resize(frame.size, Image.Resampling.NEAREST)
    where = np.asarray(painted)
    coloured = _outlined(np.array(shown), where)
    page = Image.new("RGB", (SIDE, _HEAD + SIDE + _FOOT))
    page.paste(Image.fromarray(coloured), frame.corner)
    caption = _caption(one, region)
    _write(page, frame, one, grid=scan.grid, caption=caption, line=f"{sequence or 'Reference'}, slice {place + 1}")
    whole = np.zeros((_HEAD + SIDE + _FOOT, SIDE), dtype=np.uint8)
    left, top = frame.corner
    whole[top : top + frame.size[1], left : left + frame.size[0]] = where
    return KeyPicture(
        region=region,
        slice_index=place,
        pixels=np.array(page),
        labels=whole,
        mm_per_pixel=frame.mm_per_pixel,
        caption=caption,
    )


@dataclass(frozen=True)
class _Frame:
    """Which part of a slice (X, Y) is shown, and where on the page: one pixel is equally long both ways."""

    x: slice
    y: slice
    size: tuple[int, int]
    corner: tuple[int, int]
    mm_per_pixel: float

    @classmethod
    def around(cls, image: npt.NDArray[np.generic], labels: Pixels, grid: Grid) -> _Frame:
        """What is head or mask, and a margin."""
        spacing = grid.spacing_mm
        grey = image.astype(np.float32)
        bright = grey > float(np.percentile(grey, 99.0)) * _AIR_SHARE
        used = (bright & _has_neighbours(bright)) | (labels > 0)
        spans = []
        for axis in (0, 1):
            found = np.flatnonzero(used.any(axis=1 - axis))
            margin = int(np.ceil(_MARGIN_MM / spacing[axis]))
            spans.append(slice(max(0, int(found[0]) - margin), min(image.shape[axis], int(found[-1]) + 1 + margin)))
        edges = [(span.stop - span.start) * spacing[axis] for axis, span in enumerate(spans)]
        scale = SIDE / max(edges)
        width, height = max(1, round(edges[0] * scale)), max(1, round(edges[1] * scale))
        corner = ((SIDE - width) // 2, _HEAD + (SIDE - height) // 2)
        return cls(x=spans[0], y=spans[1], size=(width, height), corner=corner, mm_per_pixel=1.0 / scale)

    def cut(self, image: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """(rows, columns) of a slice (X, Y): the face up, the patient's right on the left."""
        return np.ascontiguousarray(image[self.x, self.y][::-1, ::-1].T)

    def at(self, voxel: npt.NDArray[np.float64]) -> tuple[float, float]:
        """Where a point of the slice (in voxels) lies on the page, from its left and top."""
        across = (self.x.stop - 0.5 - float(voxel[0])) / (self.x.stop - self.x.start)
        down = (self.y.stop - 0.5 - float(voxel[1])) / (self.y.stop - self.y.start)
        return self.corner[0] + across * self.size[0], self.corner[1] + down * self.size[1]


def _has_neighbours(bright: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether the voxels beside one are bright too: noise in air is not part of the head."""
    inner = np.zeros_like(bright)
    inner[1:-1, 1:-1] = bright[:-2, 1:-1] & bright[2:, 1:-1] & bright[1:-1, :-2] & bright[1:-1, 2:]
    return inner


def _outlined(pixels: Pixels, labels: Pixels) -> Pixels:
    """The picture with every label's inner border, two pixels wide, in its colour."""
    edge = np.zeros(labels.shape, dtype=bool)
    for step in (1, 2):
        for axis in (0, 1):
            for way in (step, -step):
                edge |= np.roll(labels, way, axis=axis) != labels
    edge &= labels > 0
    for part in PARTS:
        pixels[edge & (labels == int(part.label))] = part.rgb
    return pixels


def _caption(one: Measures, region: Region) -> str:
    across = f" x {one.across.length_mm:.0f}" if one.across else ""
    axial = f", largest axial {one.axial.length_mm:.0f}{across} mm" if one.axial else ""
    return f"{REGION_NAMES[region]} {one.volume_ml:.1f} mL{axial}"


def _write(page: Image.Image, frame: _Frame, one: Measures, *, grid: Grid, caption: str, line: str) -> None:
    draw = ImageDraw.Draw(page)
    text, small = ImageFont.load_default(_TEXT), ImageFont.load_default(_SMALL)
    to_voxel = np.asarray(np.linalg.inv(grid.affine), dtype=np.float64)
    for axis in (one.axial, one.across):
        if axis is not None:
            _dashed(draw, [frame.at(point) for point in _in_voxels(axis, to_voxel)])
    draw.text((14, 12), caption, fill=_WHITE, font=text)
    draw.text((14, 44), line, fill=_GREY, font=small)
    middle = _HEAD + SIDE // 2
    for letter, place, anchor in (
        ("R", (10, middle), "lm"),
        ("L", (SIDE - 10, middle), "rm"),
        ("A", (SIDE // 2, _HEAD + 6), "mt"),
        ("P", (SIDE // 2, _HEAD + SIDE - 6), "mb"),
    ):
        draw.text(place, letter, fill=_WHITE, font=text, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    left, below = 14, _HEAD + SIDE + 14
    for part in PARTS:
        draw.rectangle((left, below + 3, left + 14, below + 17), outline=part.rgb, width=3)
        draw.text((left + 22, below), part.name, fill=_GREY, font=small)
        left += 22 + int(draw.textlength(part.name, font=small)) + 26
    draw.text((14, below + 34), NOTICE, fill=_GREY, font=small)
    _scale_bar(draw, frame, small)


def _scale_bar(draw: ImageDraw.ImageDraw, frame: _Frame, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    length = 50.0 / frame.mm_per_pixel
    right, level = SIDE - 14, _HEAD + SIDE + 58
    draw.line((right - length, level, right, level), fill=_WHITE, width=2)
    draw.text((right - length - 10, level), "5 cm", fill=_GREY, font=font, anchor="rm")


def _dashed(draw: ImageDraw.ImageDraw, ends: list[tuple[float, float]]) -> None:
    (x, y), (to_x, to_y) = ends
    count = max(2, int(np.hypot(to_x - x, to_y - y) // 7) | 1)
    steps = np.linspace(0.0, 1.0, count + 1)
    for first, last in zip(steps[:-1:2], steps[1::2], strict=False):
        start = (x + (to_x - x) * first, y + (to_y - y) * first)
        draw.line((*start, x + (to_x - x) * last, y + (to_y - y) * last), fill=_WHITE, width=2)


def _in_voxels(line: Line, to_voxel: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(to_voxel[:3, :3] @ np.asarray(end) + to_voxel[:3, 3]) for end in (line.start, line.end)]


def shown_area_mm2(picture: KeyPicture) -> float:
    """How large the region is on the picture; it must be what it is in the mask."""
    return float(np.isin(picture.labels, REGION_LABELS[picture.region]).sum()) * picture.mm_per_pixel**2
