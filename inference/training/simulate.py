"""Patients that never were: four MRI sequences of one head with a tumour whose every voxel is known.

A head (`Anatomy`) is turned, warped and pushed aside by the tumour, painted with random but plausible contrast,
given vessels and small white matter lesions as every real head has them, and scanned with bias, blur and noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.contract import Grid, Label, Sequence, Volume
from inference.training.anatomy import Anatomy, mni_anatomy
from inference.training.contrast import TumourLook, acquire, scanner_traits, tissue_levels, tumour_looks
from inference.training.fields import Field, smooth_noise, tubes, world_points
from inference.training.skull import add_skull
from inference.training.tumour import CSF, GREY, WHITE, Compartments, Kind, TumourPlan, grow, plan_tumour

__all__ = ["Anatomy", "Kind", "SimulatedPatient", "TumourPlan", "mni_anatomy", "simulate_patient"]

ENHANCING_VESSEL = 1.6  # brightness on T1CE beside white matter; vessels range about it


@dataclass(frozen=True)
class SimulatedPatient:
    """`volumes`: float32 (X, Y, Z) on `grid` (RAS+), 0 outside the brain; `truth`: uint8 (X, Y, Z) of `Label`."""

    volumes: Mapping[Sequence, Volume]
    truth: npt.NDArray[np.uint8]
    grid: Grid


@dataclass(frozen=True)
class Head:
    """An anatomy as it lies on the patient's grid: tissues (3, X, Y, Z), the rest (X, Y, Z)."""

    tissues: Field
    texture: Field
    scans: Mapping[Sequence, Field]
    labels: npt.NDArray[np.uint8]
    brain: Field


def simulate_patient(
    rng: np.random.Generator,
    *,
    anatomy: Anatomy,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    shape: tuple[int, int, int] | None = None,
    kinds: Many[Kind] | None = None,
    variety: float = 1.0,
    is_stripped: bool = True,
) -> SimulatedPatient:
    """Make one patient. The same generator state gives the same patient.

    `shape` defaults to what holds the head. `kinds` names the tumours to grow; None leaves it to chance, an empty
    list makes a healthy head. `variety` scales pose, warp, bias and noise: 1 for training, less for a calm picture.
    `is_stripped`: False leaves a skull around the brain.
    """
    margin_mm = 8.0 if is_stripped else 22.0
    grid = _grid_around(anatomy, spacing_mm=spacing_mm, shape=shape, margin_mm=margin_mm)
    points = _posed_points(rng, grid, anatomy=anatomy, variety=variety)
    plans = _plans(rng, points, anatomy=anatomy, grid=grid, kinds=kinds)
    head = _sample(rng, _push_aside(rng, points, plans=plans, grid=grid), anatomy=anatomy)
    tumours = [grow(rng, plan, tissues=head.tissues, grid=grid) for plan in plans]
    levels = _levels(rng, head, variety=variety)
    ideal = _paint(rng, head, levels=levels, grid=grid)
    truth = head.labels.copy()
    for plan, tumour in zip(plans, tumours, strict=True):
        csf = {sequence: float(values[CSF]) for sequence, values in levels.items()}
        looks = tumour_looks(rng, csf=csf, is_dull=plan.kind is Kind.DULL)
        _add_tumour(rng, ideal, tumour=tumour, looks=looks, grid=grid)
        truth = _merged(truth, tumour.labels)
    shown = head.brain
    if is_stripped:
        shown = _fray(rng, ideal, brain=head.brain, variety=variety)
    else:
        csf = {sequence: float(values[CSF]) for sequence, values in levels.items()}
        shown = add_skull(rng, ideal, brain=head.brain, csf=csf, grid=grid)
    volumes = _acquired(rng, ideal, shown=shown, severity=variety * (0.5 if anatomy.scans else 1.0), grid=grid)
    return SimulatedPatient(volumes, np.where(head.brain > 0, truth, 0).astype(np.uint8), grid)


def _fray(rng: np.random.Generator, images: dict[Sequence, Field], *, brain: Field, variety: float) -> Field:
    """Leave a dark edge of bone and air around the brain, as much stripping does; returns what is shown.

    It widens the spread that a z-score divides by, so tissues lie closer together than in a clean cut.
    """
    if rng.uniform() > 0.5 * variety:
        return brain
    shown = ndimage.gaussian_filter(brain, 1.0) > float(rng.uniform(0.08, 0.35))
    for sequence, image in images.items():
        edge = float(rng.uniform(0.02, 0.4)) * (1.0 + 0.3 * rng.standard_normal(image.shape, dtype=np.float32))
        images[sequence] = np.where(brain > 0, image, np.maximum(edge, 0.01) * shown).astype(np.float32)
    return np.asarray(shown, np.float32)


