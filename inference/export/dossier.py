"""Everything that is written beside a mask, and the rule of what may be missing.

The mask and its SEG are the promise: if the SEG cannot be made or does not say the same, there is no result. The
structured report, the key images and the summary go with it: one that cannot be made (a header that will not go into
it, no memory left to draw) is left out, and the report says so. But what was made and, read back, says something else
than the mask is a failure of the whole, whichever it is: then something is wrong that nobody understands.

Flow: 8 mask
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from inference.contract import Label, Region, Volume
from inference.dicom.headers import PARSE_ERRORS
from inference.dicom.reference import SourceImages
from inference.export.capture import area_mm2, prove_picture, save_picture
from inference.export.change import Change
from inference.export.document import prove_document, save_document
from inference.export.measures import Measures, measure
from inference.export.origin import Origin
from inference.export.pictures import KeyPicture, draw_pictures
from inference.export.seg import prove_seg, save_seg, sources_of
from inference.export.sides import Side, sides
from inference.export.sr import Findings, prove_report, save_report
from inference.export.summary import Summary, draw_summary

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
_CANNOT = (*PARSE_ERRORS, MemoryError)

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One result. `mask` (I, J, K) uint8 on the stored grid of the reference; `labels` the same in RAS+ order, and the
    `scan` of the reference on that grid, where it is at hand. `originals`: its DICOM files, none for NIfTI."""

    mask: Volume
    labels: npt.NDArray[np.uint8]
    grid_ras: npt.NDArray[np.float64]
    origin: Origin
    originals: Sequence[Path] = ()
    scan: Volume | None = None
    reference: str = ""
    used: Sequence[str] = ()
    missing: Sequence[str] = ()
    warnings: Sequence[str] = ()
    alignment: Sequence[Mapping[str, Any]] = ()
    brain: Mapping[str, Any] | None = None
    change: Callable[[Mapping[Region, Measures]], Change | None] = lambda _: None


@dataclass(frozen=True)
class Object:
    """A DICOM object that lies in the folder under `name`. `kind`: seg, sr, key or pdf."""

    kind: str
    name: str
    dataset: Any


@dataclass
class Dossier:
    """What was written, what it says, and what could not be made: the reason by kind."""

    measures: Mapping[Region, Measures]
    sides: Mapping[Region, Side]
    change: Change | None
    objects: list[Object] = field(default_factory=list)
    has_pdf: bool = False
    left_out: dict[str, str] = field(default_factory=dict)

    def made(self, kind: str, make: Callable[[], Made], *, what: str) -> Made | None:
        """What `make` answers; None, and the reason kept, when it cannot. A full disk is nobody's reason."""
        try:
            return make()
        except _CANNOT as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            self.left_out[kind] = f"The {what} could not be made ({type(error).__name__})."
            return None


def write_dossier(case: Case, folder: Path) -> Dossier:
    """Write and prove mask.dcm, report.dcm, key-1.dcm …, summary.pdf and summary.dcm below `folder`.

    Raises:
        SegRefused: the SEG cannot be made, or is not what the mask says.
        ReportRefused, PictureRefused, DocumentRefused: what was made says something else than the mask.
    """
    grid = Volume(voxels=case.labels, affine=case.grid_ras).grid
    measures = measure(case.labels, grid)
    dossier = Dossier(measures=measures, sides={}, change=case.change(measures))
    if case.scan is not None:
        scan = case.scan
        dossier.sides = dossier.made("sides", lambda: sides(case.labels, scan), what="side of the tumour") or {}
    source = sources_of(case.mask, case.originals) if case.originals else None
    if source is not None:
        content = sha256(np.ascontiguousarray(case.mask.voxels).tobytes()).hexdigest()
        seg = _write_seg(case, source, folder, dossier)
        _write_report(case, source, folder, dossier, seg=seg, content=content)
        pictures = _write_pictures(case, source, folder, dossier, content=content)
        _write_summary(case, source, folder, dossier, pictures=pictures, content=content)
    else:
        _write_summary(case, None, folder, dossier, pictures=_drawn(case, dossier), content="")
    return dossier


