"""Studies and series as the API shows them."""

from __future__ import annotations

from typing import Any

from server.imaging.models import Series, Study
from server.imaging.sequences import proposal_of


def series_snapshot(series: Series) -> dict[str, Any]:
    """One series. `shape` and `spacing_mm` are of the stored grid."""
    return {
        "id": series.pk,
        "study": series.study_id,
        "uid": series.uid,
        "part": series.part,
        "revision": series.revision,
        "is_current": series.is_current,
        "number": series.number,
        "description": series.description,
        "modality": series.modality,
        "sequence": series.sequence,
        "sequence_confidence": series.sequence_confidence,
        "sequence_source": series.sequence_source,
        "sequence_reason": series.sequence_reason,
        "shape": series.shape,
        "spacing_mm": series.spacing_mm,
        "source": series.source,
        "volume_url": f"/api/mri/series/{series.pk}/volume.nii.gz",
        "volume_size": series.volume_size,
    }


def study_snapshot(study: Study, series: list[Series], *, among: list[Series] | None = None) -> dict[str, Any]:
    """One study with the given series, and what is proposed of them, or of all those `among` which they are."""
    return {
        "id": study.pk,
        "uid": study.uid,
        "patient_name": study.patient_name,
        "patient_id": study.patient_id,
        "study_date": study.study_date.isoformat() if study.study_date else None,
        "description": study.description,
        "source": study.source,
        "created_at": study.created_at.isoformat(),
        "accession_number": study.accession_number,
        "set_aside": study.set_aside,
        "series": [series_snapshot(one) for one in series],
        "proposal": proposal_of(series if among is None else among),
    }
