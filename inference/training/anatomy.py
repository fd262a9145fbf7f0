"""Heads to grow tumours in: tissue maps, and real intensities where a head has them.

Sources: the ICBM 152 2009a symmetric template that nilearn ships (Fonov et al., NeuroImage 2011; free to use with
the copyright notice), and, for training only, folders with four co-registered skull-stripped sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.contract import Sequence

Field = npt.NDArray[np.float32]

CASE_FILES: Mapping[Sequence, str] = {
    Sequence.T1: "t1.nii.gz",
    Sequence.T1CE: "t1ce.nii.gz",
    Sequence.T2: "t2.nii.gz",
    Sequence.FLAIR: "flair.nii.gz",
}


@dataclass(frozen=True)
class Anatomy:
    """One head, RAS+ order, on a grid of its own.

    `tissues` (3, X, Y, Z) float32: fractions of grey matter, white matter and CSF, zero outside the brain.
    `texture` (X, Y, Z) float32: fine T1 detail about 0 that the tissue maps do not explain, in units of white matter.
    `scans`: real intensities, white matter about 1, zero outside the brain; empty when contrast must be made up.
    `labels` (X, Y, Z) uint8: tumour that the scans really show; all 0 in a head without one.
    """

    name: str
    affine: npt.NDArray[np.float64]
    tissues: Field
    texture: Field
    scans: Mapping[Sequence, Field]
    labels: npt.NDArray[np.uint8]


def mni_anatomy() -> Anatomy:
    """The ICBM 152 average brain at 1 mm, from the files inside the nilearn package: nothing is downloaded.

    Raises ModuleNotFoundError when nilearn, a package of demo and training only, is not installed.
    """
    from nilearn import datasets

    folder = Path(datasets.__file__).parent / "data"
    image = nibabel.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    t1, grey, white = (
        np.asanyarray(nibabel.load(folder / f"mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz").dataobj).astype(
            np.float32
        )
        / 255.0
        for part in ("t1", "gm", "wm")
    )
    brain = ndimage.binary_fill_holes(t1 > 0)
    csf = np.clip(1.0 - grey - white, 0.0, 1.0)
    tissues = np.stack([grey, white, csf]) * brain
    return _with_texture("mni152", affine=image.affine, t1=t1, tissues=tissues)


def t1_anatomy(path: Path) -> Anatomy:
    """A head of which only a skull-stripped T1 exists; its tissues are told apart by brightness."""
    t1, affine = _read_ras(path)
    brain = ndimage.binary_fill_holes(t1 > 0)
    return _with_texture(path.name.split(".")[0], affine=affine, t1=t1, tissues=_tissues_of([t1], brain=brain))


def case_anatomy(folder: Path, *, labels_file: str | None) -> Anatomy:
    """A real patient: four skull-stripped sequences on one grid and, when named, the tumour labels beside them."""
    scans: dict[Sequence, Field] = {}
    for sequence, name in CASE_FILES.items():
        scans[sequence], affine = _read_ras(folder / name)
    brain = np.all([scan > 0 for scan in scans.values()], axis=0)
    labels = np.zeros(brain.shape, np.uint8)
    if labels_file is not None:
        labels = _read_ras(folder / labels_file)[0].astype(np.uint8)
    healthy = brain & (ndimage.binary_dilation(labels > 0, iterations=4) == 0)
    tissues = _tissues_of([scans[Sequence.T1], -scans[Sequence.T2]], brain=healthy)
    white = tissues[1] > 0.8
    for sequence, scan in scans.items():
        scans[sequence] = (scan / np.median(scan[white])).astype(np.float32)
    return Anatomy(folder.name, affine, tissues, np.zeros(brain.shape, np.float32), scans, labels)


def _read_ras(path: Path) -> tuple[Field, npt.NDArray[np.float64]]:
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asanyarray(image.dataobj).astype(np.float32), image.affine


def _with_texture(name: str, *, affine: npt.NDArray[np.float64], t1: Field, tissues: Field) -> Anatomy:
    brain = tissues.sum(0) > 0
    maps = tissues[:, brain]
    means = np.linalg.lstsq(maps.T, t1[brain], rcond=None)[0]
    texture = np.zeros_like(t1)
    texture[brain] = np.clip((t1[brain] - means @ maps) / means[1], -0.4, 0.4)
    return Anatomy(name, affine, tissues.astype(np.float32), texture, {}, np.zeros(t1.shape, np.uint8))


def _tissues_of(scans: list[Field], *, brain: npt.NDArray[np.bool_]) -> Field:
    """(3, X, Y, Z) float32 grey, white, CSF: soft k-means over voxels where white matter is the brightest."""
    points = np.stack([scan[brain] for scan in scans])
    low, high = np.percentile(points, [2, 98], axis=1)
    points = (points - low[:, None]) / (high - low)[:, None]
    centres = np.percentile(points, [55, 85, 8], axis=1)
    for _ in range(12):
        nearest = _distances(points, centres).argmin(0)
        centres = np.stack([points[:, nearest == k].mean(1) for k in range(3)])
    weights = np.exp(-_distances(points, centres) / 0.02)
    tissues = np.zeros((3, *brain.shape), np.float32)
    tissues[:, brain] = weights / (weights.sum(0) + 1e-6)
    return tissues


def _distances(points: Field, centres: Field) -> Field:
    return np.stack([((points - centre[:, None]) ** 2).sum(0) for centre in centres]).astype(np.float32)
