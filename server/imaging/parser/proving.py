"""A worker's mask, believed in nothing: checked, brought to the stored grid, written, read back, compared.

Flow: 8 mask
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.contract import Label, ModelRef, Sequence, Stage, Volume
from inference.errors import InputInvalid
from inference.export.nifti import write_nifti
from inference.export.report import report, write_report
from inference.export.seg import SegRefused, prove_seg, write_seg
from inference.postprocess import volumes_ml
from inference.volume import from_ras, read_nifti, unpack
from server.imaging.parser.orders import ProveAnswer, ProveOrder, Unproven

_NO_TUMOUR = "No tumour was found: the mask is empty, and an empty mask has no DICOM SEG."
_NO_SOURCE = "The reference came as NIfTI: there are no DICOM images that a SEG could refer to."


def prove(order: ProveOrder) -> ProveAnswer | Unproven:
    """Write mask.nii.gz, mask.dcm and report.json below the order's folder, each only if it says what the mask says."""
    try:
        return _proved(order)
    except InputInvalid as error:
        return Unproven(code=error.code, detail=error.sentence)
    except SegRefused as error:
        return Unproven(code=error.code, detail=str(error))


def _proved(order: ProveOrder) -> ProveAnswer:
    folder = Path(order.folder)
    mask = _on_stored_grid(order)
    stored = folder / "mask.nii.gz"
    write_nifti(mask, stored, labels=True)
    if not np.array_equal(read_nifti(stored).voxels, mask.voxels):
        raise InputInvalid("not_written", "The written mask does not say the same as the one received.")
    reason = _no_seg_reason(order, mask)
    if reason is None:
        _write_seg(order, mask, folder / "mask.dcm")
    _write_report(order, mask, folder / "report.json", reason=reason)
    return ProveAnswer(
        has_seg=reason is None,
        size=stored.stat().st_size,
        sha256=_digest(stored),
        seg_sha256=_digest(folder / "mask.dcm") if reason is None else "",
        report_sha256=_digest(folder / "report.json"),
        volumes_ml={str(region): round(volume, 3) for region, volume in volumes_ml(mask.voxels, mask.grid).items()},
    )


def _on_stored_grid(order: ProveOrder) -> Volume:
    """The mask (I, J, K) uint8 on the stored grid of the reference."""
    declared, expected, stored = order.mask.value(), order.artifact_grid.value(), order.stored_grid.value()
    if declared.dtype != "uint8":
        raise InputInvalid("wrong_type", "A mask has voxels of type uint8.")
    if not declared.grid.is_close_to(expected):
        raise InputInvalid("wrong_grid", "The mask does not lie on the grid of the reference series.")
    voxels = unpack(Path(order.mask_path), declared).voxels
    if int(voxels.max()) > max(Label):
        raise InputInvalid("unknown_label", f"The mask holds the label {int(voxels.max())}, which stands for nothing.")
    labels: npt.NDArray[np.uint8] = from_ras(voxels, like=stored).astype(np.uint8)
    return Volume(voxels=labels, affine=stored.affine)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _no_seg_reason(order: ProveOrder, mask: Volume) -> str | None:
    if order.originals is None:
        return _NO_SOURCE
    return None if mask.voxels.any() else _NO_TUMOUR


def _write_seg(order: ProveOrder, mask: Volume, path: Path) -> None:
    originals = sorted(Path(order.originals or "").glob("*.dcm"))
    write_seg(mask, originals, path, model=_model(order), subject=order.job_id)
    prove_seg(path, mask)


def _write_report(order: ProveOrder, mask: Volume, path: Path, *, reason: str | None) -> None:
    stages = {Stage(name): seconds for name, seconds in order.stage_seconds.items() if name in set(Stage)}
    content = report(
        mask.voxels.astype(np.uint8),
        mask.grid,
        model=_model(order),
        inputs={Sequence(scan.sequence): scan.sha256 for scan in order.inputs if scan.sequence in set(Sequence)},
        stage_seconds=stages,
        warnings=(*order.warnings, *([_NO_TUMOUR] if reason == _NO_TUMOUR else [])),
    )
    extra = {
        "job": order.job_id,
        "reference_series": order.reference_id,
        "input_series": {str(scan.sequence): scan.series_id for scan in order.inputs},
        "seg": {"written": reason is None, "reason": reason},
    }
    write_report({**content, **extra}, path)


def _model(order: ProveOrder) -> ModelRef:
    return ModelRef(name=order.model.name, version=order.model.version, sha256=order.model.sha256)