def _acquired(
    rng: np.random.Generator, ideal: Mapping[Sequence, Field], *, shown: Field, severity: float, grid: Grid
) -> dict[Sequence, Volume]:
    """Scan every sequence with a scanner's traits of its own; clinical studies have thick slices in all of them."""
    is_thick = rng.uniform() < 0.2 * severity
    volumes: dict[Sequence, Volume] = {}
    for sequence, image in ideal.items():
        traits = scanner_traits(rng, severity=severity, is_thick=is_thick)
        volumes[sequence] = Volume(acquire(rng, image, brain=shown, traits=traits, grid=grid), grid.affine)
    return volumes


def _grid_around(
    anatomy: Anatomy,
    *,
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int, int] | None,
    margin_mm: float,
) -> Grid:
    """A grid parallel to the world's axes, centred on the brain, with a margin all around when no shape is given."""
    inside = np.argwhere(anatomy.tissues.sum(0)[::2, ::2, ::2] > 0) * 2.0
    corners = np.stack([inside.min(0), inside.max(0)]) @ anatomy.affine[:3, :3].T + anatomy.affine[:3, 3]
    spacing = np.asarray(spacing_mm)
    count = (
        np.asarray(shape)
        if shape is not None
        else np.ceil((np.ptp(corners, axis=0) + 2 * margin_mm) / spacing).astype(int)
    )
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = corners.mean(0) - spacing * (count - 1) / 2.0
    x, y, z = (int(n) for n in count)
    return Grid((x, y, z), affine)


def _posed_points(rng: np.random.Generator, grid: Grid, *, anatomy: Anatomy, variety: float) -> Field:
    """(3, X, Y, Z) float32: where in the anatomy's world (mm) every voxel of a turned, warped head comes from."""
    angles = np.deg2rad(rng.uniform(-8.0, 8.0, 3)) * variety
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    stretch = np.diag(np.exp(rng.uniform(-0.1, 0.1) * variety + rng.uniform(-0.06, 0.06, 3) * variety))
    mirror = np.diag([-1.0 if rng.uniform() < 0.5 * variety else 1.0, 1.0, 1.0])
    points = world_points(grid)
    centre = points.reshape(3, -1).mean(1)[:, None, None, None]
    shift = (rng.uniform(-3.0, 3.0, 3) * variety)[:, None, None, None]
    posed = np.einsum("ij,jxyz->ixyz", (turn @ stretch @ mirror).astype(np.float32), points - centre, optimize=True)
    warp = [smooth_noise(rng, grid, scale_mm=45.0) + 0.35 * smooth_noise(rng, grid, scale_mm=18.0) for _ in range(3)]
    amplitude = float(rng.uniform(0.5, 2.5)) * variety
    return np.asarray(posed + centre + shift + amplitude * np.stack(warp), np.float32)


def _plans(
    rng: np.random.Generator, points: Field, *, anatomy: Anatomy, grid: Grid, kinds: Many[Kind] | None
) -> list[TumourPlan]:
    """Choose the tumours. Heads that show a real one get another less often, heads without one nearly always."""
    step = 4
    coarse = points[:, ::step, ::step, ::step]
    affine = np.asarray(grid.affine) @ np.diag([step, step, step, 1.0])
    x, y, z = coarse.shape[1:]
    tissues = np.stack([_at(points=coarse, values=part, affine=anatomy.affine) for part in anatomy.tissues])
    wanted: list[Kind | None] = [None] * _tumour_count(rng, anatomy) if kinds is None else [*kinds]
    if len(wanted) > 1 and kinds is None:
        wanted = [Kind.SOLID if rng.uniform() < 0.7 else Kind.RING for _ in wanted]
    return [plan_tumour(rng, tissues=tissues, grid=Grid((x, y, z), affine), kind=kind) for kind in wanted]


def _tumour_count(rng: np.random.Generator, anatomy: Anatomy) -> int:
    if anatomy.labels.any():
        return int(rng.choice([0, 1], p=[0.6, 0.4]))
    return int(rng.choice([0, 1, 2, 3, 4], p=[0.18, 0.67, 0.07, 0.05, 0.03]))


