"""The voxels of a DICOM series as dcm2niix lays them out.

Stored layout: axes are columns, rows from the lowest up, slices along rows x columns, so that a plain axial series is
LAS. A series acquired in 3D is reordered to the closest RAS+, by flips and permutations only. World coordinates are
RAS+ mm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Several
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.contract import Grid, Volume
from inference.dicom.facts import text
from inference.dicom.pixels import Pixels, read_frames
from inference.dicom.planes import Instance, Plane
from inference.dicom.series import DicomSeries
from inference.dicom.uids import uid_from
from inference.dicom.volumes import stack_affine
from inference.errors import InputInvalid
from inference.volume import check_affine, to_ras

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SLICE_ROW_COLUMN = [2, 1, 0, 3]


def load_volume(series: DicomSeries) -> Volume:
    """The (I, J, K) voxels of the stored layout: int16 or uint16 as scanned, float32 where a rescale slope applies.

    Raises:
        InputInvalid: undecodable, too_large or not_finite, with the name of the file at fault.
    """
    try:
        volume = from_highdicom(_stacked(series.planes), stack_affine(series.planes))
    except MemoryError as error:
        name = series.planes[0].instance.name
        raise InputInvalid("too_large", "Its series needs more memory than may be used.", subject=name) from error
    check_affine(volume.affine)
    return to_ras(volume) if series.facts.is_3d else volume


def complete(dataset: Any) -> Any:
    """The dataset with a frame of reference, which anonymisers like to drop: one for all images of the series."""
    if not text(dataset, "FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = uid_from("frame-of-reference", text(dataset, "SeriesInstanceUID"))
    return dataset


def from_highdicom(voxels: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> Volume:
    """highdicom's (slices, rows, columns) in LPS+ as (columns, rows upwards, slices along the normal) in RAS+."""
    slices, rows, _ = voxels.shape
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = rows - 1
    world = _LPS_TO_RAS @ affine[:, _SLICE_ROW_COLUMN] @ flip
    turned = voxels.transpose(2, 1, 0)[:, ::-1, :]
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    if float(normal @ affine[:3, 0]) < 0:
        back = np.diag([1.0, 1.0, -1.0, 1.0])
        back[2, 3] = slices - 1
        turned, world = turned[:, :, ::-1], world @ back
    return Volume(voxels=np.ascontiguousarray(turned), affine=world)


def grid_of_images(images: Several[Any]) -> Grid:
    """The stored-layout grid (before any 3D reordering) of parallel images sorted along their normal, pixels unread."""
    first, last = images[0], images[-1]
    orientation = np.asarray(first.ImageOrientationPatient, dtype=np.float64)
    start, end = (np.asarray(one.ImagePositionPatient, dtype=np.float64) for one in (first, last))
    between_rows, between_columns = (float(edge) for edge in first.PixelSpacing)
    rows, columns = int(first.Rows), int(first.Columns)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * between_columns
    affine[:3, 1] = -orientation[3:] * between_rows
    affine[:3, 2] = (end - start) / (len(images) - 1)
    affine[:3, 3] = start + orientation[3:] * between_rows * (rows - 1)
    return Grid(shape=(columns, rows, len(images)), affine=_LPS_TO_RAS @ affine)


def _stacked(planes: Several[Plane]) -> npt.NDArray[np.generic]:
    """(slices, rows, columns)."""
    stack = np.empty((len(planes), *planes[0].shape), dtype=_dtype(planes))
    by_file: dict[Instance, list[int]] = defaultdict(list)
    for place, plane in enumerate(planes):
        by_file[plane.instance].append(place)
    for instance, places in by_file.items():
        frames = sorted({planes[place].frame for place in places})
        for frame, pixels in zip(frames, read_frames(instance, frames), strict=True):
            for place in places:
                if planes[place].frame == frame:
                    stack[place] = _values(planes[place], pixels)
    return stack


def _values(plane: Plane, pixels: Pixels) -> Pixels:
    row, column = plane.corner
    cut = pixels[row : row + plane.shape[0], column : column + plane.shape[1]]
    if not plane.is_scaled:
        return cut
    scaled = (cut.astype(np.float64) * plane.slope + plane.intercept).astype(np.float32)
    if not np.isfinite(scaled).all():
        raise InputInvalid("not_finite", "Its rescaled values are not finite numbers.", subject=plane.instance.name)
    return scaled


def _dtype(planes: Several[Plane]) -> npt.DTypeLike:
    if any(plane.is_scaled for plane in planes):
        return np.float32
    is_signed = {plane.instance.stored.is_signed for plane in planes}
    is_wide = any(plane.instance.stored.bits_stored > 15 for plane in planes)
    if is_wide and False in is_signed:
        return np.float32 if True in is_signed else np.uint16
    return np.int16
