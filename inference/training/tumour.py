"""The shape of a simulated tumour: soft compartments, and the labels that follow from them.

Compartments are those of the BraTS labels: necrotic or non-enhancing core, oedema, enhancing tumour. The kinds and
their sizes follow the published descriptions of adult glioma and metastasis (Menze et al., IEEE TMI 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from inference.contract import Grid, Label
from inference.training.fields import Field, smooth_noise, world_points

GREY, WHITE, CSF = 0, 1, 2


class Kind(StrEnum):
    """What grows: each kind has its own make-up of core, rim and oedema."""

    RING = "ring"  # necrotic core, enhancing rim, oedema: glioblastoma
    PATCHY = "patchy"  # enhancement in spots within a solid core
    SOLID = "solid"  # enhancing throughout: small metastasis
    DULL = "dull"  # no enhancement: low-grade glioma


KIND_ODDS: dict[Kind, float] = {Kind.RING: 0.46, Kind.PATCHY: 0.26, Kind.SOLID: 0.14, Kind.DULL: 0.14}


@dataclass(frozen=True)
class TumourPlan:
    """Where one tumour sits and how large it is: `centre_mm` RAS+, `core_mm` and `oedema_mm` mean radii."""

    kind: Kind
    centre_mm: tuple[float, float, float]
    core_mm: float
    oedema_mm: float


@dataclass(frozen=True)
class Compartments:
    """Soft shares, each (X, Y, Z) float32 between 0 and 1, never more than 1 together."""

    core: Field
    oedema: Field
    enhancing: Field

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """(X, Y, Z) uint8 of `Label`: the compartment with the largest share, where tumour outweighs the rest."""
        shares = np.stack([self.core, self.oedema, self.enhancing])
        order = np.array([Label.NECROTIC_CORE, Label.OEDEMA, Label.ENHANCING_TUMOUR], np.uint8)
        return np.where(shares.sum(0) > 0.5, order[shares.argmax(0)], 0).astype(np.uint8)


def plan_tumour(rng: np.random.Generator, *, tissues: Field, grid: Grid, kind: Kind | None = None) -> TumourPlan:
    """Choose kind, place and size; the centre is a voxel with much white matter or the grey matter beside it."""
    chosen = kind if kind is not None else Kind(rng.choice(list(KIND_ODDS), p=list(KIND_ODDS.values())))
    odds = (tissues[WHITE] > 0.4) | ((tissues[GREY] > 0.5) & (rng.uniform(size=grid.shape) < 0.5))
    places = np.argwhere(odds)
    voxel = places[rng.integers(len(places))]
    centre = np.asarray(grid.affine)[:3, :3] @ voxel + np.asarray(grid.affine)[:3, 3]
    smallest, largest = (3.5, 13.0) if chosen is Kind.SOLID else (5.0, 27.0)
    core_mm = smallest + (largest - smallest) * float(rng.uniform()) ** 1.3
    widening = float(rng.uniform(2.0, 26.0)) if rng.uniform() < 0.85 else float(rng.uniform(0.0, 2.0))
    x, y, z = (float(value) for value in centre)
    return TumourPlan(chosen, (x, y, z), core_mm, core_mm + widening)


def grow(rng: np.random.Generator, plan: TumourPlan, *, tissues: Field, grid: Grid) -> Compartments:
    """Grow one tumour in a head: irregular core, rim or spots of enhancement, oedema that follows white matter."""
    brain = tissues.sum(0)
    distance = _stretched_distance(rng, plan, grid=grid)
    lumps = smooth_noise(rng, grid, scale_mm=max(plan.core_mm * 0.9, 6.0))
    ripples = smooth_noise(rng, grid, scale_mm=max(plan.core_mm * 0.35, 4.0))
    roughness = float(rng.uniform(0.08, 0.28))
    depth = (plan.core_mm - distance) + plan.core_mm * roughness * (lumps + 0.4 * ripples)
    core = _soft(depth, width_mm=float(rng.uniform(0.5, 1.5))) * _soft(brain - 0.5, width_mm=0.1)
    core = core * (1.0 - 0.8 * _soft(tissues[CSF] - 0.75, width_mm=0.1) * (depth < plan.core_mm * 0.3))

    fingers = smooth_noise(rng, grid, scale_mm=max(plan.oedema_mm * 0.5, 8.0))
    reach = plan.oedema_mm - distance + plan.oedema_mm * float(rng.uniform(0.1, 0.3)) * fingers
    spared = plan.oedema_mm * (float(rng.uniform(0.2, 0.6)) * tissues[GREY] + 0.9 * tissues[CSF])
    width = float(rng.uniform(0.8, 2.5))
    oedema = _soft(reach - spared, width_mm=width) * _soft(0.5 - tissues[CSF], width_mm=0.1) * (brain > 0.5)

    enhancing = core * _enhancement(rng, plan, depth=depth, grid=grid)
    return Compartments(core=core - enhancing, oedema=(oedema * (1.0 - core)).astype(np.float32), enhancing=enhancing)


def _enhancement(rng: np.random.Generator, plan: TumourPlan, *, depth: npt.NDArray[np.floating], grid: Grid) -> Field:
    """(X, Y, Z) float32, 0 to 1: how much of the core takes up contrast."""
    spots = smooth_noise(rng, grid, scale_mm=max(plan.core_mm * 0.5, 5.0))
    if plan.kind is Kind.DULL:
        return np.zeros(grid.shape, np.float32)
    if plan.kind is Kind.PATCHY:
        return _soft(spots - float(rng.uniform(-1.2, 0.7)), width_mm=0.15)
    if plan.kind is Kind.SOLID:
        return _soft(spots + 2.0, width_mm=0.2)
    rim_mm = np.clip(plan.core_mm * float(rng.uniform(0.08, 0.55)), 1.2, 9.0)
    return _soft(rim_mm * (1.0 + 0.45 * spots) - depth, width_mm=0.8)


def _stretched_distance(rng: np.random.Generator, plan: TumourPlan, *, grid: Grid) -> Field:
    """(X, Y, Z) float32 mm from the centre, in a randomly turned ellipsoid of unit volume."""
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    stretch = np.exp(rng.uniform(-0.3, 0.3, 3))
    metric = (np.diag(stretch / np.prod(stretch) ** (1 / 3)) @ turn).astype(np.float32)
    offset = world_points(grid) - np.asarray(plan.centre_mm, np.float32)[:, None, None, None]
    return np.asarray(np.sqrt((np.einsum("ij,jxyz->ixyz", metric, offset, optimize=True) ** 2).sum(0)))


def _soft(depth: npt.NDArray[np.floating], *, width_mm: float) -> Field:
    """A smooth step from 0 to 1 where `depth` turns positive."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(-depth / width_mm, -30.0, 30.0))), np.float32)
