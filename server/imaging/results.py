"""A worker's upload turned into files that may be offered, by the parser child: nothing here believes the worker.

Flow: 8 mask
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from inference.contract import ModelRef, PackedVolume
from inference.contract import Sequence as Kind
from server.ids import new_id
from server.imaging import disk, limited, selectors, storage
from server.imaging.errors import ResultInvalid
from server.imaging.models import Series, Source, Upload
from server.imaging.parser.orders import Model, Packed, PlacedGrid, ProveAnswer, ProveOrder, SourceScan, Unproven
from server.imaging.parts import parts_of

_MAX_WARNINGS = 20
_MAX_WARNING_LENGTH = 300


@dataclass(frozen=True)
class ProvenFiles:
    """Files in their final place on the shelf, below `folder`: mask.nii.gz, report.json, and mask.dcm if `has_seg`."""

    series_id: str
    folder: str
    has_seg: bool
    sha256: str
    size: int
    seg_sha256: str = ""
    report_sha256: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)


def prove(
    *,
    upload: Upload,
    packed: PackedVolume,
    job_id: str,
    reference: Series,
    inputs: Sequence[Series],
    model: ModelRef,
    metrics: Mapping[str, Any],
    sequences: Sequence[Kind] = tuple(Kind),
) -> ProvenFiles:
    """Check a mask, write and prove its files; blocks for seconds, so never on the event loop.

    `inputs` are the scans, each standing for the one of `sequences` in its place. Of `metrics` the report keeps
    `stage_seconds` and `warnings`. The files are on the disk when this returns, and belong to nobody until
    `services.store_mask`.

    Raises:
        ResultInvalid: the mask is not one for this reference, or could not be proven.
        StorageFull, StorageFailed: nothing was kept, and another try may go well.
    """
    with storage.staging() as folder, storage.staging() as received, _originals(reference) as originals:
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
