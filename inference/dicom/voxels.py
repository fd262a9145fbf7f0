"""The voxels of a DICOM series as dcm2niix lays them out, by highdicom's strict reader.

Stored layout: axes are columns, rows from the lowest up, slices along rows x columns, so that a plain axial series is
LAS. A series acquired in 3D is reordered to the closest RAS+, by flips and permutations only. World coordinates are
RAS+ mm.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from inference.contract import Grid, Volume
from inference.dicom.facts import number, text
from inference.dicom.headers import PARSE_ERRORS, quiet
from inference.dicom.series import DicomSeries
from inference.dicom.uids import uid_from
from inference.errors import InputInvalid
from inference.volume import check_affine, to_ras

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SLICE_ROW_COLUMN = [2, 1, 0, 3]


def load_volume(series: DicomSeries) -> Volume:
    """The (I, J, K) voxels of the stored layout: int16 or uint16 as scanned, float32 where a rescale slope applies.

    Raises:
        InputInvalid: not_a_volume, undecodable or too_large, with the name of the series' first file.
    """
    name = series.instances[0].name
    try:
        with quiet():
            datasets = [complete(dcmread(instance.path)) for instance in series.instances]
            volume = from_highdicom(*_decoded(datasets))
    except InputInvalid as error:
        raise error.about(name) from error.__cause__
    except PARSE_ERRORS as error:  # elements that the header was read without
        raise InputInvalid("undecodable", "Its series cannot be decoded.", subject=name) from error
    except MemoryError as error:
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


def _decoded(datasets: list[Any]) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
    is_scaled = any(
        (number(one, "RescaleSlope"), number(one, "RescaleIntercept")) not in {(None, None), (1.0, 0.0)}
        for one in datasets
    )
    is_signed = bool(datasets[0].get("PixelRepresentation"))
    stored = np.int16 if is_signed or int(datasets[0].BitsStored) < 16 else np.uint16
    try:
        volume = highdicom.get_volume_from_series(
            datasets, dtype=np.float32 if is_scaled else stored, apply_real_world_transform=False
        )
    except PARSE_ERRORS as error:
        code = "not_a_volume" if "volume" in str(error) or "spac" in str(error) else "undecodable"
        raise InputInvalid(code, "Its series cannot be read as one regular volume.") from error
    return volume.array, np.asarray(volume.affine, dtype=np.float64)
