"""Made-up MR series on disk: a box of numbers, sliced in any direction, with any header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

MR = "1.2.840.10008.5.1.4.1.1.4"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SPACING = (2.0, 1.5)  # between rows, between columns
BETWEEN_SLICES = 4.0
ORIGIN = np.array([-30.0, -40.0, 10.0])


def voxels(slices: int = 6, rows: int = 8, columns: int = 10) -> npt.NDArray[np.int16]:
    """(slices, rows, columns), every one different."""
    return np.arange(slices * rows * columns, dtype=np.int16).reshape(slices, rows, columns)


def image(place: int, pixels: npt.NDArray[np.int16], **header: Any) -> Dataset:
    """One slice as a pydicom Dataset; `header` overrides or, with None, removes."""
    found = Dataset()
    found.SOPClassUID, found.Modality = MR, "MR"
    found.PatientName, found.PatientID = "DOE^JANE", "4711"
    found.PatientBirthDate = found.PatientSex = found.AccessionNumber = found.ReferringPhysicianName = ""
    found.StudyDate, found.StudyTime, found.StudyID = "20260102", "030405", "7"
    found.StudyInstanceUID, found.SeriesInstanceUID, found.FrameOfReferenceUID = "1.2.1", "1.2.1.1", "1.2.9"
    found.SOPInstanceUID = f"1.2.1.1.{place + 1}"
    found.SeriesDescription, found.SeriesNumber, found.InstanceNumber = "T1 SE AX", 3, place + 1
    found.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    found.ScanningSequence, found.SequenceVariant, found.MRAcquisitionType = "SE", "NONE", "2D"
    found.RepetitionTime, found.EchoTime, found.SliceThickness = 500.0, 12.0, BETWEEN_SLICES
    found.PixelSpacing, found.ImageOrientationPatient = [*SPACING], [*AXIAL]
    found.Rows, found.Columns = pixels.shape
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 16, 15, 1
    orientation = np.asarray(header.get("ImageOrientationPatient") or AXIAL)
    normal = np.cross(orientation[:3], orientation[3:])
    found.ImagePositionPatient = [*(ORIGIN + normal * BETWEEN_SLICES * place)]
    found.PixelData = np.ascontiguousarray(pixels).tobytes()
    for keyword, value in header.items():
        if value is None:
            del found[keyword]
        else:
            setattr(found, keyword, value)
    return found


def save(dataset: Dataset, path: Path, *, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write one image as a DICOM file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, box: npt.NDArray[np.int16] | None = None, *, skip: int | None = None, **header: Any) -> Path:
    """A folder with one file a slice, named so that their order says nothing; `skip` leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = voxels() if box is None else box
    for place, pixels in enumerate(whole):
        if place != skip:
            save(image(place, pixels, **header), folder / f"{(place * 5) % 7}-{place}.dcm")
    return folder


def named(folder: Path) -> dict[Path, str]:
    """What `sort_files` takes."""
    return {path: path.name for path in sorted(folder.iterdir())}


__all__ = ["AXIAL", "BETWEEN_SLICES", "ORIGIN", "SAGITTAL", "SPACING", "ImplicitVRLittleEndian"]
__all__ += ["image", "named", "save", "series", "voxels"]
