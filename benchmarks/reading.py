"""`make bench-reading`: a study of four series of 155 slices, from upload to volumes ready, beside dcm2niix.

A simulated patient is written as 620 DICOM files. Three ways are timed, in turns: the whole way of an upload (one zip
archive by HTTP to a real server, until its study can be opened), the parser child alone (what an upload spends its
time in: volume.nii.gz, the workers' artifact, originals, fingerprints, digests), and dcm2niix on the same files, with
and without compression. CPU seconds stand beside, since they do not depend on what else the machine does.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from benchmarks.figures import last_line, percentile
from inference.contract import Sequence
from inference.training.simulate import Kind, mni_anatomy, simulate_patient
from tests.inference.dicom import images
from tests.system.stack import Stack, wait_for

RUNS = int(os.environ.get("RUNS", "3"))
SHAPE, SPACING_MM = (240, 240, 155), (1.0, 1.0, 1.0)
_SEED, _GREY, _NOISE = 399, 600.0, 8.0
_MIB = 1 << 20
_LAUNCH = """
import os, sys, time
started = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
wall = time.perf_counter() - started
print(wall, used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Run:
    """One way, once: wall and CPU seconds, and the most memory that a process of it had."""

    wall: float
    cpu: float
    peak_bytes: int


def write_study(folder: Path) -> None:
    """Four folders of 155 files."""
    noise = np.random.default_rng(_SEED)
    patient = simulate_patient(
        np.random.default_rng(_SEED), anatomy=mni_anatomy(), spacing_mm=SPACING_MM, shape=SHAPE, kinds=[Kind.RING]
    )
    for number, sequence in enumerate(Sequence, start=1):
        into = folder / sequence.value
        into.mkdir(parents=True)
        grey = np.asarray(patient.volumes[sequence].voxels, dtype=np.float64) * _GREY
        grey = np.clip(np.abs(grey + noise.normal(0, _NOISE, grey.shape)), 0, 4095).astype(np.int16)
        for place in range(SHAPE[2]):
            header = images.image(
                place,
                np.ascontiguousarray(grey[::-1, ::-1, place].T),
                SeriesInstanceUID=f"1.2.1.{number}",
                SOPInstanceUID=f"1.2.1.{number}.{place + 1}",
                SeriesDescription=sequence.value,
                SeriesNumber=number,
                PixelSpacing=[1.0, 1.0],
                ImagePositionPatient=[-120.0, -120.0, float(place)],
            )
            images.save(header, into / f"{place:04d}.dcm")


def timed(command: list[str], *, told: bytes = b"") -> Run:
    """Run a program to its end, below a small process: what the system counts of a child begins with its parent's."""
    done = subprocess.run([sys.executable, "-S", "-c", _LAUNCH, *command], input=told, capture_output=True, check=True)
    wall, cpu, peak = done.stderr.split()[-3:]
    return Run(float(wall), float(cpu), int(peak) * 1024)


def by_parser(study: Path, out: Path) -> Run:
    """The parser child with the server's own bounds."""
    out.mkdir()
    bounds = {
        "memory_bytes": 1 << 30,
        "cpu_seconds": 120,
        "file_bytes": 1 << 30,
        "archive_members": 20_000,
        "archive_ratio": 100,
        "archive_bytes": 1 << 30,
    }
    files = [{"path": str(path), "name": path.name} for path in sorted(study.rglob("*.dcm"))]
    order = {"type": "read", "bounds": bounds, "folder": str(out), "files": files}
    run = timed([sys.executable, "-m", "server.imaging.parser"], told=json.dumps(order).encode())
    assert len(list(out.glob("series-*/volume.nii.gz"))) == len(Sequence)
    return run


def by_dcm2niix(study: Path, out: Path, *, compressed: bool) -> Run:
    """The same files by dcm2niix."""
    import dcm2niix

    out.mkdir()
    flag = "y" if compressed else "n"
    run = timed([dcm2niix.bin, "-z", flag, "-b", "n", "-f", "%s", "-o", str(out), str(study)])
    assert len(list(out.glob("*.nii*"))) == len(Sequence)
    return run


def by_upload(stack: Stack, archive: Path) -> float:
    """Seconds from the first byte of the upload to a study of four series."""
    client = stack.client()
    started = time.perf_counter()
    names = {"filename": archive.name, "batch": "bench", "batch_count": "1"}
    metadata = ",".join(f"{key} {_base64(value)}" for key, value in names.items())
    head = {"Tus-Resumable": "1.0.0", "Upload-Length": str(archive.stat().st_size), "Upload-Metadata": metadata}
    place = client.post("/api/mri/uploads/tus/", headers=head).raise_for_status().headers["Location"]
    _send(client, place, archive)

    def done() -> bool:
        state = client.get("/api/mri/uploads/batches/bench/").json()
        assert state["state"] != "failed", state
        return state["state"] == "done" and len(state["studies"][0]["series"]) == len(Sequence)

    wait_for(done, seconds=300, what="study")
    return time.perf_counter() - started


def _send(client: httpx.Client, place: str, archive: Path) -> None:
    at = 0
    with archive.open("rb") as source:
        while chunk := source.read(8 * _MIB):
            head = {
                "Tus-Resumable": "1.0.0",
                "Upload-Offset": str(at),
                "Content-Type": "application/offset+octet-stream",
            }
            client.patch(place, headers=head, content=chunk).raise_for_status()
            at += len(chunk)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def main() -> None:
    """Time the ways in turns and tell the medians."""
    ways: dict[str, list[Run]] = {"parser child": [], "dcm2niix, compressed": [], "dcm2niix, plain": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "study"
        write_study(study)
        archive = folder / "study.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as members:
            for path in sorted(study.rglob("*.dcm")):
                members.write(path, path.relative_to(study))
        for turn in range(RUNS):
            ways["parser child"].append(by_parser(study, folder / f"ours-{turn}"))
            ways["dcm2niix, compressed"].append(by_dcm2niix(study, folder / f"z-{turn}", compressed=True))
            ways["dcm2niix, plain"].append(by_dcm2niix(study, folder / f"n-{turn}", compressed=False))
        with Stack(folder / "data", LOG_LEVEL="WARNING") as stack:
            upload = by_upload(stack, archive)
    told(ways, upload)


def told(ways: dict[str, list[Run]], upload: float) -> None:
    """Tables for people, and the line that programs read."""
    print(f"\n{'four series of 155 slices':<26}{'wall':>9}{'CPU':>9}{'peak':>10}")
    for name, runs in ways.items():
        wall, cpu = (percentile([getattr(run, kind) for run in runs], 0.5) for kind in ("wall", "cpu"))
        print(f"  {name:<24}{wall:>8.2f}s{cpu:>8.2f}s{max(run.peak_bytes for run in runs) / _MIB:>7.0f} MB")
    print(f"  {'upload -> study (HTTP)':<24}{upload:>8.2f}s")
    ours, packed = ways["parser child"], ways["dcm2niix, compressed"]
    walls = [percentile([run.wall for run in runs], 0.5) for runs in (ours, packed)]
    cpus = [percentile([run.cpu for run in runs], 0.5) for runs in (ours, packed)]
    last_line(
        upload=f"{upload:.2f}s",
        parser=f"{walls[0]:.2f}s",
        dcm2niix=f"{walls[1]:.2f}s",
        ratio=f"{walls[1] / walls[0]:.2f}x",
        cpu_ratio=f"{cpus[1] / cpus[0]:.2f}x",
        memory=f"{max(run.peak_bytes for run in ours) // _MIB}MB",
    )


if __name__ == "__main__":
    main()
