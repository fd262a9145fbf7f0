"""How bright each tissue is on each sequence, and what a scanner does to it.

White matter is 1 on every sequence. The ranges are wide on purpose: they cover what field strengths and protocols
differ by, so that a network learns the relations (CSF dark on T1 and FLAIR, bright on T2) and no absolute value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.contract import Grid, Sequence
from inference.training.fields import Field, smooth_noise

# Lowest and highest brightness of (grey matter, CSF) beside white matter 1.
TISSUE_RANGES: Mapping[Sequence, tuple[tuple[float, float], tuple[float, float]]] = {
    Sequence.T1: ((0.62, 0.92), (0.15, 0.5)),
    Sequence.T1CE: ((0.7, 1.02), (0.15, 0.6)),
    Sequence.T2: ((1.1, 1.6), (1.9, 4.0)),
    Sequence.FLAIR: ((0.95, 1.4), (0.1, 0.65)),
}


@dataclass(frozen=True)
class TumourLook:
    """Brightness of core, oedema and enhancing tumour on one sequence, and how much of the brain shines through."""

    core: float
    oedema: float
    enhancing: float
    veil: float


def tissue_levels(rng: np.random.Generator) -> dict[Sequence, Field]:
    """Brightness (grey, white, CSF) per sequence; the two T1 sequences share their protocol, so they are alike."""
    levels = {
        sequence: np.array([rng.uniform(*grey), 1.0, rng.uniform(*csf)], np.float32)
        for sequence, (grey, csf) in TISSUE_RANGES.items()
    }
    if rng.uniform() < 0.6:
        levels[Sequence.T1CE] = levels[Sequence.T1] + np.array([rng.uniform(0.0, 0.12), 0.0, rng.uniform(0, 0.1)], "f")
    return levels


def tumour_looks(
    rng: np.random.Generator, *, csf: Mapping[Sequence, float], is_dull: bool
) -> dict[Sequence, TumourLook]:
    """How one tumour looks on the four sequences of a head whose CSF has these levels."""
    wetness = float(rng.uniform(0.15, 0.65))  # water in the oedema: the same on all sequences
    cyst = float(rng.uniform(0.0, 1.0)) ** (2.0 if is_dull else 1.0)
    solid = float(rng.uniform(0.1, 0.7))
    t2_span = csf[Sequence.T2] - 1.0
    bright = float(rng.uniform(1.2, 2.3)) if rng.uniform() < 0.85 else float(rng.uniform(1.1, 1.3))
    t1_span = 1.0 - csf[Sequence.T1]
    t1ce_span = 1.0 - csf[Sequence.T1CE]
    uptake = float(rng.uniform(1.25, 2.6)) if rng.uniform() < 0.8 else float(rng.uniform(1.1, 1.35))
    core_t1 = np.interp(cyst, [0, 1], [rng.uniform(0.05, 0.6), rng.uniform(0.4, 1.0)])
    wet_flair = rng.uniform(0.3, 1.2) if rng.uniform() < 0.6 else rng.uniform(1.0, 1.8)
    core_flair = np.interp(cyst, [0.3, 0.7], [rng.uniform(0.8, 2.1), wet_flair])
    bled = rng.uniform() < 0.08
    veil = float(rng.uniform(0.1, 0.45))
    return {
        Sequence.T1: TumourLook(
            1.3 if bled else 1.0 - core_t1 * t1_span,
            1.0 - t1_span * (0.03 + 0.5 * wetness),
            1.0 - t1_span * rng.uniform(-0.05, 0.7),
            veil,
        ),
        Sequence.T1CE: TumourLook(
            1.35 if bled else 1.0 - core_t1 * t1ce_span * rng.uniform(0.7, 1.0),
            1.0 - t1ce_span * (0.03 + 0.5 * wetness),
            uptake,
            veil,
        ),
        Sequence.T2: TumourLook(
            1.0 + t2_span * np.interp(cyst, [0, 1], [solid, rng.uniform(0.7, 1.05)]),
            1.0 + t2_span * wetness,
            1.0 + t2_span * rng.uniform(0.1, 0.6),
            veil,
        ),
        Sequence.FLAIR: TumourLook(float(core_flair), bright, bright * rng.uniform(0.75, 1.1), veil),
    }


@dataclass(frozen=True)
class ScannerTraits:
    """What one acquisition adds: all values are drawn per sequence by `scanner_traits`."""

    bias: float
    noise: float
    gamma: float
    blur_voxels: tuple[float, float, float]


def scanner_traits(rng: np.random.Generator, *, severity: float = 1.0, is_thick: bool = False) -> ScannerTraits:
    """Random bias, noise, gamma and resolution; now and then one axis is blurred as if by thick slices.

    `is_thick`: the slices are, for certain, along Z.
    """
    blur = np.full(3, float(rng.uniform(0.0, 0.5)))
    if is_thick:
        blur[2] = rng.uniform(0.7, 1.6)
    elif rng.uniform() < 0.2 * severity:
        blur[2 if rng.uniform() < 0.6 else int(rng.integers(2))] = rng.uniform(0.6, 1.4)
    x, y, z = (float(value) for value in blur)
    return ScannerTraits(
        bias=severity * float(rng.uniform(0.0, 0.15)),
        noise=severity * float(rng.uniform(0.005, 0.07)),
        gamma=float(np.exp(severity * rng.uniform(-0.3, 0.3))),
        blur_voxels=(x, y, z),
    )


def acquire(rng: np.random.Generator, scan: Field, *, brain: Field, traits: ScannerTraits, grid: Grid) -> Field:
    """What the scanner makes of an ideal image: blur, bias field, Rician noise, gamma; 0 outside `brain`."""
    image = ndimage.gaussian_filter(scan, traits.blur_voxels) if max(traits.blur_voxels) > 0.2 else scan
    image = image * np.exp(traits.bias * smooth_noise(rng, grid, scale_mm=float(rng.uniform(50.0, 110.0))))
    real = image + traits.noise * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = traits.noise * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.sqrt(real**2 + imaginary**2)
    top = float(np.percentile(image[brain > 0], 99.5)) + 1e-6
    return np.asarray(np.where(brain > 0, np.maximum((image / top) ** traits.gamma * top, 1e-3), 0.0), np.float32)
