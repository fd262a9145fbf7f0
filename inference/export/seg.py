"""DICOM SEG out: the label mask as three binary segments on the source images, and the proof that it says the same.

PS3.3 A.51. BINARY and not LABELMAP: viewers of today show the latter in wrong colours. Empty frames are left out, so
a reader has to put the frames back by their positions, as `read_back` does.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from inference.contract import Grid, Label, ModelRef, Volume
from inference.dicom.headers import PARSE_ERRORS, quiet
from inference.dicom.reference import reference_images
from inference.dicom.uids import uid_from
from inference.dicom.voxels import from_highdicom, grid_of_images
from inference.errors import InferenceError
from inference.volume import from_ras, ras_grid, to_ras

MANUFACTURER = "Segwire"
_INDEX_TOLERANCE = 1e-2
"""Of a voxel: positions in headers are decimal strings of few digits."""


@dataclass(frozen=True)
class _Segment:
    label: Label
    name: str
    tracking_id: str
    kind: Any
    rgb: tuple[int, int, int]


_SEGMENTS = (
    _Segment(Label.NECROTIC_CORE, "Necrotic tumour core", "necrotic-core", codes.SCT.Necrosis, (220, 40, 40)),
    _Segment(Label.OEDEMA, "Peritumoural oedema", "oedema", codes.SCT.Edema, (60, 180, 75)),
    _Segment(Label.ENHANCING_TUMOUR, "Enhancing tumour", "enhancing-tumour", codes.SCT.Neoplasm, (255, 210, 0)),
)


class SegRefused(InferenceError):
    """The mask cannot be said as a SEG of these images, or the SEG does not say the same as the mask."""

    code = "seg_refused"
    family = "internal"


def write_seg(mask: Volume, originals: Several[Path], path: Path, *, model: ModelRef, subject: str) -> None:
    """Write `mask` (I, J, K) uint8 of `Label`, on the grid of the MR images `originals`, in any order of axes.

    Patient, study and frame of reference come from the original headers. The UIDs depend on `subject` (the job) and
    the mask alone, so the same result is the same object. An empty mask has no SEG.

    Raises:
        SegRefused: the mask is empty, lies elsewhere than the images, or the headers cannot carry a SEG.
    """
    if not mask.voxels.any():
        raise SegRefused("An empty mask has no segments to write.")
    with quiet():
        images = reference_images(originals)
        labels = _on_images(mask, images)
        try:
            _segmentation(labels, images, model=model, subject=subject).save_as(path)
        except PARSE_ERRORS as error:
            raise SegRefused("The headers of the source images cannot carry a segmentation.") from error


def read_back(path: Path, grid: Grid) -> npt.NDArray[np.uint8]:
    """The labels (I, J, K) uint8 that a SEG of ours says, put on `grid` (RAS+ mm) by the positions of its frames.

    Raises:
        SegRefused: it cannot be read, or has frames off the grid.
    """
    with quiet():
        try:
            found = segread(path).get_volume(combine_segments=True)
        except PARSE_ERRORS as error:
            raise SegRefused("The written segmentation cannot be read.") from error
    part = to_ras(from_highdicom(found.array.astype(np.uint8), np.asarray(found.affine, dtype=np.float64)))
    whole = ras_grid(grid)
    labels = np.zeros(whole.shape, dtype=np.uint8)
    labels[_window(part.grid, whole)] = part.voxels
    return from_ras(labels, like=grid).astype(np.uint8)


def prove_seg(path: Path, mask: Volume) -> None:
    """Read a SEG back and compare it with the mask, voxel by voxel.

    Raises:
        SegRefused: they differ.
    """
    if not np.array_equal(read_back(path, mask.grid), mask.voxels):
        raise SegRefused("The written segmentation does not say the same as the mask.")


def _on_images(mask: Volume, images: list[Any]) -> npt.NDArray[np.uint8]:
    """The mask as (images, rows, columns), in the order of `images`."""
    grid = grid_of_images(images)
    if not ras_grid(grid).is_close_to(ras_grid(mask.grid), tolerance_mm=1e-2):
        raise SegRefused("The mask does not lie on the grid of the source images.")
    labels = from_ras(to_ras(mask).voxels, like=grid).astype(np.uint8)
    return np.ascontiguousarray(labels[:, ::-1, :].transpose(2, 1, 0))


def _segmentation(labels: npt.NDArray[np.uint8], images: list[Any], *, model: ModelRef, subject: str) -> Any:
    content = sha256(labels.tobytes()).hexdigest()
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=model.name, family=codes.DCM.ArtificialIntelligence, version=model.version, source=MANUFACTURER
    )
    return Segmentation(
        source_images=images,
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=[_description(segment, algorithm, subject) for segment in _SEGMENTS],
        series_instance_uid=uid_from("seg-series", subject, content),
        sop_instance_uid=uid_from("seg-instance", subject, content),
        series_number=images[0].SeriesNumber + 1000,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=model.name[:64],
        software_versions=model.version[:64],
        device_serial_number=model.sha256[:16],
        content_label="BRAIN_TUMOUR",
        content_description="Brain tumour, found by software; research use only",
        series_description="Brain tumour segmentation (research use only)",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
    )


def _description(segment: _Segment, algorithm: Any, subject: str) -> Any:
    return SegmentDescription(
        segment_number=int(segment.label),
        segment_label=segment.name,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=segment.kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=uid_from("tracking", subject, segment.tracking_id),
        tracking_id=segment.tracking_id,
        anatomic_regions=[codes.SCT.Brain],
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.rgb),
    )


def _window(part: Grid, whole: Grid) -> tuple[slice, slice, slice]:
    """Where the part lies in the whole; both RAS+ with the same axes."""
    start = np.linalg.inv(whole.affine) @ part.affine
    first = np.round(start[:3, 3]).astype(int)
    expected = np.eye(4)
    expected[:3, 3] = first
    last = first + np.asarray(part.shape)
    is_off = not np.allclose(start, expected, atol=_INDEX_TOLERANCE)
    if is_off or (first < 0).any() or (last > np.asarray(whole.shape)).any():
        raise SegRefused("The written segmentation has frames off the grid of the mask.")
    x, y, z = (slice(int(low), int(high)) for low, high in zip(first, last, strict=True))
    return x, y, z
