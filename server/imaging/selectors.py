"""What is stored, as one user may see it."""

from typing import Any

import numpy as np
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Prefetch, Q, QuerySet

from inference.contract import Grid, PackedVolume
from server.imaging.errors import BatchNotFound, SeriesNotFound, StudyNotFound
from server.imaging.models import Artifact, Mask, Series, Study, UploadBatch


def studies_for(user: Any, *, uid: str = "") -> QuerySet[Study]:
    """The studies `user` owns or shares in a group, newest first; staff see all. `uid`: of this StudyInstanceUID."""
    studies = Study.objects.prefetch_related(Prefetch("series", queryset=Series.objects.filter(is_current=True)))
    if uid:
        studies = studies.filter(uid=uid.replace("\0", ""))  # which PostgreSQL does not take
    return studies if user.is_staff else studies.filter(_visible_to(user, "")).distinct()


def study_for(user: Any, study_id: str) -> Study:
    """One study by its id.

    Raises:
        StudyNotFound: there is none, or `user` may not see it.
    """
    study = studies_for(user).filter(pk=study_id).first()
    if study is None:
        raise StudyNotFound
    return study


def series_for(user: Any, ref: str) -> Series:
    """One series by our id (of any revision) or by SeriesInstanceUID (the current revision).

    When several users brought in the same series, one's own comes before another's.

    Raises:
        SeriesNotFound: there is none, or `user` may not see it.
    """
    series = Series.objects.select_related("study", "artifact").filter(Q(pk=ref) | Q(uid=ref, is_current=True))
    if not user.is_staff:
        series = series.filter(_visible_to(user, "study__")).distinct()
    found = sorted(series, key=lambda one: (one.study.owner_id != user.pk, one.part, -one.revision))
    if not found:
        raise SeriesNotFound
    return found[0]


def mask_of(job_id: str) -> Mask | None:
    """The mask of a job, once it is proven and stored."""
    return Mask.objects.select_related("series").filter(job_id=job_id).first()


def file_of(mask: Mask, name: str) -> tuple[str, str] | None:
    """Where a file of a result lies on the shelf, and its digest; None when the result has none of that name."""
    return next(((path, sha256) for path, sha256 in beside(mask) if path.rpartition("/")[2] == name), None)


def beside(mask: Mask) -> list[tuple[str, str]]:
    """Path and digest of the files of a result but its masks and report.json: summary.pdf and the DICOM objects."""
    folder = mask.report_path.rpartition("/")[0]
    found = [(f"{folder}/{one['name']}", str(one["sha256"])) for one in mask.dicom_objects if one["kind"] != "seg"]
    return [*found, *([(f"{folder}/summary.pdf", mask.pdf_sha256)] if mask.pdf_sha256 else [])]


def grid_of(series: Series) -> Grid:
    """The RAS+ grid of the series' artifact: what a worker's mask of it must lie on."""
    return packed_of(series.artifact).grid


def stored_grid_of(series: Series) -> Grid:
    """The grid of volume.nii.gz and of the mask: columns, rows and slices as dcm2niix lays them out, or as in NIfTI."""
    i, j, k = series.shape
    return Grid(shape=(i, j, k), affine=np.asarray(series.affine, dtype=np.float64))


def packed_of(artifact: Artifact) -> PackedVolume:
    """The artifact's description as the wire and the analysis know it."""
    x, y, z = artifact.shape
    return PackedVolume(
        size=artifact.size,
        sha256=artifact.sha256,
        encoding=artifact.encoding,
        dtype=artifact.dtype,
        shape=(x, y, z),
        affine=tuple(float(number) for row in artifact.affine for number in row),
    )


def batch_for(user: AbstractBaseUser, uuid: str) -> UploadBatch:
    """One batch of uploads, of this user.

    Raises:
        BatchNotFound: there is none.
    """
    batch = UploadBatch.objects.filter(owner=user, uuid=uuid).first()
    if batch is None:
        raise BatchNotFound
    return batch


def _visible_to(user: Any, prefix: str) -> Q:
    return Q(**{f"{prefix}owner": user.pk}) | Q(**{f"{prefix}groups__user": user.pk})
