"""An endless stream of training examples: simulated patients, prepared exactly as real ones are at inference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.utils.data import IterableDataset, get_worker_info

from inference.contract import Label, Sequence
from inference.training.anatomy import Anatomy, case_anatomy, mni_anatomy, t1_anatomy
from inference.training.fields import Field
from inference.training.simulate import SimulatedPatient, simulate_patient

SPACING_MM = (2.0, 2.0, 2.0)
WINDOW = (64, 64, 64)
SKULL_SHARE = 0.25  # of the patients: what the network sees of a scan that nobody stripped
TUMOUR_WINDOWS = 0.65  # of the windows lie around a tumour, when there is one
POOL = 32  # patients to draw windows from: neighbouring steps must not see the same head
WINDOWS_A_PATIENT = 8  # a patient costs several training steps to simulate


@dataclass(frozen=True)
class Sources:
    """Folders with training anatomy outside the project; an absent one narrows the variety, nothing else."""

    labelled: tuple[Path, ...] = ()
    tumour_free: tuple[Path, ...] = ()
    t1_only: tuple[Path, ...] = ()

    def anatomies(self) -> list[tuple[Anatomy, float]]:
        """Every head, softened for sampling at 2 mm, with how often to use it."""
        heads = [(mni_anatomy(), 0.25)]
        heads += [(t1_anatomy(path), 0.2) for path in self.t1_only]
        heads += [(case_anatomy(path, labels_file=None), 0.25) for path in self.tumour_free]
        heads += [(case_anatomy(path, labels_file="seg.nii.gz"), 0.3) for path in self.labelled]
        return [(softened(head), share) for head, share in heads]


def softened(anatomy: Anatomy, *, sigma_voxels: float = 0.5) -> Anatomy:
    """The anatomy blurred a little, so that sampling it on a grid twice as coarse does not alias."""

    def soften(values: Field) -> Field:
        return np.asarray(ndimage.gaussian_filter(values, sigma_voxels), np.float32)

    return replace(
        anatomy,
        tissues=np.stack([soften(part) for part in anatomy.tissues]),
        texture=soften(anatomy.texture),
        scans={sequence: soften(scan) for sequence, scan in anatomy.scans.items()},
    )


class Examples(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pairs: image (4, X, Y, Z) float32 z-scored, T1 T1CE T2 FLAIR; regions (3, X, Y, Z) float32 0/1, WT TC ET."""

    def __init__(self, sources: Sources, *, seed: int) -> None:
        self._sources = sources
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng([self._seed, worker.id if worker else 0])
        heads = self._sources.anatomies()
        odds = np.array([share for _, share in heads])
        pool: list[Field] = []
        while True:
            anatomy = heads[int(rng.choice(len(heads), p=odds / odds.sum()))][0]
            is_stripped = rng.uniform() > SKULL_SHARE
            patient = simulate_patient(rng, anatomy=anatomy, spacing_mm=SPACING_MM, is_stripped=is_stripped)
            pool.append(study_of(rng, patient))
            if len(pool) > POOL:
                pool.pop(int(rng.integers(POOL)))
            for _ in range(WINDOWS_A_PATIENT):
                yield window_of(rng, pool[int(rng.integers(len(pool)))])


def study_of(rng: np.random.Generator, patient: SimulatedPatient) -> Field:
    """(7, X, Y, Z) float32: four z-scored sequences and the three region masks of one patient."""
    scans, truth = _imperfect(rng, patient)
    image = [zscore_nonzero(scans[sequence]) for sequence in Sequence]
    return np.concatenate([np.stack(image), region_masks(truth)])


def window_of(rng: np.random.Generator, study: Field) -> tuple[torch.Tensor, torch.Tensor]:
    """A window of a study, its contrast bent a little, half of the time mirrored left to right."""
    window = _window(rng, study)
    image = window[:4]
    inside = image != 0
    bend, gain, shift = (rng.uniform(-reach, reach, (4, 1, 1, 1)) for reach in (0.07, 0.35, 0.25))
    image = np.where(inside, image + bend * (np.clip(image, -3, 3) ** 2 - 1), 0) * np.exp(gain) + shift * inside
    window[:4] = image
    if rng.uniform() < 0.5:
        window = window[:, ::-1]
    window = np.ascontiguousarray(window, np.float32)
    return torch.from_numpy(window[:4]), torch.from_numpy(window[4:])


def region_masks(labels: npt.NDArray[np.uint8]) -> Field:
    """(3, X, Y, Z) float32 0/1 masks of WT, TC, ET from a label volume."""
    return np.stack(
        [labels > 0, (labels == Label.NECROTIC_CORE) | (labels == Label.ENHANCING_TUMOUR), labels == 3]
    ).astype(np.float32)


def zscore_nonzero(scan: Field) -> Field:
    """Mean 0 and deviation 1 over the voxels that are not 0; those that are stay 0."""
    inside = scan != 0
    if not inside.any():
        return scan
    values = scan[inside]
    out = np.zeros_like(scan)
    out[inside] = (values - values.mean()) / max(float(values.std()), 1e-6)
    return out


def _imperfect(
    rng: np.random.Generator, patient: SimulatedPatient
) -> tuple[dict[Sequence, Field], npt.NDArray[np.uint8]]:
    """Now and then a study is worse: sequences slightly out of register, or T1 given in place of T1CE."""
    scans = {sequence: np.asarray(volume.voxels, np.float32) for sequence, volume in patient.volumes.items()}
    truth = patient.truth
    if rng.uniform() < 0.2:
        moved = list(Sequence)[int(rng.integers(4))]
        scans[moved] = ndimage.shift(scans[moved], rng.uniform(-0.8, 0.8, 3), order=1)
    if rng.uniform() < 0.03:
        scans[Sequence.T1CE] = scans[Sequence.T1]
        truth = np.where(truth == Label.ENHANCING_TUMOUR, Label.NECROTIC_CORE, truth).astype(np.uint8)
    return scans, truth


def _window(rng: np.random.Generator, stacked: Field) -> Field:
    """A window of (C, X, Y, Z), zero-padded where it reaches out: around a tumour voxel, or anywhere in the head."""
    shape = np.asarray(stacked.shape[1:])
    inside = stacked[4] > 0 if stacked[4].any() and rng.uniform() < TUMOUR_WINDOWS else stacked[0] != 0
    places = np.flatnonzero(inside)
    centre = np.array(np.unravel_index(places[rng.integers(len(places))], stacked.shape[1:]))
    half = np.asarray(WINDOW) // 2
    start = centre - half + rng.integers(-half // 2, half // 2 + 1)
    # Keep to the head where possible: at work, windows do not reach out of a head larger than they are.
    start = np.clip(start, np.minimum(0, shape - WINDOW), np.maximum(0, shape - WINDOW))
    out = np.zeros((stacked.shape[0], *WINDOW), np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + WINDOW, shape)
    source = tuple(slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
    target = tuple(slice(int(first), int(last)) for first, last in zip(low - start, high - start, strict=True))
    out[(slice(None), *target)] = stacked[(slice(None), *source)]
    return out