def _write_seg(case: Case, source: SourceImages, folder: Path, dossier: Dossier) -> Any | None:
    if not case.labels.any():
        return None
    path = folder / "mask.dcm"
    seg = save_seg(case.mask, source, path, origin=case.origin)
    prove_seg(path, case.mask)
    dossier.objects.append(Object("seg", path.name, seg))
    return seg


def _write_report(
    case: Case, source: SourceImages, folder: Path, dossier: Dossier, *, seg: Any | None, content: str
) -> None:
    path = folder / "report.dcm"
    findings = Findings(
        measures=dossier.measures,
        parts_ml=_parts_ml(case.labels, voxel_ml=case.mask.grid.voxel_ml),
        sides=dossier.sides,
        change=dossier.change,
        comments=tuple(case.warnings),
    )
    document = dossier.made(
        "sr",
        lambda: save_report(findings, source, path, origin=case.origin, seg=seg, content=content),
        what="structured report",
    )
    if document is None:
        path.unlink(missing_ok=True)
        return
    prove_report(path, findings, origin=case.origin, seg_uid=None if seg is None else str(seg.SOPInstanceUID))
    dossier.objects.append(Object("sr", path.name, document))


def _write_pictures(
    case: Case, source: SourceImages, folder: Path, dossier: Dossier, *, content: str
) -> list[KeyPicture]:
    pictures = _drawn(case, dossier)
    spacing = Volume(voxels=case.labels, affine=case.grid_ras).grid.spacing_mm
    for number, picture in enumerate(pictures, start=1):
        path = folder / f"key-{number}.dcm"
        save = partial(save_picture, picture, source, path, number=number, origin=case.origin, content=content)
        image = dossier.made("key", save, what="key images")
        if image is None:
            path.unlink(missing_ok=True)
            continue
        area = area_mm2(case.labels, picture.region, slice_index=picture.slice_index, pixel_mm2=spacing[0] * spacing[1])
        prove_picture(path, picture, dossier.measures[picture.region], mask_area_mm2=area)
        dossier.objects.append(Object("key", path.name, image))
    return pictures


def _drawn(case: Case, dossier: Dossier) -> list[KeyPicture]:
    if case.scan is None:
        return []
    scan = case.scan
    return (
        dossier.made(
            "key",
            lambda: list(draw_pictures(case.labels, scan, dossier.measures, sequence=case.reference)),
            what="key images",
        )
        or []
    )


def _write_summary(
    case: Case,
    source: SourceImages | None,
    folder: Path,
    dossier: Dossier,
    *,
    pictures: list[KeyPicture],
    content: str,
) -> None:
    summary = Summary(
        origin=case.origin,
        measures=dossier.measures,
        sides=dossier.sides,
        image=None if source is None else source.first,
        pictures=pictures,
        change=dossier.change,
        used=case.used,
        missing=case.missing,
        reference=case.reference,
        alignment=case.alignment,
        brain=case.brain,
        warnings=(*case.warnings, *dossier.left_out.values()),
    )
    pdf = dossier.made("pdf", lambda: draw_summary(summary), what="summary")
    if pdf is None:
        return
    (folder / "summary.pdf").write_bytes(pdf)
    dossier.has_pdf = True
    if source is None:
        return
    path = folder / "summary.dcm"
    document = dossier.made(
        "pdf", lambda: save_document(pdf, source, path, origin=case.origin, content=content), what="summary as DICOM"
    )
    if document is None:
        path.unlink(missing_ok=True)
        return
    prove_document(path, pdf)
    dossier.objects.append(Object("pdf", path.name, document))


def _parts_ml(labels: npt.NDArray[np.uint8], *, voxel_ml: float) -> dict[Label, float]:
    return {label: np.count_nonzero(labels == label) * voxel_ml for label in Label}
