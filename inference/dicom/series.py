"""Files sorted into series, and series into volumes: one orientation, one kind of image, evenly spaced slices.

Refusal codes beside those of headers: too_few_slices, repeated_positions, uneven_slices, duplicate_instance, too_large.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path

import numpy as np

from inference.dicom.facts import SeriesFacts
from inference.dicom.headers import Instance, read_instance, read_pixels
from inference.errors import InputInvalid

MIN_SLICES = 4
"""Three slices are a scout, and no tumour can be measured on them."""
MAX_SERIES_BYTES = 256 << 20
"""Decoded voxels of one series: 512 x 512 x 512 of 16 bit, 400 x 400 x 400 of 32 bit."""
_SAME_PLACE_MM = 0.01
_NAMED = 5


@dataclass(frozen=True)
class DicomSeries:
    """The files of one volume, sorted along the slice normal. `part` counts the volumes of one SeriesInstanceUID."""

    facts: SeriesFacts
    part: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Refusal:
    """A file that became no volume, and `others` that did not for the same reason."""

    name: str
    code: str
    sentence: str
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.others:
            return self.sentence
        named = ", ".join(self.others[:_NAMED])
        rest = f" and {len(self.others) - _NAMED} more" if len(self.others) > _NAMED else ""
        return f"{self.sentence} The same holds for {named}{rest}."


@dataclass(frozen=True)
class Sorted:
    """What a heap of files turned out to be."""

    series: tuple[DicomSeries, ...]
    refused: tuple[Refusal, ...]


def sort_files(files: Mapping[Path, str], *, on_file: Callable[[str], None] = lambda _name: None) -> Sorted:
    """Sort DICOM files (`path: name the person knows it by`) into volumes, saying of each other file why not.

    `on_file` hears each name before the file is opened, so that somebody knows which one a dying parser had in hand.
    """
    by_uid: dict[str, list[Instance]] = defaultdict(list)
    refused: list[Refusal] = []
    for path, name in files.items():
        on_file(name)
        try:
            instance = read_instance(path, name=name)
        except InputInvalid as error:
            refused.append(Refusal(name=name, code=error.code, sentence=error.sentence))
        else:
            by_uid[instance.facts.series_uid].append(instance)
    volumes: list[DicomSeries] = []
    for instances in by_uid.values():
        parts, unfit = _parts_of(instances)
        volumes.extend(parts)
        refused.extend(unfit)
    return Sorted(series=tuple(volumes), refused=_gathered(refused))


def _parts_of(instances: list[Instance]) -> tuple[list[DicomSeries], list[Refusal]]:
    """The volumes of one SeriesInstanceUID, largest first, and what is none."""
    refused: list[Refusal] = []
    fit: list[tuple[Instance, ...]] = []
    try:
        groups = _by_geometry(_without_copies(instances))
    except InputInvalid as error:
        return [], [_refusal(instances, error)]
    for group in groups:
        try:
            fit.extend(_checked(part) for part in _by_kind(group))
        except InputInvalid as error:
            refused.append(_refusal(group, error))
    fit.sort(key=_rank)
    return [DicomSeries(facts=part[0].facts, part=place, instances=part) for place, part in enumerate(fit)], refused


def _rank(part: tuple[Instance, ...]) -> tuple[int, str]:
    """Largest first, and the same order whatever the order of the files: a part's number is part of its identity."""
    return -len(part), repr((part[0].kind, part[0].orientation, part[0].position.tolist()))


def _without_copies(instances: list[Instance]) -> list[Instance]:
    kept: dict[str, Instance] = {}
    for instance in instances:
        other = kept.setdefault(instance.sop_uid, instance)
        if other is not instance and not _is_same_image(other, instance):
            raise InputInvalid(
                "duplicate_instance", f"It has the SOPInstanceUID of {other.name}, but is not the same image."
            ).about(instance.name)
    return list(kept.values())


