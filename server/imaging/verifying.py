"""Every stored file read and compared with the digest in its row: what a disk forgets quietly is found before it is
asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from server.imaging import storage
from server.imaging.errors import StoredFileDamaged
from server.imaging.models import Mask, Series
from server.imaging.selectors import beside


@dataclass(frozen=True)
class Checked:
    """One file, the row it belongs to, and whether it is what was put there."""

    path: str
    owner: str
    is_sound: bool


def check_all() -> Iterator[Checked]:
    """Read everything that rows speak of, one file after the other. Files from before digests must merely be there.

    Raises:
        StorageFailed: the shelf does not answer, so nothing can be said.
    """
    for series in Series.objects.select_related("artifact").order_by("pk").iterator():
        owner = f"series {series.pk}"
        yield _checked(owner, f"{series.folder}/volume.nii.gz", series.volume_sha256)
        yield _checked(owner, series.artifact.path, series.artifact.sha256)
    for mask in Mask.objects.order_by("pk").iterator():
        owner = f"job {mask.job_id}"
        yield _checked(owner, mask.nii_path, mask.sha256)
        yield _checked(owner, mask.report_path, mask.report_sha256)
        if mask.seg_path:
            yield _checked(owner, mask.seg_path, mask.seg_sha256)
        for path, sha256 in beside(mask):
            yield _checked(owner, path, sha256)


def _checked(owner: str, path: str, sha256: str) -> Checked:
    digest = hashlib.sha256()
    try:
        for piece in storage.shelf().pieces(path, 0):
            digest.update(piece)
    except StoredFileDamaged:
        return Checked(path=path, owner=owner, is_sound=False)
    return Checked(path=path, owner=owner, is_sound=not sha256 or digest.hexdigest() == sha256)
