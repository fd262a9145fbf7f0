"""A PDF as a DICOM object (Encapsulated PDF, PS3.3 A.45.1), in the study it tells of.

Flow: 8 mask
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from highdicom.base import SOPClass
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from inference.dicom.headers import PARSE_ERRORS, quiet
from inference.dicom.reference import SourceImages
from inference.dicom.uids import uid_from
from inference.errors import InferenceError
from inference.export.capture import patient_and_study, references
from inference.export.origin import Origin, equipment, series_number, stamped

_TITLE = "Brain tumour segmentation: summary (research use only)"


class DocumentRefused(InferenceError):
    """The encapsulated document is not the PDF it was made of."""

    code = "pdf_refused"
    family = "internal"


def save_document(pdf: bytes, source: SourceImages, path: Path, *, origin: Origin, content: str) -> Any:
    """Write `pdf` as an object of the source's study and answer the Dataset."""
    image = source.first
    settings = equipment(origin)
    contributing = settings.pop("contributing_equipment")
    with quiet():
        made = SOPClass(
            study_instance_uid=image.StudyInstanceUID,
            series_instance_uid=uid_from("pdf-series", origin.subject, content),
            sop_instance_uid=uid_from("pdf-instance", origin.subject, content),
            sop_class_uid=EncapsulatedPDFStorage,
            series_number=series_number(image, 4000),
            instance_number=1,
            modality="DOC",
            series_description="Brain tumour summary (research use only)",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set="ISO_IR 192",
            **patient_and_study(image),
            **settings,
        )
        made.copy_patient_and_study_information(image)
        made._add_contributing_equipment(contributing)
        _fill(made, pdf, source, origin=origin)
        stamped(made, origin).save_as(path)
    return made


def prove_document(path: Path, pdf: bytes) -> None:
    """Read the object back and compare its document with the PDF, byte by byte.

    Raises:
        DocumentRefused: they differ, or it cannot be read.
    """
    try:
        with quiet():
            found = dcmread(path)
            document = found.EncapsulatedDocument[: found.EncapsulatedDocumentLength]
    except PARSE_ERRORS as error:
        raise DocumentRefused("The written summary cannot be read.") from error
    if document != pdf:
        raise DocumentRefused("The written summary is not the one that was drawn.")


def _fill(made: Any, pdf: bytes, source: SourceImages, *, origin: Origin) -> None:
    made.ConversionType = "WSD"
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES"  # it names the patient
    made.DocumentTitle = _TITLE
    made.ConceptNameCodeSequence = [_concept()]
    made.SourceInstanceSequence = references(source)
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pdf)
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)


def _concept() -> Any:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "126000", "DCM", "Imaging Measurement Report"
    return item