def _by_geometry(instances: list[Instance]) -> list[list[Instance]]:
    """Split by orientation (to a third of a degree), matrix and pixel size."""
    groups: list[list[Instance]] = []
    for instance in instances:
        for group in groups:
            if _is_parallel(group[0], instance):
                group.append(instance)
                break
        else:
            groups.append([instance])
    return groups


def _is_parallel(one: Instance, other: Instance) -> bool:
    return (
        one.shape == other.shape
        and np.allclose(one.spacing_mm, other.spacing_mm, atol=1e-3)
        and np.allclose(one.orientation, other.orientation, atol=5e-3)
    )


def _by_kind(group: list[Instance]) -> list[list[Instance]]:
    """Split several volumes at the same place: echoes, magnitude and phase, time points."""
    if not _has_repeats(group):
        return [group]
    for place in range(len(group[0].kind)):
        parts = _split(group, place)
        if len(parts) > 1 and not any(_has_repeats(part) for part in parts):
            return parts
    raise InputInvalid(
        "repeated_positions", "Several of its images lie at the same position, and nothing tells them apart."
    )


def _checked(part: list[Instance]) -> tuple[Instance, ...]:
    ordered = sorted(part, key=_distance)
    first = ordered[0]
    if len(ordered) < MIN_SLICES:
        raise InputInvalid(
            "too_few_slices",
            f"Its series has too few slices of this orientation: {len(ordered)}; at least {MIN_SLICES} are needed.",
        )
    if first.shape[0] * first.shape[1] * len(ordered) * max(one.bytes_per_voxel for one in ordered) > MAX_SERIES_BYTES:
        raise InputInvalid("too_large", "Its series is larger than can be read.")
    gaps = np.diff([_distance(instance) for instance in ordered])
    usual = float(np.median(gaps))
    # highdicom judges by one per cent of the spacing; the same here, to be able to say where.
    uneven = np.flatnonzero(np.abs(gaps - usual) > max(0.01 * usual, _SAME_PLACE_MM))
    if uneven.size:
        place = int(uneven[0])
        raise InputInvalid(
            "uneven_slices",
            f"The slices of its series are {usual:.2f} mm apart, but {gaps[place]:.2f} mm between "
            f"{ordered[place].name} and {ordered[place + 1].name}: a slice may be missing.",
        )
    return tuple(ordered)


def _distance(instance: Instance) -> float:
    return float(instance.normal @ instance.position)


def _has_repeats(group: list[Instance]) -> bool:
    distances = np.sort([_distance(instance) for instance in group])
    return bool((np.diff(distances) < _SAME_PLACE_MM).any())


def _split(group: list[Instance], place: int) -> list[list[Instance]]:
    parts: dict[object, list[Instance]] = defaultdict(list)
    for instance in group:
        parts[instance.kind[place]].append(instance)
    return list(parts.values())


def _refusal(group: list[Instance], error: InputInvalid) -> Refusal:
    name = error.subject or group[0].name
    others = tuple(instance.name for instance in group if instance.name != name)
    return Refusal(name=name, code=error.code, sentence=error.sentence, others=others)


def _gathered(refused: list[Refusal]) -> tuple[Refusal, ...]:
    """One entry for all files that were refused one by one with the same sentence."""
    first: dict[tuple[str, str], Refusal] = {}
    for entry in refused:
        key = (entry.code, entry.sentence)
        known = first.get(key)
        others = () if known is None else (*known.others, entry.name, *entry.others)
        first[key] = entry if known is None else replace(known, others=others)
    return tuple(first.values())


def _is_same_image(one: Instance, other: Instance) -> bool:
    """Whether two files hold the same pixels at the same place, whatever their compression."""
    if _digest(one.path) == _digest(other.path):
        return True
    is_same_place = _is_parallel(one, other) and np.allclose(one.position, other.position, atol=_SAME_PLACE_MM)
    return is_same_place and np.array_equal(read_pixels(one), read_pixels(other))


def _digest(path: Path) -> bytes:
    with path.open("rb") as source:
        return file_digest(source, "sha256").digest()
