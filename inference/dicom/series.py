"""Files sorted into series, and series into volumes: one orientation, one kind of image, evenly spaced slices.

Refusal codes beside those of headers: too_few_slices, repeated_positions, missing_slices, uneven_slices,
sheared_slices, duplicate_instance, too_large. Where slices lie decides; names and InstanceNumber never do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path

import numpy as np

from inference.dicom.aside import NotAScan, is_called_localizer, localizer
from inference.dicom.facts import SeriesFacts
from inference.dicom.headers import read_planes
from inference.dicom.pixels import read_frames
from inference.dicom.planes import Instance, Plane
from inference.dicom.volumes import SAME_PLACE_MM, check_stack, volumes_of
from inference.errors import InputInvalid

MIN_SLICES = 4
"""Three slices are a scout, and no tumour can be measured on them."""
MAX_VOLUMES = 20
"""More at one place are functional, perfusion or diffusion imaging over time or direction."""
MAX_SERIES_BYTES = 256 << 20
"""Decoded voxels of one series: 512 x 512 x 512 of 16 bit, 400 x 400 x 400 of 32 bit."""
_SCOUT_ORIENTATIONS = 3
_NAMED = 5


@dataclass(frozen=True)
class DicomSeries:
    """The slices of one volume along their normal. `part` counts the volumes of one SeriesInstanceUID."""

    facts: SeriesFacts
    part: int
    planes: tuple[Plane, ...]

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Its files, each once, in the order of the slices."""
        return tuple(dict.fromkeys(plane.instance for plane in self.planes))


@dataclass(frozen=True)
class Refusal:
    """A file that became no volume, and `others` that did not for the same reason."""

    name: str
    code: str
    sentence: str
    others: tuple[str, ...] = ()
    study_uid: str = ""

    def __str__(self) -> str:
        if not self.others:
            return self.sentence
        named = ", ".join(self.others[:_NAMED])
        rest = f" and {len(self.others) - _NAMED} more" if len(self.others) > _NAMED else ""
        return f"{self.sentence} The same holds for {named}{rest}."


@dataclass(frozen=True)
class Sorted:
    """What a heap of files turned out to be: volumes, sound objects that are no scans, and what is not sound."""

    series: tuple[DicomSeries, ...]
    refused: tuple[Refusal, ...]
    aside: tuple[Refusal, ...] = ()


@dataclass
class _Heap:
    """What has been sorted so far."""

    volumes: list[DicomSeries]
    refused: list[Refusal]
    aside: list[Refusal]

    def put_by(self, planes: list[Plane], error: InputInvalid) -> None:
        names = list(dict.fromkeys(plane.instance.name for plane in planes))
        name = error.subject or names[0]
        others = tuple(other for other in names if other != name)
        kept = self.aside if isinstance(error, NotAScan) else self.refused
        kept.append(Refusal(name, error.code, error.sentence, others, planes[0].facts.study_uid))


def sort_files(files: Mapping[Path, str], *, on_file: Callable[[str], None] = lambda _name: None) -> Sorted:
    """Sort DICOM files (`path: name the person knows it by`) into volumes, saying of each other file why not.

    `on_file` hears each name before the file is opened, so that somebody knows which one a dying parser had in hand.
    """
    by_uid: dict[str, list[Plane]] = defaultdict(list)
    heap = _Heap([], [], [])
    for path, name in files.items():
        on_file(name)
        try:
            planes = read_planes(path, name=name)
        except NotAScan as error:
            heap.aside.append(Refusal(name, error.code, error.sentence, study_uid=error.study_uid))
        except InputInvalid as error:
            heap.refused.append(Refusal(name, error.code, error.sentence))
        else:
            by_uid[planes[0].instance.series_uid].extend(planes)
    for same in by_uid.values():
        _sort_series(heap, same)
    return Sorted(series=tuple(heap.volumes), refused=_gathered(heap.refused), aside=_gathered(heap.aside))


def _sort_series(heap: _Heap, planes: list[Plane]) -> None:
    """The volumes of one SeriesInstanceUID, largest first, and what is none."""
    fit: list[tuple[Plane, ...]] = []
    try:
        groups = _by_geometry(_without_copies(planes))
    except InputInvalid as error:
        heap.put_by(planes, error)
        return
    for group in groups:
        try:
            parts = _parts(group, orientations=len(groups))
        except InputInvalid as error:
            heap.put_by(group, error)
            continue
        most = max(len(part) for part in parts)
        for part in parts:
            try:
                fit.append(_checked(part, most=most))
            except InputInvalid as error:
                heap.put_by(part, error)
    fit.sort(key=_rank)
    heap.volumes.extend(DicomSeries(part[0].facts, place, part) for place, part in enumerate(fit))


