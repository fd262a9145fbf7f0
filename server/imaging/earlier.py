"""Which earlier result a new one is compared with: the same patient, an earlier study, a mask that was proven.

The same patient is one with the same PatientID and the same birth date. Where one of the studies has no birth date,
the names must agree instead: anonymised studies share an id like "ANON" and have neither.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import msgspec
from django.db.models import QuerySet

from inference.contract import ModelRef
from server.imaging import storage
from server.imaging.errors import StorageFailed, StoredFileDamaged
from server.imaging.models import Mask, Study
from server.imaging.parser.orders import EarlierMask, Model
from server.imaging.selectors import studies_for

_MOST_STUDIES = 50
_MOST_MASKS = 8


def earlier_mask(*, study: Study, viewer: Any, model: ModelRef) -> EarlierMask | None:
    """The newest mask of the newest earlier study of the patient that `viewer` may see; one by `model` before others.

    None for a study without patient id or date, as NIfTI files are.
    """
    if not study.patient_id.strip() or study.study_date is None:
        return None
    for before in _earlier_studies(study, viewer):
        masks = list(Mask.objects.filter(series__study=before).order_by("-created_at", "-pk")[:_MOST_MASKS])
        if masks:
            told = [_told(mask, before) for mask in masks]
            same = Model(name=model.name, version=model.version, sha256=model.sha256)
            return next((one for one in told if one.model == same), told[0])
    return None


def _earlier_studies(study: Study, viewer: Any) -> list[Study]:
    visible: QuerySet[Study] = studies_for(viewer).prefetch_related(None)
    found = visible.filter(patient_id=study.patient_id, study_date__lt=study.study_date).exclude(uid=study.uid)
    newest = found.order_by("-study_date", "-created_at", "-pk")[:_MOST_STUDIES]
    return [one for one in newest if _is_same_patient(one, study)]


def _is_same_patient(one: Study, other: Study) -> bool:
    if one.patient_birth_date and other.patient_birth_date:
        return one.patient_birth_date == other.patient_birth_date
    return bool(_name(one)) and _name(one) == _name(other)


def _name(study: Study) -> str:
    """The first group of a name, without what differs from one scanner's keyboard to the next."""
    letters = unicodedata.normalize("NFKC", study.patient_name.partition("=")[0]).casefold()
    return " ".join(letters.replace("^", " ").split())


def _told(mask: Mask, study: Study) -> EarlierMask:
    assert study.study_date is not None
    return EarlierMask(
        job_id=mask.job_id,
        study_date=study.study_date.isoformat(),
        volumes_ml={str(region): float(volume) for region, volume in mask.volumes_ml.items()},
        model=_model_of(mask),
    )


class _Named(msgspec.Struct):
    model: Model


def _model_of(mask: Mask) -> Model | None:
    """The model as the mask's own report names it; not known where the report is damaged."""
    try:
        content = storage.read(mask.report_path, sha256=mask.report_sha256)
        return msgspec.json.decode(content, type=_Named).model
    except (StoredFileDamaged, StorageFailed, msgspec.MsgspecError):
        return None
