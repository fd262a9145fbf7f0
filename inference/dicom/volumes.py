"""Parallel slices split into volumes, and a volume's slices checked: nothing missing, doubled, uneven or sheared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Several

import numpy as np
import numpy.typing as npt

from inference.dicom.planes import Plane
from inference.errors import InputInvalid

SAME_PLACE_MM = 0.01
_EVEN, _EVEN_MM = 0.01, 0.02
"""Spacing may differ by one per cent, as highdicom allows, or by what writers round away."""


def volumes_of(group: list[Plane]) -> list[list[Plane]]:
    """Parallel slices as volumes that have one slice a position: by echo, b-value, time point and the like.

    Raises:
        InputInvalid: repeated_positions, when nothing tells the slices at one position apart.
    """
    if not has_repeats(group):
        return [group]
    for is_whole in (True, False):  # what gives whole volumes counts before what gives parts of them
        for keyword in dict.fromkeys(name for plane in group for name, _ in plane.kind):
            parts = _split(group, keyword)
            if _is_better(parts, group, is_whole=is_whole):
                return [volume for part in parts for volume in volumes_of(part)]
    one, other = _at_one_place(group)
    raise InputInvalid(
        "repeated_positions", f"It lies at the same position as {other.name}, and nothing tells the two apart."
    ).about(one.instance.name)


def has_repeats(group: Several[Plane]) -> bool:
    """Whether two slices lie at one position."""
    return bool((np.diff(_distances(group)) < SAME_PLACE_MM).any())


def check_stack(planes: Several[Plane]) -> None:
    """Refuse slices, sorted along their normal, that do not make a box.

    Raises:
        InputInvalid: uneven_slices, which names the files beside the gap; sheared_slices.
    """
    distances = np.array([plane.distance for plane in planes])
    gaps = np.diff(distances)
    usual = float(np.median(gaps))
    allowed = max(_EVEN * usual, _EVEN_MM)
    uneven = np.flatnonzero(np.abs(gaps - usual) > allowed)
    if uneven.size:
        place = int(uneven[0])
        raise InputInvalid(
            "uneven_slices",
            f"The slices of its series are {usual:.2f} mm apart, but {gaps[place]:.2f} mm between "
            f"{planes[place].name} and {planes[place + 1].name}: a slice may be missing.",
        )
    _check_upright(planes, distances, allowed=allowed)


def stack_affine(planes: Several[Plane]) -> npt.NDArray[np.float64]:
    """4x4: (slice, row, column) of slices sorted along their normal to LPS+ mm."""
    first, last = planes[0], planes[-1]
    between_rows, between_columns = first.spacing_mm
    orientation = np.asarray(first.orientation)
    affine = np.eye(4)
    affine[:3, 0] = first.normal * (last.distance - first.distance) / (len(planes) - 1)
    affine[:3, 1] = orientation[3:] * between_rows
    affine[:3, 2] = orientation[:3] * between_columns
    affine[:3, 3] = first.position
    return affine


def _check_upright(planes: Several[Plane], distances: npt.NDArray[np.float64], *, allowed: float) -> None:
    """Each slice straight above the first: a tilted gantry shears the stack, and no box holds it."""
    first = planes[0]
    expected = first.position + np.outer(distances - distances[0], first.normal)
    aside = np.linalg.norm(np.array([plane.position for plane in planes]) - expected, axis=1)
    # Rounded directions add up along the stack: a third of a degree, as between orientations.
    too_far = np.flatnonzero(aside > allowed + 5e-3 * (distances - distances[0]))
    if too_far.size:
        place = int(too_far[0])
        raise InputInvalid(
            "sheared_slices",
            f"{planes[place].name} lies {aside[place]:.2f} mm beside the stack that begins with {first.name}: its "
            f"slices are shifted against each other, as by a tilted gantry.",
        )


def _distances(group: Several[Plane]) -> npt.NDArray[np.float64]:
    return np.sort([plane.distance for plane in group])


def _positions(group: Several[Plane]) -> int:
    return 1 + int((np.diff(_distances(group)) >= SAME_PLACE_MM).sum())


def _split(group: list[Plane], keyword: str) -> list[list[Plane]]:
    parts: dict[object, list[Plane]] = defaultdict(list)
    for plane in group:
        parts[next((value for name, value in plane.kind if name == keyword), None)].append(plane)
    return list(parts.values())


def _is_better(parts: list[list[Plane]], group: list[Plane], *, is_whole: bool) -> bool:
    """Whether each part covers the positions of the whole, or more than half of them where slices are missing."""
    if len(parts) < 2:
        return False
    positions = _positions(group)
    needed = positions if is_whole else positions / 2
    return all(_positions(part) >= needed and len(part) < len(group) for part in parts)


def _at_one_place(group: list[Plane]) -> tuple[Plane, Plane]:
    ordered = sorted(group, key=lambda plane: plane.distance)
    place = int(np.argmin(np.diff([plane.distance for plane in ordered])))
    return ordered[place + 1], ordered[place]
