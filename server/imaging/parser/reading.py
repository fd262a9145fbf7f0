"""Files in, staged volumes out: the parser's work on an upload."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from msgspec.structs import replace

from inference import dicom
from inference.contract import Volume
from inference.dicom.facts import ScanFacts
from inference.dicom.files import copy_file
from inference.dicom.fingerprint import fingerprint
from inference.dicom.recognise import judge
from inference.dicom.uids import uid_from
from inference.errors import InputInvalid
from inference.export.nifti import write_nifti
from inference.volume import pack, read_nifti
from server.imaging.parser import archive
from server.imaging.parser.orders import (
    LAST_OPENED,
    FoundSeries,
    FoundStudy,
    Named,
    Packed,
    PlacedGrid,
    ReadAnswer,
    ReadOrder,
    Refused,
    SetAside,
)

NOT_AN_IMAGE = "not_an_image"


@dataclass(frozen=True)
class _Scan:
    """A volume and what is known of it, before it is staged."""

    study: FoundStudy
    name: str
    uid: str
    volume: Volume
    scan: ScanFacts | None = None
    part: int = 0
    number: int | None = None
    description: str = ""
    modality: str = "MR"
    frame_of_reference_uid: str = ""
    originals: tuple[Path, ...] = ()


def read(order: ReadOrder) -> ReadAnswer:
    """Turn the order's files into volumes below its folder, each complete or not there at all."""
    with _Reader(order) as reader:
        return reader.read()


class _Reader:
    """One order being obeyed: what was found and refused so far."""

    def __init__(self, order: ReadOrder) -> None:
        self._bounds = order.bounds
        self._folder = Path(order.folder)
        self._files = order.files
        self._found: list[FoundSeries] = []
        self._refused: list[Refused] = []
        self._aside: list[SetAside] = []
        self._in_hand = (self._folder / LAST_OPENED).open("wb")

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_error: object) -> None:
        self._in_hand.close()

    def read(self) -> ReadAnswer:
        files = [file for entry in self._files for file in self._expanded(entry)]
        dicoms = {Path(file.path): file.name for file in files if dicom.is_dicom(Path(file.path))}
        self._read_dicom(dicoms)
        self._read_niftis([file for file in files if Path(file.path) not in dicoms])
        return ReadAnswer(series=tuple(self._found), refused=self._gathered(), aside=tuple(self._aside))

    def _expanded(self, entry: Named) -> list[Named]:
        """The members of an archive; any other file as it is."""
        self._note(entry.name)
        path = Path(entry.path)
        if not archive.is_zip(path):
            return [entry]
        into = self._folder / f"unpacked-{len(list(self._folder.iterdir()))}"
        into.mkdir()
        try:
            members = archive.unpack(path, into, bounds=self._bounds)
        except InputInvalid as error:
            self._refuse(entry.name, error)
            return []
        return [Named(path=str(file), name=name, group=entry.group) for file, name in members]

    def _read_dicom(self, files: dict[Path, str]) -> None:
        found = dicom.sort_files(files, on_file=self._note)
        for entry in found.refused:
            self._refused.append(Refused(filename=entry.name, code=entry.code, detail=str(entry)))
        self._aside.extend(_aside_of(entry) for entry in found.aside)
        for series in found.series:
            name = series.instances[0].name
            self._note(name)
            try:
                self._stage(_scan_of(series))
            except InputInvalid as error:
                self._refuse(name, error)

    def _read_niftis(self, files: list[Named]) -> None:
        first = len(self._found)
        groups: list[str] = []
        for file in files:
            self._note(file.name)
            try:
                self._stage(_scan_of_nifti(file.name, read_nifti(_with_suffix(Path(file.path), self._folder))))
            except InputInvalid as error:
                self._refuse(file.name, error)
            else:
                groups.append(file.group)
        self._join_studies(first, groups)

    def _join_studies(self, first: int, groups: list[str]) -> None:
        """NIfTI names no study: the files of one group are one, and the same files again the same one."""
        for group in set(groups):
            places = [first + place for place, own in enumerate(groups) if own == group]
            study = _nifti_study(group, [self._found[place] for place in places])
            for place in places:
                self._found[place] = replace(self._found[place], study=study)

    def _stage(self, scan: _Scan) -> None:
        place = f"series-{len(self._found)}"
        folder = self._folder / place
        folder.mkdir()
        packed = pack(scan.volume, folder / "artifact")
        stored = folder / "volume.nii.gz"
        write_nifti(scan.volume, stored)
        _copy_originals(scan.originals, folder / "originals")
        self._found.append(_described(scan, folder=place, packed=Packed.of(packed), stored=stored))

    def _refuse(self, name: str, error: InputInvalid) -> None:
        self._refused.append(Refused(filename=name, code=error.code, detail=error.sentence))

    def _gathered(self) -> tuple[Refused, ...]:
        """One entry for all files that are no images: discs come with viewers of hundreds of files."""
        others = [entry for entry in self._refused if entry.code == NOT_AN_IMAGE][1:]
        if not others:
            return tuple(self._refused)
        counted = f" The same holds for {len(others)} more, such as {PurePosixPath(others[0].filename).name}."
        first = next(entry for entry in self._refused if entry.code == NOT_AN_IMAGE)
        kept = [entry for entry in self._refused if entry.code != NOT_AN_IMAGE]
        return (*kept, replace(first, detail=first.detail + counted))

    def _note(self, name: str) -> None:
        """Write down what is in hand, before it is opened: over the name before, which is quicker than a new file."""
        encoded = name.encode(errors="replace")
        os.pwrite(self._in_hand.fileno(), encoded, 0)
        os.ftruncate(self._in_hand.fileno(), len(encoded))


