"""DICOM SEG out: the label mask as three binary segments on the source images, and the proof that it says the same.

PS3.3 A.51. BINARY and not LABELMAP: viewers of today show the latter in wrong colours. Empty frames are left out, so
a reader has to put the frames back by their positions, as `read_back` does.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from inference.contract import Grid, Label, ModelRef, Volume
from inference.dicom.headers import PARSE_ERRORS, quiet
from inference.dicom.reference import SourceImages, source_images
from inference.dicom.slices import PlanesDiffer, planes_on
from inference.dicom.uids import uid_from
from inference.errors import InferenceError, InputInvalid
from inference.export.origin import Origin, equipment, series_number, stamped
from inference.export.segments import MANUFACTURER, PARTS, Part, tracking_uid

_INDEX_TOLERANCE = 1e-2
"""Of a voxel: positions in headers are decimal strings of few digits."""


_KINDS = MappingProxyType(
    {
        Label.NECROTIC_CORE: codes.SCT.Necrosis,
        Label.OEDEMA: codes.SCT.Edema,
        Label.ENHANCING_TUMOUR: codes.SCT.Neoplasm,
    }
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
    origin = Origin(model=model, subject=subject, at=datetime.now().astimezone())
    save_seg(mask, sources_of(mask, originals), path, origin=origin)


def sources_of(mask: Volume, originals: Several[Path]) -> SourceImages:
    """The source images as the objects refer to them. Raises SegRefused where the mask does not lie on them."""
    with quiet():
        try:
            return source_images(originals, mask.grid)
        except (PlanesDiffer, InputInvalid) as error:
            raise SegRefused(str(error)) from error
        except PARSE_ERRORS as error:
            raise SegRefused("The headers of the source images cannot carry a segmentation.") from error


def save_seg(mask: Volume, source: SourceImages, path: Path, *, origin: Origin) -> Any:
    """The same for headers that were read already; answers the pydicom Dataset that was written.

    Raises:
        SegRefused: the mask is empty, or the headers cannot carry a SEG.
    """
    if not mask.voxels.any():
        raise SegRefused("An empty mask has no segments to write.")
    labels = source.planes.sliced(mask.voxels).astype(np.uint8)
    with quiet():
        try:
            found = _segmentation(labels, source, origin=origin)
            stamped(found, origin).save_as(path)
        except PARSE_ERRORS as error:
            if isinstance(error, OSError):  # the disk, not the headers
                raise
            raise SegRefused("The headers of the source images cannot carry a segmentation.") from error
    return found


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
    frames, place = found.array, np.asarray(found.affine, dtype=np.float64)
    if np.linalg.det(place[:3, [2, 1, 0]]) < 0:  # highdicom counts slices against rows x columns
        place = place @ _counted_back(len(frames))
        frames = frames[::-1]
    edges = place[:3, :3] / np.linalg.norm(place[:3, :3], axis=0)
    try:
        planes = planes_on(grid, (*edges[:, 2], *edges[:, 1]))
    except PlanesDiffer as error:
        raise SegRefused("The written segmentation has frames off the grid of the mask.") from error
    whole = np.zeros((len(planes.positions), *planes.shape), dtype=np.uint8)
    whole[_window(np.linalg.inv(planes.affine) @ place, part=frames.shape, whole=whole.shape)] = frames
    return planes.stacked(whole).astype(np.uint8)


def prove_seg(path: Path, mask: Volume) -> None:
    """Read a SEG back and compare it with the mask, voxel by voxel.

    Raises:
        SegRefused: they differ.
    """
    if not np.array_equal(read_back(path, mask.grid), mask.voxels):
        raise SegRefused("The written segmentation does not say the same as the mask.")


def _segmentation(labels: npt.NDArray[np.uint8], source: SourceImages, *, origin: Origin) -> Any:
    content = sha256(labels.tobytes()).hexdigest()
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=origin.model.name,
        family=codes.DCM.ArtificialIntelligence,
        version=origin.model.version,
        source=MANUFACTURER,
        parameters={"weights_sha256": origin.model.sha256},
    )
    return Segmentation(
        source_images=source.images,
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=[_description(part, algorithm, origin.subject) for part in PARTS],
        series_instance_uid=uid_from("seg-series", origin.subject, content),
        sop_instance_uid=uid_from("seg-instance", origin.subject, content),
        series_number=series_number(source.first, 1000),
        instance_number=1,
        content_label="BRAIN_TUMOUR",
        content_description="Brain tumour, found by software; research use only",
        series_description="Brain tumour segmentation (research use only)",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
        **_places(source),
        **equipment(origin),
    )


def _places(source: SourceImages) -> dict[str, Any]:
    """Where the planes lie, said by us when the source does not say it image by image."""
    if source.is_stack:
        return {}
    planes = source.planes
    return {
        "plane_positions": [PlanePositionSequence("PATIENT", image_position=place) for place in planes.positions],
        "plane_orientation": PlaneOrientationSequence("PATIENT", image_orientation=planes.orientation),
        "pixel_measures": PixelMeasuresSequence(
            pixel_spacing=planes.spacing_mm,
            slice_thickness=round(planes.between_mm, 4),
            spacing_between_slices=round(planes.between_mm, 4),
        ),
    }


def _description(part: Part, algorithm: Any, subject: str) -> Any:
    return SegmentDescription(
        segment_number=int(part.label),
        segment_label=part.name,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=_KINDS[part.label],
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(subject, part.tracking_id),
        tracking_id=part.tracking_id,
        anatomic_regions=[codes.SCT.Brain],
        display_color=highdicom.color.CIELabColor.from_rgb(*part.rgb),
    )


def _counted_back(slices: int) -> npt.NDArray[np.float64]:
    back = np.diag([-1.0, 1.0, 1.0, 1.0])
    back[0, 3] = slices - 1
    return back


def _window(
    start: npt.NDArray[np.float64], *, part: tuple[int, ...], whole: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Where the part lies in the whole, by the matrix from its voxels to those of the whole."""
    first = np.round(start[:3, 3]).astype(int)
    expected = np.eye(4)
    expected[:3, 3] = first
    last = first + np.asarray(part)
    is_off = not np.allclose(start, expected, atol=_INDEX_TOLERANCE)
    if is_off or (first < 0).any() or (last > np.asarray(whole)).any():
        raise SegRefused("The written segmentation has frames off the grid of the mask.")
    x, y, z = (slice(int(low), int(high)) for low, high in zip(first, last, strict=True))
    return x, y, z
