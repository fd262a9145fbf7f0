"""What stands on the command line: a NIfTI file or a folder of DICOM files, read as one sequence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from inference.contract import Sequence, Volume
from inference.errors import InputInvalid
from inference.volume import read_nifti

_CHUNK_BYTES = 1 << 20
# Below this the header or the file name is a guess, not a contradiction worth a warning.
_SURE = 0.75


@dataclass(frozen=True)
class Source:
    """One sequence as it was given. `originals`: its DICOM files, none for NIfTI; `looks_like`: what it seems to be.

    `contrast` is a sentence if the voxels contradict what was given.
    """

    sequence: Sequence
    volume: Volume
    sha256: str
    originals: tuple[Path, ...] = ()
    looks_like: Sequence | None = None
    contrast: str = ""

    @property
    def doubts(self) -> tuple[str, ...]:
        """A sentence if the header, the file name or the voxels say that this is another sequence."""
        if self.contrast:
            return (self.contrast,)
        if self.looks_like in (None, self.sequence):
            return ()
        return (f"The input given as {self.sequence} looks like {self.looks_like}.",)


def read_source(path: Path, sequence: Sequence) -> Source:
    """Read a NIfTI file, or the one series in a folder of DICOM files (or one DICOM file). Voxels as stored.

    `sha256` is that of the NIfTI file, or of the digests of all DICOM files in sorted order.
    Raises InputInvalid naming the file or the sequence.
    """
    from inference.dicom import is_dicom

    if path.is_dir() or (path.is_file() and is_dicom(path)):
        return _read_dicom(path, sequence)
    return _read_nifti(path, sequence)


def _read_nifti(path: Path, sequence: Sequence) -> Source:
    from inference.dicom import from_file_name

    volume = read_nifti(path)
    return Source(
        sequence,
        volume,
        _digest(path),
        looks_like=_if_sure(*from_file_name(path.name)),
        contrast=_contrast(sequence, volume),
    )


def _read_dicom(path: Path, sequence: Sequence) -> Source:
    from inference.dicom import is_dicom, load_series, recognise

    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    originals = tuple(file for file in files if is_dicom(file))
    try:
        volume, facts = load_series(originals)
    except InputInvalid as error:
        raise error if error.subject else error.about(path.name) from error
    digests = "".join(sorted(_digest(file) for file in originals))
    whole = hashlib.sha256(digests.encode()).hexdigest()
    looks_like = _if_sure(*recognise(facts.scan))
    return Source(sequence, volume, whole, originals, looks_like, _contrast(sequence, volume))


def _contrast(sequence: Sequence, volume: Volume) -> str:
    from inference.dicom.fingerprint import fingerprint
    from inference.dicom.recognise import judge

    return judge(None, sequence.lower(), fingerprint(volume)).reason


def _if_sure(sequence: Sequence | None, confidence: float) -> Sequence | None:
    return sequence if confidence >= _SURE else None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