def _push_aside(rng: np.random.Generator, points: Field, *, plans: list[TumourPlan], grid: Grid) -> Field:
    """Mass effect: around each tumour the head is drawn from nearer its centre, so that tissue moves outwards."""
    here = world_points(grid)
    for plan in plans:
        reach = plan.core_mm * float(rng.uniform(1.2, 2.0))
        offset = here - np.asarray(plan.centre_mm, np.float32)[:, None, None, None]
        strength = float(rng.uniform(0.0, 0.5)) * np.exp(-(offset**2).sum(0) / reach**2)
        points = points - strength * offset
    return points


def _at(*, points: Field, values: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], order: int = 1) -> Field:
    """(X, Y, Z) float32: `values` of a grid with this affine, read at world points (3, X, Y, Z) mm."""
    inverse = np.linalg.inv(affine)
    rotation, origin = inverse[:3, :3].astype(np.float32), inverse[:3, 3].astype(np.float32)
    voxels = np.einsum("ij,jxyz->ixyz", rotation, points, optimize=True) + origin[:, None, None, None]
    return np.asarray(ndimage.map_coordinates(values, voxels, order=order, output=np.float32, prefilter=False))


def _sample(rng: np.random.Generator, points: Field, *, anatomy: Anatomy) -> Head:
    """Read the anatomy at the posed points; the edge of the brain is where an imperfect skull-stripping left it."""
    tissues = np.stack([_at(points=points, values=part, affine=anatomy.affine) for part in anatomy.tissues])
    scans = {s: _at(points=points, values=scan, affine=anatomy.affine) for s, scan in anatomy.scans.items()}
    labels = np.zeros(points.shape[1:], np.uint8)
    if anatomy.labels.any():
        labels = _at(points=points, values=anatomy.labels, affine=anatomy.affine, order=0).astype(np.uint8)
    texture = labels.astype(np.float32)
    if anatomy.texture.any():
        texture = _at(points=points, values=anatomy.texture, affine=anatomy.affine)
    covered = np.max(list(scans.values()), axis=0) > 0.05 if scans else tissues.sum(0) > 0.3
    soft = ndimage.gaussian_filter(covered.astype(np.float32), 1.2)
    brain = (soft > rng.uniform(0.42, 0.6)) & (covered if scans else True)
    return Head(tissues, texture, scans, labels, brain.astype(np.float32))


def _levels(rng: np.random.Generator, head: Head, *, variety: float) -> dict[Sequence, Field]:
    """Brightness (grey, white, CSF) per sequence: made up, or measured on real scans and moved a little."""
    levels = tissue_levels(rng)
    for sequence, scan in head.scans.items():
        measured = np.array([np.median(scan[part > 0.8]) for part in head.tissues], np.float32)
        levels[sequence] = measured + rng.uniform(-0.12, 0.12, 3).astype(np.float32) * measured * variety
    return levels


def _paint(
    rng: np.random.Generator, head: Head, *, levels: Mapping[Sequence, Field], grid: Grid
) -> dict[Sequence, Field]:
    """The ideal images of the healthy head, white matter about 1."""
    images: dict[Sequence, Field] = {}
    inner = ndimage.gaussian_filter(head.brain, 6.0 / min(grid.spacing_mm))
    detail = {
        Sequence.T1: rng.uniform(0.5, 1.2),
        Sequence.T1CE: rng.uniform(0.4, 1.1),
        Sequence.T2: -rng.uniform(0.0, 1.5),
        Sequence.FLAIR: rng.uniform(-0.7, 0.7),
    }
    mottle = smooth_noise(rng, grid, scale_mm=float(rng.uniform(6.0, 14.0))) * float(rng.uniform(0.0, 0.05))
    for sequence in Sequence:
        if sequence in head.scans:
            scan = head.scans[sequence]
            measured = np.array([np.median(scan[part > 0.8]) for part in head.tissues], np.float32)
            images[sequence] = scan + np.einsum("k,kxyz->xyz", levels[sequence] - measured, head.tissues)
        else:
            clean = np.einsum("k,kxyz->xyz", levels[sequence], head.tissues)
            images[sequence] = clean + float(detail[sequence]) * head.texture + mottle * head.tissues[:2].sum(0)
    _add_vessels(rng, images, head=head, inner=inner, grid=grid)
    _add_white_matter_lesions(rng, images, head=head, inner=inner, grid=grid)
    return images


