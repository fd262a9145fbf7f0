"""A patient that never was, as four DICOM series on disk: something to look at without anybody's data.

Template anatomy with a simulated tumour; every header says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from inference.contract import Grid, Label, Sequence, Volume
from inference.dicom.headers import MR_IMAGE
from inference.dicom.uids import uid_from
from inference.export.nifti import write_nifti

SHAPE = (120, 144, 48)
SPACING_MM = (1.6, 1.6, 3.0)
_FIRST_SEED, _TRIES = 399, 60
_GREY_OF_ONE = 600.0
"""White matter of a simulated T1 is about 1; scanners write some hundreds."""
_TO_STORED = np.diag([-1.0, 1.0, 1.0, 1.0])


class NothingToShow(Exception):
    """No simulated patient was plain enough; the simulation has changed, so another first seed is due."""


@dataclass(frozen=True)
class _Protocol:
    description: str
    repetition_ms: float
    echo_ms: float
    inversion_ms: float | None
    scanning: str
    agent: str | None = None


_PROTOCOLS = {
    Sequence.T1: _Protocol("T1 SE AX", 550.0, 12.0, None, "SE"),
    Sequence.T1CE: _Protocol("T1 SE AX + Gd", 550.0, 12.0, None, "SE", agent="Gadolinium (simulated)"),
    Sequence.T2: _Protocol("T2 TSE AX", 4500.0, 100.0, None, "SE"),
    Sequence.FLAIR: _Protocol("FLAIR AX", 9000.0, 120.0, 2500.0, "IR"),
}


def make_demo_files(folder: Path) -> None:
    """Write t1, t1ce, t2, flair (one folder of MR images each) and truth.nii.gz below `folder`, if they are not there.

    The truth lies on the stored grid that the series will have: LAS, columns x rows x slices.
    """
    if (folder / "truth.nii.gz").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    patient = _patient()
    install = secrets.token_hex(16)
    for number, (sequence, protocol) in enumerate(_PROTOCOLS.items(), start=1):
        _write_series(folder / sequence.lower(), patient.volumes[sequence], protocol, number=number, install=install)
    # Last: its presence says that everything else is there.
    write_nifti(_stored(Volume(patient.truth, patient.grid.affine)), folder / "truth.nii.gz", labels=True)


def _patient() -> Any:
    """The first simulated patient whose tumour shows core, rim and oedema at a glance."""
    from inference.training.simulate import Kind, mni_anatomy, simulate_patient

    anatomy = mni_anatomy()
    for seed in range(_FIRST_SEED, _FIRST_SEED + _TRIES):
        patient = simulate_patient(
            np.random.default_rng(seed),
            anatomy=anatomy,
            spacing_mm=SPACING_MM,
            shape=SHAPE,
            kinds=[Kind.RING],
            variety=0.5,
        )
        if _has_parts(patient.truth, patient.grid) and _is_plain_to_see(patient.volumes, patient.truth):
            return patient
    raise NothingToShow


def _has_parts(truth: npt.NDArray[np.uint8], grid: Grid) -> bool:
    millilitres = np.bincount(truth.ravel(), minlength=4) * grid.voxel_ml
    core, oedema, rim = (millilitres[label] for label in (Label.NECROTIC_CORE, Label.OEDEMA, Label.ENHANCING_TUMOUR))
    return bool(1 <= core <= 15 and 20 <= oedema <= 90 and 5 <= rim <= 40)


def _is_plain_to_see(volumes: Mapping[Sequence, Volume], truth: npt.NDArray[np.uint8]) -> bool:
    """Oedema shines on FLAIR, the rim on T1CE, and nothing else in the brain does (no white matter disease)."""
    flair, t1ce = (np.asarray(volumes[name].voxels, dtype=np.float32) for name in (Sequence.FLAIR, Sequence.T1CE))
    healthy = (truth == Label.BACKGROUND) & (flair > 0)
    usual_flair, usual_t1ce = np.median(flair[healthy]), np.median(t1ce[healthy])
    oedema = np.median(flair[truth == Label.OEDEMA]) / usual_flair
    rim = np.median(t1ce[truth == Label.ENHANCING_TUMOUR]) / usual_t1ce
    stray = float(np.mean(flair[healthy] > 1.4 * usual_flair))
    return bool(oedema > 1.35 and rim > 1.35 and stray < 0.002)


def _stored(volume: Volume) -> Volume:
    """RAS+ voxels as LAS, the layout of a plain axial series."""
    affine = volume.affine @ _TO_STORED
    affine[:, 3] += volume.affine[:, 0] * (volume.voxels.shape[0] - 1)
    return Volume(voxels=np.ascontiguousarray(volume.voxels[::-1]), affine=affine)


def _write_series(folder: Path, volume: Volume, protocol: _Protocol, *, number: int, install: str) -> None:
    folder.mkdir(exist_ok=True)
    columns, rows, slices = volume.voxels.shape
    grey = np.clip(np.rint(np.asarray(volume.voxels, dtype=np.float64) * _GREY_OF_ONE), 0, 4095).astype("<u2")
    # The first pixel is the right anterior one: rows run to the left, columns to the back of the patient (LPS+).
    right_front = volume.affine @ np.array([columns - 1, rows - 1, 0, 1.0])
    for place in range(slices):
        image = _header(protocol, number=number, install=install)
        image.SOPInstanceUID = uid_from("demo-image", install, str(number), str(place))
        image.InstanceNumber = place + 1
        image.ImagePositionPatient = [
            round(float(-right_front[0]), 4),
            round(float(-right_front[1]), 4),
            round(float(right_front[2] + place * SPACING_MM[2]), 4),
        ]
        image.Rows, image.Columns = rows, columns
        image.PixelData = np.ascontiguousarray(grey[::-1, ::-1, place].T).tobytes()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"{place:04d}.dcm", enforce_file_format=True)


def _header(protocol: _Protocol, *, number: int, install: str) -> Any:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = MR_IMAGE
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _add_patient(image, install)
    _add_scan(image, protocol)
    image.SeriesInstanceUID = uid_from("demo-series", install, str(number))
    image.SeriesNumber = number
    image.SeriesDescription = f"{protocol.description} (simulated)"
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    image.SliceThickness = image.SpacingBetweenSlices = SPACING_MM[2]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    return image


def _add_patient(image: Any, install: str) -> None:
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName = "SIMULATED^DEMO PATIENT"
    image.PatientID = "SIMULATED-1"
    image.PatientBirthDate = image.PatientSex = ""
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "Simulated: there is no such person"
    image.StudyInstanceUID = uid_from("demo-study", install)
    image.FrameOfReferenceUID = uid_from("demo-frame-of-reference", install)
    image.StudyDate, image.StudyTime = "20260101", "120000"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
    image.StudyDescription = "Simulated brain tumour, not a patient"
    image.BurnedInAnnotation = "NO"
    image.PositionReferenceIndicator = ""
    image.PatientPosition, image.BodyPartExamined = "HFS", "BRAIN"


def _add_scan(image: Any, protocol: _Protocol) -> None:
    image.SOPClassUID = MR_IMAGE
    image.Modality = "MR"
    image.Manufacturer = "Segwire simulation"
    image.ImageType = ["DERIVED", "PRIMARY", "OTHER"]
    image.ScanningSequence = protocol.scanning
    image.SequenceVariant = "NONE"
    image.ScanOptions = ""
    image.MRAcquisitionType = "2D"
    image.RepetitionTime, image.EchoTime, image.EchoTrainLength = protocol.repetition_ms, protocol.echo_ms, 1
    image.MagneticFieldStrength = 3
    if protocol.inversion_ms is not None:
        image.InversionTime = protocol.inversion_ms
    if protocol.agent is not None:
        image.ContrastBolusAgent = protocol.agent
