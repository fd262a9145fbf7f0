"""A worker's upload turned into files that may be offered, by the parser child: nothing here believes the worker.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from inference.contract import ModelRef, PackedVolume
from inference.contract import Sequence as Kind
from server.ids import new_id
from server.imaging import disk, limited, selectors, storage
from server.imaging.earlier import earlier_mask
from server.imaging.errors import ResultInvalid, StoredFileDamaged
from server.imaging.models import Series, Source, Upload
from server.imaging.parser.orders import (
    Model,
    Packed,
    PlacedGrid,
    ProveAnswer,
    ProveOrder,
    SourceScan,
    Unproven,
    WrittenObject,
)
from server.imaging.parts import parts_of

_MAX_WARNINGS = 20
_MAX_WARNING_LENGTH = 300


@dataclass(frozen=True)
class ProvenFiles:
    """Files in their final place on the shelf, below `folder`: mask.nii.gz, report.json, mask.dcm if `has_seg`,
    summary.pdf if it has a digest, and the DICOM `objects`, the SEG among them."""

    series_id: str
    folder: str
    has_seg: bool
    sha256: str
    size: int
    seg_sha256: str = ""
    report_sha256: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    objects: tuple[WrittenObject, ...] = ()
    pdf_sha256: str = ""
    change: Mapping[str, Any] | None = None


def prove(  # noqa: PLR0913 - what a delivery says, and whose it is; all by keyword
    *,
    upload: Upload,
    packed: PackedVolume,
    job_id: str,
    reference: Series,
    inputs: Sequence[Series],
    model: ModelRef,
    metrics: Mapping[str, Any],
    sequences: Sequence[Kind] = tuple(Kind),
    viewer: Any = None,
) -> ProvenFiles:
    """Check a mask, write and prove its files; blocks for seconds, so never on the event loop.

    `inputs` are the scans, each standing for the one of `sequences` in its place. Of `metrics` the report keeps
    `stage_seconds`, `warnings`, `alignment` and `brain`. What changed since an earlier study is told of one that
    `viewer` may see; without a viewer the owner. The files are on the disk when this returns, and belong to nobody
    until `services.store_mask`.

    Raises:
        ResultInvalid: the mask is not one for this reference, or could not be proven.
        StorageFull, StorageFailed: nothing was kept, and another try may go well.
    """
    with (
        storage.staging() as folder,
        storage.staging() as received,
        _originals(reference) as originals,
        _scan(reference) as scan,
    ):
        order = ProveOrder(
            bounds=limited.bounds(),
            folder=str(folder),
            mask_path=str(parts_of(upload).whole(received)),
            mask=Packed.of(packed),
            artifact_grid=PlacedGrid.of(selectors.grid_of(reference)),
            stored_grid=PlacedGrid.of(selectors.stored_grid_of(reference)),
            originals=originals,
            reference_id=reference.pk,
            job_id=job_id,
            model=Model(name=model.name, version=model.version, sha256=model.sha256),
            inputs=tuple(
                SourceScan(series_id=scan.pk, sequence=str(kind), sha256=scan.artifact.sha256)
                for kind, scan in zip(sequences, inputs, strict=False)
            ),
            stage_seconds=_seconds(metrics.get("stage_seconds")),
            warnings=_sentences(metrics.get("warnings")),
            alignment=tuple(dict(part) for part in metrics.get("alignment") or ()),
            brain=metrics.get("brain"),
            study_date=reference.study.study_date.isoformat() if reference.study.study_date else "",
            earlier=earlier_mask(study=reference.study, viewer=viewer or reference.study.owner, model=model),
            scan_path=scan or "",
            scan=Packed.of(selectors.packed_of(reference.artifact)) if scan else None,
            # A mask that is delivered twice is told twice in the same words.
            at=timezone.localtime(upload.created_at).isoformat(timespec="seconds"),
        )
        proven = _answer(order)
        with disk.told():
            storage.settle(folder)
        place = f"masks/{job_id}-{new_id()}"
        storage.shelf().keep(folder, place)
    return ProvenFiles(
        series_id=reference.pk,
        folder=place,
        has_seg=proven.has_seg,
        sha256=proven.sha256,
        size=proven.size,
        seg_sha256=proven.seg_sha256,
        report_sha256=proven.report_sha256,
        volumes_ml=proven.volumes_ml,
        objects=proven.objects,
        pdf_sha256=proven.pdf_sha256,
        change=proven.change,
    )


def discard(proven: ProvenFiles) -> None:
    """Take proven files away that no job wants any more: it was cancelled, or another attempt was first."""
    storage.shelf().remove(proven.folder)


@contextmanager
def _originals(reference: Series) -> Iterator[str | None]:
    """The folder of the reference's DICOM files on this machine; None for a NIfTI reference."""
    if reference.source != Source.DICOM:
        yield None
        return
    with storage.shelf().local(f"{reference.folder}/originals") as folder:
        yield str(folder)


@contextmanager
def _scan(reference: Series) -> Iterator[str | None]:
    """The packed reference on this machine, for pictures of it; None where it is damaged: the mask does without."""
    with ExitStack() as held:
        try:
            path: str | None = str(held.enter_context(storage.shelf().local(reference.artifact.path)))
        except StoredFileDamaged:
            path = None
        yield path


def _answer(order: ProveOrder) -> ProveAnswer:
    try:
        answer = limited.run(order)
    except limited.ParserDied as error:
        raise ResultInvalid("Checking the mask took more memory or time than is allowed.") from error
    if isinstance(answer, Unproven):
        raise ResultInvalid(answer.detail, extra={"reason": answer.code})
    assert isinstance(answer, ProveAnswer)
    return answer


def _seconds(value: Any) -> dict[str, float]:
    pairs = value.items() if isinstance(value, Mapping) else ()
    return {str(name): float(seconds) for name, seconds in pairs if isinstance(seconds, int | float)}


def _sentences(value: Any) -> tuple[str, ...]:
    lines = value if isinstance(value, list | tuple) else ()
    return tuple(str(line)[:_MAX_WARNING_LENGTH] for line in lines[:_MAX_WARNINGS])