def _parts(group: list[Plane], *, orientations: int) -> list[list[Plane]]:
    is_scout = orientations >= _SCOUT_ORIENTATIONS or is_called_localizer(group[0].facts.scan.descriptions)
    if len(group) < MIN_SLICES and is_scout:
        raise localizer()
    parts = volumes_of(group)
    if len(parts) > MAX_VOLUMES:
        raise NotAScan(
            "time_series", f"It holds {len(parts)} volumes of one place (functional, perfusion or diffusion imaging)."
        )
    return parts


def _rank(part: tuple[Plane, ...]) -> tuple[int, str, str]:
    """Largest first, and the same order whatever the order of the files: a part's number is part of its identity."""
    numbers = [
        f"{value:020.6f}" if isinstance(value, float) and value >= 0 else repr(value) for _, value in part[0].kind
    ]
    return -len(part), "|".join(numbers), repr((part[0].orientation, part[0].position.tolist()))


def _without_copies(planes: list[Plane]) -> list[Plane]:
    kept: dict[str, Plane] = {}
    unique: list[Plane] = []
    for plane in planes:
        other = kept.setdefault(plane.instance.sop_uid, plane)
        if other.instance is plane.instance:
            unique.append(plane)
        elif not _is_same_image(other, plane):
            raise InputInvalid(
                "duplicate_instance", f"It has the SOPInstanceUID of {other.instance.name}, but is not the same image."
            ).about(plane.instance.name)
    return unique


def _by_geometry(planes: list[Plane]) -> list[list[Plane]]:
    """Split by orientation (to a third of a degree), matrix and pixel size."""
    groups: list[list[Plane]] = []
    for plane in planes:
        for group in groups:
            if _is_parallel(group[0], plane):
                group.append(plane)
                break
        else:
            groups.append([plane])
    return groups


def _is_parallel(one: Plane, other: Plane) -> bool:
    if one.shape != other.shape:
        return False
    if one.orientation == other.orientation and one.spacing_mm == other.spacing_mm:
        return True
    return np.allclose(one.spacing_mm, other.spacing_mm, atol=1e-3) and np.allclose(
        one.orientation, other.orientation, atol=5e-3
    )


def _checked(part: list[Plane], *, most: int) -> tuple[Plane, ...]:
    ordered = tuple(sorted(part, key=lambda plane: plane.distance))
    if len(ordered) < MIN_SLICES:
        raise InputInvalid(
            "too_few_slices",
            f"Its series has too few slices of this orientation: {len(ordered)}; at least {MIN_SLICES} are needed.",
        )
    if _voxel_bytes(ordered) > MAX_SERIES_BYTES:
        raise InputInvalid("too_large", "Its series is larger than can be read.")
    check_stack(ordered)
    if len(ordered) < most:
        raise InputInvalid(
            "missing_slices",
            f"It has {len(ordered)} slices where another volume of its series has {most}: slices are missing.",
        )
    return ordered


def _voxel_bytes(planes: tuple[Plane, ...]) -> int:
    bytes_each = 4 if any(plane.is_scaled for plane in planes) else 2
    whole = planes[0].shape[0] * planes[0].shape[1] * len(planes) * bytes_each
    return max(whole, *(plane.instance.stored.frame_bytes for plane in planes))


def _gathered(refused: list[Refusal]) -> tuple[Refusal, ...]:
    """One entry for all files of a study that were refused one by one with the same sentence."""
    first: dict[tuple[str, str, str], Refusal] = {}
    others: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for entry in refused:
        key = (entry.code, entry.sentence, entry.study_uid)
        if key in first:
            others[key].append(entry.name)
        first.setdefault(key, entry)
        others[key].extend(entry.others)
    return tuple(replace(entry, others=tuple(others[key])) for key, entry in first.items())


def _is_same_image(one: Plane, other: Plane) -> bool:
    """Whether two files hold the same pixels at the same place, whatever their compression."""
    if _digest(one.instance.path) == _digest(other.instance.path):
        return True
    if (one.instance.stored.frames, one.shape) != (other.instance.stored.frames, other.shape):
        return False
    if not (_is_parallel(one, other) and np.allclose(one.position, other.position, atol=SAME_PLACE_MM)):
        return False
    frames = list(range(one.instance.stored.frames))
    pairs = zip(read_frames(one.instance, frames), read_frames(other.instance, frames), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


def _digest(path: Path) -> bytes:
    with path.open("rb") as source:
        return file_digest(source, "sha256").digest()