def content_digest(volume: Volume) -> str:
    """A digest of voxels and place in space (to 0.1 micrometre), whatever the file around them."""
    digest = hashlib.sha256(repr((volume.voxels.shape, volume.voxels.dtype.str)).encode())
    digest.update((np.round(volume.affine, 4) + 0.0).astype("<f8").tobytes())
    digest.update(np.ascontiguousarray(volume.voxels).data)
    return digest.hexdigest()


def _scan_of(series: dicom.DicomSeries) -> _Scan:
    facts = series.facts
    return _Scan(
        study=FoundStudy(
            uid=facts.study_uid,
            source="dicom",
            patient_name=facts.patient_name,
            patient_id=facts.patient_id,
            date=facts.study_date,
            description=facts.study_description,
            accession=facts.accession,
            birth_date=facts.birth_date,
        ),
        name=series.instances[0].name,
        uid=facts.series_uid,
        volume=dicom.load_volume(series),
        scan=facts.scan,
        part=series.part,
        number=facts.number,
        description=facts.description,
        modality=facts.modality,
        frame_of_reference_uid=facts.frame_of_reference_uid,
        originals=tuple(instance.path for instance in series.instances),
    )


def _described(scan: _Scan, *, folder: str, packed: Packed, stored: Path) -> FoundSeries:
    content = stored.read_bytes()
    seen = fingerprint(scan.volume)
    judged = judge(scan.scan, scan.description if scan.scan is None else "", seen)
    return FoundSeries(
        study=scan.study,
        name=scan.name,
        folder=folder,
        uid=scan.uid,
        part=scan.part,
        number=scan.number,
        description=scan.description,
        modality=scan.modality,
        sequence=judged.sequence,
        sequence_confidence=judged.confidence,
        sequence_source=judged.source,
        sequence_reason=judged.reason,
        scan=asdict(scan.scan) if scan.scan is not None else {},
        fingerprint=seen,
        grid=PlacedGrid.of(scan.volume.grid),
        spacing_mm=scan.volume.grid.spacing_mm,
        frame_of_reference_uid=scan.frame_of_reference_uid,
        content_sha256=content_digest(scan.volume),
        volume_size=len(content),
        volume_sha256=hashlib.sha256(content).hexdigest(),
        artifact=packed,
    )


def _scan_of_nifti(name: str, volume: Volume) -> _Scan:
    base, plain = PurePosixPath(name).name, _plain(volume)
    return _Scan(
        study=FoundStudy(uid="", source="nifti"),
        name=name,
        uid=uid_from("nifti-series", base, content_digest(plain)),
        volume=plain,
        description=base,
    )


def _nifti_study(group: str, members: list[FoundSeries]) -> FoundStudy:
    parents = {PurePosixPath(member.name).parent.name for member in members}
    folder = PurePosixPath(group).name or (parents.pop() if len(parents) == 1 else "")
    return FoundStudy(
        uid=uid_from("nifti-study", *sorted(member.uid for member in members)),
        source="nifti",
        description=folder or ", ".join(sorted(member.description for member in members)),
    )


def _plain(volume: Volume) -> Volume:
    """The volume with a voxel type that every viewer knows: 8 or 16 bit integers as they are, all else float32."""
    kept = volume.voxels.dtype.kind in "iu" and volume.voxels.dtype.itemsize <= 2
    if kept:
        return volume
    with np.errstate(over="ignore"):  # what overflows is infinite then, and refused as such
        return Volume(voxels=volume.voxels.astype(np.float32), affine=volume.affine)


def _with_suffix(path: Path, folder: Path) -> Path:
    """The file under a name that says whether it is gzipped, as nibabel wants to be told."""
    with path.open("rb") as source:
        start = source.read(348)
    if start[:2] == b"\x1f\x8b":
        suffix = ".nii.gz"
    elif start[344:348] == b"n+1\x00" or start[4:8] == b"n+2\x00":
        suffix = ".nii"
    else:
        raise InputInvalid(NOT_AN_IMAGE, "It is neither a DICOM nor a NIfTI file.")
    named = folder / f"nifti-{len(list(folder.iterdir()))}{suffix}"
    named.symlink_to(path.resolve())
    return named


def _copy_originals(files: tuple[Path, ...], into: Path) -> None:
    """Copy DICOM files under numbers."""
    if not files:
        return
    into.mkdir()
    for place, file in enumerate(files):
        copy_file(file, into / f"{place:05d}.dcm")


def _aside_of(entry: dicom.Refusal) -> SetAside:
    return SetAside(
        study_uid=entry.study_uid,
        filename=entry.name,
        code=entry.code,
        detail=entry.sentence,
        files=1 + len(entry.others),
    )
