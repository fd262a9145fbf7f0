"""Patients who do not exist, as four DICOM series that an archive can hold; small, so that an analysis costs little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.inference.dicom.images import image, save
from tests.system.faults.patients import SEQUENCES, SPACING_MM, make_patient

PROTOCOLS: dict[str, dict[str, Any]] = {
    "t1": {"RepetitionTime": 550.0, "EchoTime": 12.0, "SeriesDescription": "T1 SE AX"},
    "t1ce": {
        "RepetitionTime": 550.0,
        "EchoTime": 12.0,
        "SeriesDescription": "T1 SE AX + Gd",
        "ContrastBolusAgent": "Gadolinium (simulated)",
    },
    "t2": {"RepetitionTime": 4500.0, "EchoTime": 100.0, "SeriesDescription": "T2 TSE AX"},
    "flair": {
        "RepetitionTime": 9000.0,
        "EchoTime": 120.0,
        "InversionTime": 2500.0,
        "ScanningSequence": "IR",
        "SeriesDescription": "FLAIR AX",
    },
}


def dicom_patient(folder: Path, *, uid: str, seed: int = 1, sequences: tuple[str, ...] = SEQUENCES, **header: Any):
    """The files of a study of these sequences, 24 slices each; its StudyInstanceUID is `uid`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = dict(zip(SEQUENCES, make_patient(folder / "nifti", seed=seed), strict=True))
    files = []
    for number, sequence in enumerate(sequences, start=1):
        voxels = np.asarray(nib.load(names[sequence]).dataobj, dtype=np.int16)
        for place in range(voxels.shape[2]):
            one = image(
                place,
                voxels[:, :, place].T,
                StudyInstanceUID=uid,
                SeriesInstanceUID=f"{uid}.{number}",
                SOPInstanceUID=f"{uid}.{number}.{place + 1}",
                FrameOfReferenceUID=f"{uid}.9",
                SeriesNumber=number,
                PixelSpacing=[SPACING_MM, SPACING_MM],
                SliceThickness=SPACING_MM,
                ImagePositionPatient=[0.0, 0.0, SPACING_MM * place],
                **{**PROTOCOLS[sequence], **header},
            )
            files.append(save(one, folder / f"{sequence}-{place:02d}.dcm"))
    return files
