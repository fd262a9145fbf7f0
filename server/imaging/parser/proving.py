"""A worker's mask, believed in nothing: checked, brought to the stored grid, written, read back, compared.

Flow: 8 mask
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.contract import Label, ModelRef, Region, Sequence, Stage, Volume
from inference.errors import InferenceError, InputInvalid
from inference.export.change import Change, Earlier, change_since
from inference.export.dossier import Case, Dossier, Object, write_dossier
from inference.export.measures import Measures
from inference.export.nifti import write_nifti
from inference.export.origin import Origin
from inference.export.report import report, write_report
from inference.postprocess import volumes_ml
from inference.volume import from_ras, read_nifti, unpack
from server.imaging.parser.orders import Model, ProveAnswer, ProveOrder, Unproven, WrittenObject

_NO_TUMOUR = "No tumour was found: the mask is empty, and an empty mask has no DICOM SEG."
_NO_SOURCE = "The reference came as NIfTI: there are no DICOM images that a SEG could refer to."


@dataclass(frozen=True)
class _Mask:
    """The mask in both orders of axes: `stored` (I, J, K) as the reference lies, `ras` (X, Y, Z) as workers see it."""

    stored: Volume
    ras: Volume


def prove(order: ProveOrder) -> ProveAnswer | Unproven:
    """Write the mask and everything beside it below the order's folder, each only if it says what the mask says."""
    try:
        return _proved(order)
    except InputInvalid as error:
        return Unproven(code=error.code, detail=error.sentence)
    except InferenceError as error:
        return Unproven(code=error.code, detail=str(error))


def _proved(order: ProveOrder) -> ProveAnswer:
    folder = Path(order.folder)
    mask = _received(order)
    stored = folder / "mask.nii.gz"
    write_nifti(mask.stored, stored, labels=True)
    if not np.array_equal(read_nifti(stored).voxels, mask.stored.voxels):
        raise InputInvalid("not_written", "The written mask does not say the same as the one received.")
    dossier = write_dossier(_case(order, mask), folder)
    _write_report(order, mask, dossier, folder / "report.json")
    seg = folder / "mask.dcm"
    volumes = volumes_ml(mask.ras.voxels.astype(np.uint8, copy=False), mask.ras.grid)
    return ProveAnswer(
        has_seg=seg.exists(),
        size=stored.stat().st_size,
        sha256=_digest(stored),
        seg_sha256=_digest(seg) if seg.exists() else "",
        report_sha256=_digest(folder / "report.json"),
        volumes_ml={str(region): round(volume, 3) for region, volume in volumes.items()},
        objects=tuple(_told(one, folder) for one in dossier.objects),
        pdf_sha256=_digest(folder / "summary.pdf") if dossier.has_pdf else "",
        change=None if dossier.change is None else dossier.change.as_json(),
    )


def _received(order: ProveOrder) -> _Mask:
    declared, expected, stored = order.mask.value(), order.artifact_grid.value(), order.stored_grid.value()
    if declared.dtype != "uint8":
        raise InputInvalid("wrong_type", "A mask has voxels of type uint8.")
    if not declared.grid.is_close_to(expected):
        raise InputInvalid("wrong_grid", "The mask does not lie on the grid of the reference series.")
    voxels = unpack(Path(order.mask_path), declared).voxels
    if int(voxels.max()) > max(Label):
        raise InputInvalid("unknown_label", f"The mask holds the label {int(voxels.max())}, which stands for nothing.")
    labels: npt.NDArray[np.uint8] = from_ras(voxels, like=stored).astype(np.uint8, copy=False)
    return _Mask(stored=Volume(voxels=labels, affine=stored.affine), ras=Volume(voxels=voxels, affine=expected.affine))


