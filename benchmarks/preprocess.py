"""`make bench-preprocess`: what it costs to bring a patient as scanned into the model's space, stage by stage.

The raw case of ../shared/data where it is (skull, 5.5 mm slices, four grids), else a made-up head of the same kind.
Processor seconds beside seconds on the clock: on a busy machine only the first can be compared.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.figures import last_line
from inference.brain import find_brain
from inference.contract import Sequence, Volume
from inference.models.registry import Registry
from inference.preprocess import prepare_scans
from inference.register import Reference, register
from inference.scan import examine
from inference.space import reference_of
from inference.volume import read_nifti, to_ras
from tests.inference import heads, phantoms
from tests.real_data import SHARED

CASE = SHARED / "data" / "cases" / "tcga_fg_6692" / "raw"
SPACINGS_MM = (1.0, 2.0)


class Stages:
    """Seconds on the clock and of the processor, by stage, in the order they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        clock, processor = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = (time.perf_counter() - clock, time.process_time() - processor)


def volumes() -> tuple[str, dict[Sequence, Volume]]:
    """What the input is, and its four scans (RAS+)."""
    if CASE.is_dir():
        read = _from(CASE)
        return "tcga_fg_6692 as scanned", {sequence: read(sequence) for sequence in Sequence}
    grid = heads.grid((240, 240, 26), spacing_mm=(0.9, 0.9, 5.5))
    moved = phantoms.movement(degrees=(7.0, 2.0, 3.0), mm=(3.0, 6.0, 9.0))
    return "a made-up head", {
        sequence: phantoms.scan(sequence, grid, moved=None if sequence is Sequence.T1CE else moved)
        for sequence in Sequence
    }


def peak_mb() -> int:
    """Largest memory this process has had."""
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def main() -> None:
    """Run every stage once, warm libraries, and print what each took."""
    import SimpleITK as sitk
    import torch

    stages = Stages()
    with stages.stage("read"):
        name, given = volumes()
    with stages.stage("examine"):
        scans = [examine(sequence, given) for sequence in Sequence]
        reference = Reference(reference_of(scans, given[Sequence.T1CE].grid))
    placed = []
    for scan in scans:
        if scan is not reference.scan:
            with stages.stage(f"register_{scan.sequence.lower()}"):
                matrix = register(reference, scan, threads=torch.get_num_threads(), check=lambda: None)
            placed.append(scan.moved(matrix))
        else:
            placed.append(scan)
    with stages.stage("brain"):
        brain = find_brain(placed, check=lambda: None)
    entry = Registry(Path("/nonexistent")).find(None)
    for spacing in SPACINGS_MM:
        with stages.stage(f"resample_{spacing:g}mm"):
            prepare_scans(placed, given[Sequence.T1CE].grid, _At(entry.sequences, spacing), brain=brain and brain.mask)
    before_n4 = peak_mb()
    with stages.stage("n4_one_scan_unused"):
        _n4(sitk, reference.scan.volume)
    print(f"{name}, {torch.get_num_threads()} threads")
    for stage, (clock, processor) in stages.seconds.items():
        print(f"  {stage:<20} {clock:7.2f} s  {processor:7.2f} s of the processor")
    used = {stage: f"{processor:.2f}s" for stage, (_, processor) in stages.seconds.items() if "unused" not in stage}
    last_line(**used, memory=f"{before_n4}MB")


class _At:
    """A model's wishes at one spacing."""

    def __init__(self, sequences: tuple[Sequence, ...], spacing_mm: float) -> None:
        self.sequences = sequences
        self.spacing_mm = spacing_mm


def _from(folder: Path) -> Callable[[Sequence], Volume]:
    return lambda sequence: to_ras(read_nifti(folder / f"{sequence.lower()}.nii.gz"))


def _n4(sitk: object, volume: Volume) -> None:
    """Bias field correction (Tustison 2010), which the product does not use: decision 0020 says why."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T, dtype=np.float32))  # type: ignore[attr-defined]
    small = sitk.Shrink(image, [4, 4, 1])  # type: ignore[attr-defined]
    sitk.N4BiasFieldCorrection(small, small > 0)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
