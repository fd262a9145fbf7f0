"""A template's brain in any contrast, with a skull around it or without: what a fingerprint is taken of."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from inference.contract import Grid, Sequence, Volume
from inference.training.anatomy import Anatomy, mni_anatomy
from inference.training.skull import add_skull

# Brightness of grey matter, white matter, fluid.
LEVELS = {
    Sequence.T1: (0.74, 1.0, 0.32),
    Sequence.T1CE: (0.8, 1.0, 0.36),
    Sequence.T2: (1.35, 1.0, 2.6),
    Sequence.FLAIR: (1.22, 1.0, 0.3),
}


@cache
def head(sequence: Sequence, *, has_skull: bool = False, noise: float = 0.02) -> Volume:
    """(X, Y, Z) float32 on 2 mm in RAS+ order; zero around a stripped brain, noise around a head."""
    rng = np.random.default_rng(4)
    anatomy = _anatomy()
    tissues = np.pad(anatomy.tissues[:, ::2, ::2, ::2], ((0, 0), (12, 12), (12, 12), (12, 12)))
    affine = anatomy.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    brain = (tissues.sum(0) > 0.2).astype(np.float32)
    image = np.tensordot(np.array(LEVELS[sequence], np.float32), tissues, axes=1)
    if sequence is Sequence.T1CE:
        vessels = ndimage.gaussian_filter(rng.standard_normal(image.shape), 1.0) > 0.36
        image = np.where(vessels & (brain > 0), 2.0, image).astype(np.float32)
    if has_skull:
        images = {sequence: image}
        images = {one: images[sequence].copy() for one in Sequence}
        csf = {one: LEVELS[one][2] for one in Sequence}
        shape = (image.shape[0], image.shape[1], image.shape[2])
        add_skull(rng, images, brain=brain, csf=csf, grid=Grid(shape=shape, affine=affine))
        image = images[sequence]
    rough = np.abs(image + noise * rng.standard_normal(image.shape)).astype(np.float32)
    return Volume(voxels=rough if has_skull else np.where(brain > 0, rough, 0).astype(np.float32), affine=affine)


@cache
def _anatomy() -> Anatomy:
    return mni_anatomy()
