"""What this machine is and how busy it is. NVML is asked if it is there; torch is never loaded for it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import psutil

from worker_client import __version__
from worker_client.profile import Load
from worker_client.protocol.messages import GpuLoad, Software

MB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver names it."""

    index: int
    name: str
    memory_mb: int


@dataclass(frozen=True)
class Device:
    """Where the analysis runs: `name` for the analysis (cpu, cuda:N), `title` for people."""

    name: str
    title: str
    memory_mb: int = 0


class DeviceMissing(Exception):
    """The device that was asked for is not on this machine."""


class Meter:
    """Reads the load. NVML is opened once; a machine without it has no GPU figures."""

    def __init__(self) -> None:
        self._nvml: Any = _open_nvml()
        psutil.cpu_percent(interval=None)

    @property
    def driver(self) -> str:
        """Version of the NVIDIA driver; empty without one."""
        return "" if self._nvml is None else str(self._nvml.nvmlSystemGetDriverVersion())

    def gpus(self) -> tuple[Gpu, ...]:
        """The NVIDIA GPUs of this machine."""
        if self._nvml is None:
            return ()
        found = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            total = self._nvml.nvmlDeviceGetMemoryInfo(handle).total
            found.append(Gpu(index, name=str(self._nvml.nvmlDeviceGetName(handle)), memory_mb=int(total) // MB))
        return tuple(found)

    def read(self, device: Device, *, own_pids: tuple[int, ...] = ()) -> Load:
        """How busy the machine is right now. Blocks for a few milliseconds.

        `own_pids`: the analysis processes; what they hold is free for the next analysis.
        """
        share = min(psutil.cpu_percent(interval=None) / 100.0, 1.0)
        if not device.name.startswith("cuda"):
            own = sum(map(_resident_bytes, own_pids))
            return Load(share=share, free_mb=(psutil.virtual_memory().available + own) // MB)
        gpu = self._gpu_load(device)
        free_mb = None if gpu is None else self._gpu_free_mb(device, own_pids=own_pids)
        return Load(share=share if gpu is None else gpu.util, gpu=gpu, free_mb=free_mb)

    def _gpu_free_mb(self, device: Device, *, own_pids: tuple[int, ...]) -> int | None:
        """None where the driver does not say what each process holds (Windows, containers)."""
        try:
            handle = self._handle(device)
            free = int(self._nvml.nvmlDeviceGetMemoryInfo(handle).free)
            held = {one.pid: one.usedGpuMemory for one in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        except self._nvml.NVMLError:
            return None
        own = [held.get(pid) for pid in own_pids]
        return None if None in own else (free + sum(int(size or 0) for size in own)) // MB

    def _handle(self, device: Device) -> Any:
        return self._nvml.nvmlDeviceGetHandleByIndex(int(device.name.partition(":")[2] or 0))

    def _gpu_load(self, device: Device) -> GpuLoad | None:
        if self._nvml is None:
            return None
        try:
            handle = self._handle(device)
            util = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
            used = self._nvml.nvmlDeviceGetMemoryInfo(handle).used
            temperature = self._nvml.nvmlDeviceGetTemperature(handle, self._nvml.NVML_TEMPERATURE_GPU)
        except self._nvml.NVMLError:
            return None
        return GpuLoad(util=min(util / 100.0, 1.0), mem_used=int(used) // MB, temp=float(temperature))


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def choose_device(asked: str, *, gpus: tuple[Gpu, ...], torch_version: str) -> Device:
    """The device to compute on: the first GPU when torch can use one, else the CPU. Raises DeviceMissing."""
    can_use_gpu = bool(gpus) and "+cpu" not in torch_version
    if asked == "cpu" or (asked == "auto" and not can_use_gpu):
        return Device(name="cpu", title=f"CPU, {psutil.cpu_count(logical=False) or 1} cores")
    index = int(asked.partition(":")[2] or 0)
    for gpu in gpus:
        if gpu.index == index and can_use_gpu:
            return Device(name=f"cuda:{index}", title=gpu.name, memory_mb=gpu.memory_mb)
    if gpus and not can_use_gpu:
        raise DeviceMissing(f"{asked} was asked for, but the installed torch {torch_version} knows no GPU.")
    raise DeviceMissing(f"{asked} was asked for, but this machine shows {len(gpus)} NVIDIA GPUs.")


def version_of(package: str) -> str:
    """Version of an installed package, without loading it; empty when it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def software(*, driver: str) -> Software:
    """What runs here, for the administrator to read."""
    return Software(
        version=__version__,
        python=platform.python_version(),
        torch=version_of("torch"),
        monai=version_of("monai"),
        driver=driver,
        system=f"{platform.system()} {platform.release()}",
    )


def _open_nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
