"""DICOM in: files sorted into series, series read as volumes, sequences recognised. No network, no patient database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inference.contract import Volume
from inference.dicom.facts import ScanFacts, SeriesFacts
from inference.dicom.headers import is_dicom, read_dataset
from inference.dicom.recognise import from_file_name, recognise
from inference.dicom.series import DicomSeries, Refusal, Sorted, sort_files
from inference.dicom.voxels import load_volume
from inference.errors import InputInvalid

__all__ = [
    "DicomSeries",
    "Refusal",
    "ScanFacts",
    "SeriesFacts",
    "Sorted",
    "from_file_name",
    "is_dicom",
    "load_series",
    "load_volume",
    "read_dataset",
    "read_folder",
    "recognise",
    "sort_files",
]


def read_folder(folder: Path) -> list[DicomSeries]:
    """All volumes in the DICOM files below `folder`; other files are passed over.

    Raises:
        InputInvalid: not_found, or the reason why no file became a volume.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return list(_sorted_or_refused([path for path in paths if is_dicom(path)], folder.name))


def load_series(paths: Iterable[Path]) -> tuple[Volume, SeriesFacts]:
    """The one volume that the files (or all files below a folder) make up, in the stored layout, and its facts.

    Raises:
        InputInvalid: not_found, several_series, or why the files are no volume.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    series = _sorted_or_refused([file for file in files if file.is_file() and is_dicom(file)], "The input")
    if len(series) > 1:
        raise InputInvalid("several_series", "The files belong to several series; give one at a time.")
    return load_volume(series[0]), series[0].facts


def _sorted_or_refused(paths: list[Path], subject: str) -> tuple[DicomSeries, ...]:
    if not paths:
        raise InputInvalid("not_found", "There are no DICOM files.", subject=subject)
    found = sort_files({path: path.name for path in paths})
    if not found.series:
        first = (*found.refused, *found.aside)[0]
        raise InputInvalid(first.code, first.sentence, subject=first.name)
    return found.series
