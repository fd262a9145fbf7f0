"""Convex hulls of voxels and the longest lines in them, without Qhull: its import costs more than the whole work."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

_HALF_STEPS = 0.5 * np.vstack([np.eye(3), -np.eye(3)])
_ROWS_AT_ONCE = 256


def row_ends(piece: npt.NDArray[np.bool_]) -> Points:
    """(N, 2) the first and the last voxel of every row of a slice (X, Y): its hull is theirs."""
    rows = np.flatnonzero(piece.any(axis=1))
    used = piece[rows]
    first = used.argmax(axis=1)
    last = used.shape[1] - 1 - used[:, ::-1].argmax(axis=1) if used.shape[1] else first
    return np.unique(np.column_stack([np.tile(rows, 2), np.concatenate([first, last])]), axis=0).astype(np.float64)


def vertices(points: Points) -> Points:
    """The corners (M, 2) of the convex hull of (N, 2) sorted points (Andrew's monotone chain)."""
    if len(points) < 3:
        return points
    ordered = [(float(x), float(y)) for x, y in points]
    chains = []
    for way in (ordered, ordered[::-1]):
        chain: list[tuple[float, float]] = []
        for point in way:
            while len(chain) >= 2 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        chains.append(chain[:-1])
    return np.array(chains[0] + chains[1])


def corners(centres: Points) -> Points:
    """Those of (N, 3) voxels that may be corners of their hull in space: each is one in its slice along every axis."""
    left = centres
    for axis in (1, 0):
        left = left[np.lexsort((left[:, 2], left[:, 1 - axis], left[:, axis]))]
        starts = np.flatnonzero(np.diff(left[:, axis], prepend=np.nan) != 0)
        kept = [
            np.insert(vertices(layer[:, [1 - axis, 2]]), axis, layer[0, axis], axis=1)
            for layer in np.split(left, starts[1:])
        ]
        left = np.concatenate(kept)
    return left


def longest_pair(centres: Points, affine: npt.NDArray[np.float64], *, axes: int) -> Points:
    """(2, 3) mm: the two outer faces farthest from each other, of voxels with these `centres` (N, 3) in voxels.

    `axes` 2: only faces within the slice count. Faces lengthen a line by one voxel at most and by a known length at
    least, so that only pairs of centres that are nearly the farthest need to be tried with every face.
    """
    steps = _steps(affine, axes)
    placed = centres @ affine[:3, :3].T + affine[:3, 3]
    edges = 2.0 * np.linalg.norm(steps[:axes], axis=1)
    slack = float(edges.max() - 1.0 / np.sqrt((edges**-2.0).sum()) + 0.05 * edges.max())
    first, second = _far_pairs(placed, slack=slack)
    best, best_mm = np.zeros((2, 3)), -1.0
    for start in steps:
        for end in steps:
            between = placed[second] + end - placed[first] - start
            lengths = np.einsum("ij,ij->i", between, between)
            at = int(lengths.argmax())
            if lengths[at] > best_mm + 1e-9:
                best_mm = float(lengths[at])
                best = np.stack([placed[first[at]] + start, placed[second[at]] + end])
    return best


def perpendicular_chord(centres: Points, affine: npt.NDArray[np.float64], axis: Points) -> Points:
    """(2, 3) mm: the longest line across the hull of one slice's voxels, in its plane and at right angles to `axis`.

    Along the axis the chord's length is concave between corners of the hull, so its longest is at a corner.
    """
    faces = np.unique(np.concatenate([centres + step for step in _HALF_STEPS[[0, 1, 3, 4]]]), axis=0)
    corners = vertices(faces[:, :2])
    flat = np.column_stack([corners, np.full(len(corners), centres[0, 2])])
    placed = flat @ affine[:3, :3].T + affine[:3, 3]
    along = (axis[1] - axis[0]) / max(float(np.linalg.norm(axis[1] - axis[0])), 1e-12)
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    across = np.cross(normal / np.linalg.norm(normal), along)
    t, s = (placed - axis[0]) @ along, (placed - axis[0]) @ across
    best, best_mm = np.stack([axis[0], axis[0]]), -1.0
    for place in t:
        low, high = _crossing(t, s, float(place))
        if high - low > best_mm + 1e-9:
            best_mm = high - low
            best = axis[0] + place * along + np.outer([low, high], across)
    return best


def _crossing(t: Points, s: Points, place: float) -> tuple[float, float]:
    """Where the line t = `place` crosses the polygon of corners (t, s)."""
    t_next, s_next = np.roll(t, -1), np.roll(s, -1)
    spans = (np.minimum(t, t_next) <= place + 1e-9) & (np.maximum(t, t_next) >= place - 1e-9)
    run = np.where(np.abs(t_next - t) < 1e-9, 1.0, t_next - t)
    share = np.clip((place - t) / run, 0.0, 1.0)
    crossed = np.concatenate([(s + share * (s_next - s))[spans], s[np.abs(t - place) < 1e-9]])
    return float(crossed.min()), float(crossed.max())


def _far_pairs(placed: Points, *, slack: float) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """The pairs whose distance is at most `slack` below the farthest."""
    centred = placed - placed.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    farthest, found = 0.0, []
    for start in range(0, len(placed), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        block = squares[rows, None] + squares[start:] - 2.0 * centred[rows] @ centred[start:].T
        farthest = max(farthest, float(block.max()))
        least = max(0.0, farthest**0.5 - slack) ** 2
        one, other = np.nonzero(block >= least)
        found.append((one + start, other + start, block[one, other]))
    one, other, squared = (np.concatenate(column) for column in zip(*found, strict=True))
    is_far = squared >= max(0.0, farthest**0.5 - slack) ** 2 - 1e-9
    return one[is_far], other[is_far]


def _steps(affine: npt.NDArray[np.float64], axes: int) -> Points:
    kept = [index for index in range(6) if index % 3 < axes]
    return np.asarray(_HALF_STEPS[kept] @ affine[:3, :3].T)


def _turn(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> float:
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0])
