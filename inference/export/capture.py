"""Key images as DICOM Secondary Capture (PS3.3, A.8.1): 8-bit RGB, one picture an object, all in one series.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.sc import SCImage
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from inference.contract import REGION_LABELS, Region
from inference.dicom.headers import PARSE_ERRORS, quiet
from inference.dicom.reference import SourceImages
from inference.dicom.uids import uid_from
from inference.errors import InferenceError
from inference.export.measures import Measures
from inference.export.origin import Origin, equipment, series_number, stamped
from inference.export.pictures import KeyPicture, shown_area_mm2
from inference.export.segments import REGION_NAMES

_AREA_TOLERANCE = 0.03
"""A voxel's edge falls between the pixels of a picture that is a few times finer."""


class PictureRefused(InferenceError):
    """A key image does not show what the mask says."""

    code = "key_image_refused"
    family = "internal"


def save_picture(
    picture: KeyPicture, source: SourceImages, path: Path, *, number: int, origin: Origin, content: str
) -> Any:
    """Write a picture as the object `number` of its series and answer the Dataset."""
    image = source.first
    with quiet():
        made = SCImage(
            pixel_array=picture.pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            pixel_spacing=(picture.mm_per_pixel, picture.mm_per_pixel),
            study_instance_uid=image.StudyInstanceUID,
            series_instance_uid=uid_from("key-series", origin.subject, content),
            sop_instance_uid=uid_from("key-instance", origin.subject, content, str(picture.region)),
            series_number=series_number(image, 3000),
            instance_number=number,
            series_description="Brain tumour key images (research use only)",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set="ISO_IR 192",
            **patient_and_study(image),
            **equipment(origin),
        )
        made.copy_patient_and_study_information(image)
        _describe(made, picture, source, origin=origin)
        stamped(made, origin).save_as(path)
    return made


def prove_picture(path: Path, picture: KeyPicture, one: Measures, *, mask_area_mm2: float) -> None:
    """Read a key image back: the same pixels, and the region on it is as large as in the mask.

    Raises:
        PictureRefused: it shows something else, or cannot be read.
    """
    try:
        with quiet():
            found = dcmread(path).pixel_array
    except PARSE_ERRORS as error:
        raise PictureRefused("The written key image cannot be read.") from error
    area = shown_area_mm2(picture)
    if not np.array_equal(found, picture.pixels) or picture.slice_index != one.slice_index:
        raise PictureRefused("The written key image is not the one that was drawn.")
    if abs(area - mask_area_mm2) > max(
        _AREA_TOLERANCE * mask_area_mm2, 4.0 * picture.mm_per_pixel * mask_area_mm2**0.5
    ):
        raise PictureRefused("The key image does not show the region as large as the mask has it.")


def area_mm2(labels: Any, region: Region, *, slice_index: int, pixel_mm2: float) -> float:
    """The area of a region in one slice of the mask (X, Y, Z)."""
    return float(np.isin(labels[:, :, slice_index], REGION_LABELS[region]).sum()) * pixel_mm2


def patient_and_study(image: Any) -> Mapping[str, Any]:
    """The arguments of a highdicom object that name patient and study as the source does."""
    return {
        "patient_id": image.PatientID,
        "patient_name": image.PatientName,
        "patient_birth_date": image.PatientBirthDate,
        "patient_sex": image.PatientSex,
        "accession_number": image.AccessionNumber,
        "study_id": image.StudyID,
        "study_date": image.StudyDate,
        "study_time": image.StudyTime,
        "referring_physician_name": image.ReferringPhysicianName,
    }


def references(source: SourceImages) -> list[Any]:
    """An item for every source instance: class and UID."""
    items = []
    for image in source.images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        items.append(item)
    return items


def _describe(made: Any, picture: KeyPicture, source: SourceImages, *, origin: Origin) -> None:
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.ConversionType = "WSD"
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    # What is burned in names nobody (PS3.3 C.7.6.1.1).
    made.BurnedInAnnotation = "NO"
    made.ImageComments = f"{picture.caption}. Research use only, not for clinical use."
    made.DerivationDescription = f"{REGION_NAMES[picture.region]} found by {origin.model.name} {origin.model.version}"
    made.SourceImageSequence = references(source)
    made.BodyPartExamined = "BRAIN"