def _add_vessels(
    rng: np.random.Generator, images: dict[Sequence, Field], *, head: Head, inner: Field, grid: Grid
) -> None:
    """Enhancing vessels in the sulci, choroid plexus in the ventricles, dura at the edge: bright, yet no tumour."""
    bright = ENHANCING_VESSEL * float(rng.uniform(0.75, 1.5))
    amount = 0.3 if head.scans else 1.0
    pipes = tubes(rng, grid, scale_mm=float(rng.uniform(14.0, 26.0)), radius=float(rng.uniform(0.08, 0.2)))
    vessels = pipes * np.clip(head.tissues[CSF] + 0.5 * head.tissues[GREY], 0, 1) * float(rng.uniform(0.2, 1.0))
    choroid = _bump(smooth_noise(rng, grid, scale_mm=6.0), above=0.8) * (head.tissues[CSF] > 0.6) * (inner > 0.97)
    edge = (inner < rng.uniform(0.5, 0.66)) * _bump(
        smooth_noise(rng, grid, scale_mm=15.0), above=rng.uniform(-0.3, 1.5)
    )
    share = np.clip(vessels + choroid * rng.uniform(0.2, 0.9) + edge * rng.uniform(0.0, 0.6), 0, 1) * amount
    images[Sequence.T1CE] = images[Sequence.T1CE] + share * (bright - images[Sequence.T1CE])


def _add_white_matter_lesions(
    rng: np.random.Generator, images: dict[Sequence, Field], *, head: Head, inner: Field, grid: Grid
) -> None:
    """Bright spots and caps around the ventricles on T2 and FLAIR, of age or inflammation, in every second head."""
    if head.scans or rng.uniform() > 0.5:
        return
    spots = _bump(smooth_noise(rng, grid, scale_mm=float(rng.uniform(5.0, 11.0))), above=float(rng.uniform(1.6, 2.6)))
    ventricles = ndimage.gaussian_filter(head.tissues[CSF] * (inner > 0.97), float(rng.uniform(2.0, 5.0)) / 2.0)
    caps = np.clip(ventricles * 3.0, 0, 1) * _bump(smooth_noise(rng, grid, scale_mm=20.0), above=rng.uniform(-0.5, 1.0))
    share = np.clip(spots * 3.0 + caps, 0, 1) * (head.tissues[WHITE] > 0.5) * (inner > 0.85)
    images[Sequence.FLAIR] = images[Sequence.FLAIR] * (1.0 + share * float(rng.uniform(0.3, 0.9)))
    images[Sequence.T2] = images[Sequence.T2] * (1.0 + share * float(rng.uniform(0.2, 0.8)))
    for sequence in (Sequence.T1, Sequence.T1CE):
        images[sequence] = images[sequence] * (1.0 - share * float(rng.uniform(0.05, 0.3)))


def _bump(values: Field, *, above: float) -> Field:
    return np.asarray(np.clip(values - above, 0.0, 1.0), np.float32)


def _add_tumour(
    rng: np.random.Generator,
    images: dict[Sequence, Field],
    *,
    tumour: Compartments,
    looks: Mapping[Sequence, TumourLook],
    grid: Grid,
) -> None:
    """Blend the compartments into the images; the brain shines through oedema more than through the core."""
    share = tumour.core + tumour.oedema + tumour.enhancing
    mottle = smooth_noise(rng, grid, scale_mm=float(rng.uniform(4.0, 10.0)))
    for sequence, look in looks.items():
        image = images[sequence]
        image = image + tumour.oedema * (1.0 - look.veil) * (look.oedema - image)
        image = image + tumour.core * (1.0 - 0.3 * look.veil) * (look.core - image)
        image = image + tumour.enhancing * (1.0 - 0.3 * look.veil) * (look.enhancing - image)
        images[sequence] = np.asarray(image * (1.0 + float(rng.uniform(0.02, 0.14)) * mottle * share), np.float32)


def _merged(labels: npt.NDArray[np.uint8], more: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Two tumours in one mask: core and enhancement win over oedema."""
    is_stronger = (more > 0) & ((labels == 0) | (labels == Label.OEDEMA))
    return np.where(is_stronger, more, labels).astype(np.uint8)