def _case(order: ProveOrder, mask: _Mask) -> Case:
    used = [str(scan.sequence) for scan in order.inputs if scan.sequence]
    return Case(
        mask=mask.stored,
        labels=mask.ras.voxels.astype(np.uint8, copy=False),
        grid_ras=mask.ras.affine,
        origin=Origin(model=_ref(order.model), subject=order.job_id, at=_at(order)),
        originals=sorted(Path(order.originals).glob("*.dcm")) if order.originals is not None else (),
        scan=_scan(order),
        reference=next((str(scan.sequence) for scan in order.inputs if scan.series_id == order.reference_id), ""),
        used=used,
        missing=_missing(used),
        warnings=_warnings(order, mask),
        alignment=order.alignment,
        brain=order.brain,
        change=lambda measures: _change(order, measures),
    )


def _scan(order: ProveOrder) -> Volume | None:
    """The reference on the grid of the mask; a damaged one costs the pictures, not the mask."""
    if order.scan is None:
        return None
    try:
        scan = unpack(Path(order.scan_path), order.scan.value())
    except (InputInvalid, MemoryError):
        return None
    return scan if scan.grid.is_close_to(order.artifact_grid.value()) else None


def _change(order: ProveOrder, measures: Mapping[Region, Measures]) -> Change | None:
    before = order.earlier
    if before is None:
        return None
    earlier = Earlier(
        date=before.study_date,
        job=before.job_id,
        model=None if before.model is None else _ref(before.model),
        volumes_ml={region: before.volumes_ml[region] for region in Region if region in before.volumes_ml},
    )
    return change_since(
        earlier,
        volumes_ml={region: one.volume_ml for region, one in measures.items()},
        date=order.study_date,
        model=_ref(order.model),
    )


def _write_report(order: ProveOrder, mask: _Mask, dossier: Dossier, path: Path) -> None:
    stages = {Stage(name): seconds for name, seconds in order.stage_seconds.items() if name in set(Stage)}
    content = report(
        mask.stored.voxels.astype(np.uint8, copy=False),
        mask.stored.grid,
        model=_ref(order.model),
        inputs={Sequence(scan.sequence): scan.sha256 for scan in order.inputs if scan.sequence in set(Sequence)},
        stage_seconds=stages,
        warnings=(*_warnings(order, mask), *dossier.left_out.values()),
        measures=dossier.measures,
    )
    used = [str(scan.sequence) for scan in order.inputs if scan.sequence]
    extra = {
        "job": order.job_id,
        "reference_series": order.reference_id,
        "input_series": {str(scan.sequence): scan.series_id for scan in order.inputs},
        "sequences": {"used": used, "missing": _missing(used)},
        "alignment": list(order.alignment),
        "brain": order.brain,
        "sides": {str(region): str(dossier.sides[region]) if region in dossier.sides else None for region in Region},
        "change": None if dossier.change is None else dossier.change.as_json(),
        "seg": _seg_note(order, mask),
        "documents": _documents(dossier),
    }
    write_report({**content, **extra}, path)


def _seg_note(order: ProveOrder, mask: _Mask) -> dict[str, object]:
    reason = _NO_SOURCE if order.originals is None else None if mask.ras.voxels.any() else _NO_TUMOUR
    return {"written": reason is None, "reason": reason}


def _documents(dossier: Dossier) -> dict[str, object]:
    """Which files lie beside the mask, and why one that could have been there does not."""
    names = [one.name for one in dossier.objects] + ["summary.pdf"] * dossier.has_pdf
    return {"written": sorted(names), "left_out": dict(dossier.left_out)}


def _warnings(order: ProveOrder, mask: _Mask) -> tuple[str, ...]:
    is_silent = order.originals is None or bool(mask.ras.voxels.any())
    return (*order.warnings, *(() if is_silent else (_NO_TUMOUR,)))


def _missing(used: list[str]) -> list[str]:
    return [str(sequence) for sequence in Sequence if sequence not in used]


def _told(one: Object, folder: Path) -> WrittenObject:
    path, header = folder / one.name, one.dataset
    return WrittenObject(
        kind=one.kind,
        name=one.name,
        sha256=_digest(path),
        size=path.stat().st_size,
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        series_instance_uid=str(header.SeriesInstanceUID),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _at(order: ProveOrder) -> datetime:
    return datetime.fromisoformat(order.at) if order.at else datetime.now().astimezone()


def _ref(model: Model) -> ModelRef:
    return ModelRef(name=model.name, version=model.version, sha256=model.sha256)
