"""What the parser child is asked and what it answers."""

from __future__ import annotations

import msgspec

from inference.contract import Grid, PackedVolume

LAST_OPENED = "last-opened"
"""Name of the file that says which input was in hand, should the parser die over it."""


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything between server and parser."""


class Bounds(Struct):
    """What the child may use. Sizes in bytes, times in seconds."""

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    archive_members: int
    archive_ratio: int
    archive_bytes: int


class Named(Struct):
    """A file to read. `name` is what the person calls it; NIfTI files of one `group` are one study."""

    path: str
    name: str
    group: str = ""


class ReadOrder(Struct, tag="read"):
    """Server -> parser: turn these files into volumes below `folder`."""

    bounds: Bounds
    folder: str
    files: tuple[Named, ...]


class Packed(Struct):
    """`inference.contract.PackedVolume` as a message."""

    size: int
    sha256: str
    encoding: str
    dtype: str
    shape: tuple[int, int, int]
    affine: tuple[float, ...]

    @classmethod
    def of(cls, packed: PackedVolume) -> Packed:
        """The message for a packed volume."""
        return cls(
            size=packed.size,
            sha256=packed.sha256,
            encoding=packed.encoding,
            dtype=packed.dtype,
            shape=packed.shape,
            affine=packed.affine,
        )

    def value(self) -> PackedVolume:
        """The packed volume of this message."""
        return PackedVolume(
            size=self.size,
            sha256=self.sha256,
            encoding=self.encoding,
            dtype=self.dtype,
            shape=self.shape,
            affine=self.affine,
        )


class PlacedGrid(Struct):
    """`inference.contract.Grid` as a message: shape and the 4x4 affine by rows (RAS+ mm)."""

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, float, float, float], ...]

    @classmethod
    def of(cls, grid: Grid) -> PlacedGrid:
        """The message for a grid."""
        return cls(shape=grid.shape, affine=tuple(tuple(float(number) for number in row) for row in grid.affine))

    def value(self) -> Grid:
        """The grid of this message."""
        import numpy as np

        return Grid(shape=self.shape, affine=np.asarray(self.affine, dtype=np.float64))


class FoundStudy(Struct):
    """Whose and which examination a series belongs to. `date` is YYYYMMDD or empty."""

    uid: str
    source: str
    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    """YYYYMMDD or empty, like `date`."""
    date: str = ""
    description: str = ""
    accession: str = ""


class FoundSeries(Struct):
    """One volume, staged in the order's folder under `folder`: volume.nii.gz, artifact, originals/ (DICOM only)."""

    study: FoundStudy
    name: str
    folder: str
    uid: str
    part: int
    number: int | None
    description: str
    modality: str
    sequence: str | None
    sequence_confidence: float
    grid: PlacedGrid
    spacing_mm: tuple[float, float, float]
    frame_of_reference_uid: str
    content_sha256: str
    volume_size: int
    volume_sha256: str
    artifact: Packed
    sequence_source: str = ""
    """Who said so: header, voxels or name; empty: nobody knows."""
    sequence_reason: str = ""
    """A sentence for the doctor, where there is something to say."""
    scan: dict[str, object] = {}
    """How it was scanned, as far as the header says (inference.dicom.facts.ScanFacts)."""
    fingerprint: dict[str, float] = {}
    """What the voxels themselves say of the contrast of tissues."""


class Refused(Struct):
    """A file (or several, named by the first) that became no volume, and why."""

    filename: str
    code: str
    detail: str


class SetAside(Struct):
    """A sound DICOM object that is no scan to be analysed (localizer, derived map, report), and why."""

    study_uid: str
    filename: str
    code: str
    detail: str
    files: int = 1


class ReadAnswer(Struct, tag="read"):
    """Parser -> server: everything found, and everything refused."""

    series: tuple[FoundSeries, ...]
    refused: tuple[Refused, ...]
    aside: tuple[SetAside, ...] = ()


class SourceScan(Struct):
    """One of the scans a mask was made from: its digest, and what the report calls it."""

    series_id: str
    sequence: str | None
    sha256: str


class Model(Struct):
    """Which model made the mask."""

    name: str
    version: str
    sha256: str


class EarlierMask(Struct):
    """The newest mask of an earlier study of the same patient: what changed since is told beside the new one."""

    job_id: str
    study_date: str
    """YYYY-MM-DD, or empty."""
    volumes_ml: dict[str, float]
    model: Model | None = None


class WrittenObject(Struct):
    """A DICOM object in the result's folder. `kind`: seg, sr, key or pdf."""

    kind: str
    name: str
    sha256: str
    size: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


class ProveOrder(Struct, tag="prove"):
    """Server -> parser: check a worker's mask, bring it to the stored grid, write and prove its files in `folder`."""

    bounds: Bounds
    folder: str
    mask_path: str
    mask: Packed
    artifact_grid: PlacedGrid
    stored_grid: PlacedGrid
    originals: str | None
    """Folder of the reference's DICOM files; None for a NIfTI reference."""
    reference_id: str
    job_id: str
    model: Model
    inputs: tuple[SourceScan, ...]
    stage_seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    alignment: tuple[dict[str, object], ...] = ()
    """As `server.dispatch.translate` tells it of `inference.contract.Alignment`."""
    brain: dict[str, object] | None = None
    study_date: str = ""
    """YYYY-MM-DD, or empty."""
    earlier: EarlierMask | None = None
    scan_path: str = ""
    """The packed reference itself, on `artifact_grid`; empty where it is not to be had."""
    scan: Packed | None = None
    at: str = ""
    """When the mask came in, ISO 8601 in the server's time zone."""


class ProveAnswer(Struct, tag="proved"):
    """Parser -> server: mask.nii.gz and report.json are in the folder, mask.dcm too if `has_seg`."""

    has_seg: bool
    size: int
    sha256: str
    seg_sha256: str
    """Empty without a SEG."""
    report_sha256: str
    volumes_ml: dict[str, float]
    objects: tuple[WrittenObject, ...] = ()
    """Every DICOM object that belongs to the result, the SEG among them."""
    pdf_sha256: str = ""
    """Of summary.pdf; empty without one."""
    change: dict[str, object] | None = None
    """As `inference.export.change.Change` tells it."""


class Unwritten(Struct, tag="unwritten"):
    """Parser -> server: the disk would not take it; `number` is the system's errno. Another try may go well."""

    number: int


class Unproven(Struct, tag="unproven"):
    """Parser -> server: the mask cannot be offered, and why."""

    code: str
    detail: str


Order = ReadOrder | ProveOrder
Answer = ReadAnswer | ProveAnswer | Unproven | Unwritten
