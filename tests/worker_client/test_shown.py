"""What a worker shows, logs, reads from its surroundings and measures."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from rich.console import Console

from tests.worker_client.builders import KEY, a_result, computing, signed_in
from worker_client import cli, telemetry
from worker_client.config import ConfigInvalid, Logs, read_logs, read_models_folder
from worker_client.console import glance_at, line_of
from worker_client.logs import JsonFormatter, TextFormatter
from worker_client.protocol import messages as wire
from worker_client.telemetry import Device, DeviceMissing, Gpu, Meter, choose_device


def test_the_line_says_what_is_computed_and_for_how_long():
    talk = computing()
    talk.session.progressed(KEY, stage="inference", percent=41.6, eta_seconds=12.3, at=1.0)

    line = line_of(glance_at(talk.session, host="segwire.example", device="cuda:0")).plain

    assert line == "● connected segwire.example · cuda:0 · computing 42 %, 12 s left"


def test_the_line_says_what_waits_to_be_delivered():
    talk = computing()
    talk.session.computed(a_result(), at=1.0)
    talk.session.closed(code=1006, reason="")

    line = line_of(glance_at(talk.session, host="h", device="cpu")).plain

    assert line == "○ connecting h · cpu · waiting for work · 1 to deliver"


def test_the_line_says_how_to_stop_at_once():
    talk = computing()
    talk.session.drain(at=1.0, seconds=8.0)

    assert "Ctrl-C again" in line_of(glance_at(talk.session, host="h", device="cpu")).plain


async def test_the_line_is_drawn_until_it_is_cancelled():
    written = io.StringIO()
    screen = Console(file=written, force_terminal=True, width=100)
    agent = SimpleNamespace(session=signed_in().session, way="websocket")
    shown = asyncio.create_task(cli.console.show(agent, console=screen, host="h", device="cpu"))
    await asyncio.sleep(0)
    shown.cancel()
    await asyncio.wait({shown})

    assert "connected" in written.getvalue()


def test_a_log_line_has_its_fields_behind_the_sentence():
    record = logging.makeLogRecord(
        {"msg": "A job begins", "levelname": "INFO", "created": 0.0, "job": "01J", "fence": 2}
    )

    assert TextFormatter().format(record) == "1970-01-01 00:00:00 INFO A job begins job=01J fence=2"
    assert msgspec.json.decode(JsonFormatter().format(record))["fence"] == 2


def test_the_environment_is_read_and_a_wrong_value_named():
    assert read_logs({"LOG_LEVEL": "debug", "LOG_FORMAT": "json"}) == Logs(level=logging.DEBUG, as_json=True)
    assert read_logs({}) == read_logs({"LOG_LEVEL": "", "LOG_FORMAT": "console"}) == Logs()
    assert read_models_folder({"MODELS_DIR": "/models"}) == Path("/models")
    assert read_models_folder({}) is None
    with pytest.raises(ConfigInvalid, match="LOG_LEVEL"):
        read_logs({"LOG_LEVEL": "loud"})
    with pytest.raises(ConfigInvalid, match="LOG_FORMAT"):
        read_logs({"LOG_FORMAT": "xml"})


# ── telemetry ───────────────────────────────────────────────────────────────────────────────────────────────────

A100 = Gpu(index=0, name="A100", memory_mb=40_000)


def test_the_first_gpu_is_taken_when_torch_can_use_it():
    device = choose_device("auto", gpus=(A100,), torch_version="2.13.0+cu128")

    assert device == Device(name="cuda:0", title="A100", memory_mb=40_000)


@pytest.mark.parametrize(("gpus", "torch"), [((), "2.13.0"), ((A100,), "2.13.0+cpu")])
def test_without_a_gpu_that_torch_knows_the_cpu_is_taken(gpus, torch):
    assert choose_device("auto", gpus=gpus, torch_version=torch).name == "cpu"


@pytest.mark.parametrize(("asked", "torch"), [("cuda:1", "2.13.0"), ("cuda:0", "2.13.0+cpu")])
def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(asked, torch):
    with pytest.raises(DeviceMissing, match=asked):
        choose_device(asked, gpus=(A100,), torch_version=torch)


def nvml(**changes: object) -> SimpleNamespace:
    class NVMLError(Exception):
        pass

    parts = {
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlSystemGetDriverVersion": lambda: "570.1",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "A100",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(
            total=40_000 << 20, used=1_000 << 20, free=39_000 << 20
        ),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=7, usedGpuMemory=600 << 20)],
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=37),
        "nvmlDeviceGetTemperature": lambda handle, kind: 61,
        **changes,
    }
    return SimpleNamespace(**parts)


def test_the_gpu_is_read_from_its_driver(monkeypatch):
    meter = Meter()
    monkeypatch.setattr(meter, "_nvml", nvml())

    load = meter.read(Device("cuda:0", "A100", 40_000), own_pids=(7,))

    assert meter.gpus() == (A100,)
    assert load.free_mb == 39_600
    assert meter.driver == "570.1"
    assert load.gpu == wire.GpuLoad(util=0.37, mem_used=1_000, temp=61.0)
    assert load.share == 0.37


def test_memory_is_unknown_where_the_driver_does_not_say_who_holds_it(monkeypatch):
    """In a container process ids are others than the driver's: a warm model would count as somebody else's."""
    meter = Meter()
    monkeypatch.setattr(meter, "_nvml", nvml())

    load = meter.read(Device("cuda:0", "A100", 40_000), own_pids=(8,))

    assert load.free_mb is None


def test_on_a_cpu_the_memory_of_the_analysis_counts_as_free(monkeypatch):
    meter = Meter()
    monkeypatch.setattr(telemetry.psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000 << 20))

    without = meter.read(Device("cpu", "CPU")).free_mb
    among = meter.read(Device("cpu", "CPU"), own_pids=(os.getpid(), 2**22 + 1)).free_mb

    assert without == 1_000
    assert among is not None
    assert among > 1_000


def test_a_gpu_that_does_not_answer_is_no_reason_to_stop(monkeypatch):
    meter, driver = Meter(), nvml()

    def fail(handle):
        raise driver.NVMLError

    driver.nvmlDeviceGetUtilizationRates = fail
    monkeypatch.setattr(meter, "_nvml", driver)

    assert meter.read(Device("cuda:0", "A100")).gpu is None


def test_a_machine_without_a_gpu_tells_the_load_of_its_processor():
    load = Meter().read(Device("cpu", "CPU"))

    assert load.gpu is None
    assert 0.0 <= load.share <= 1.0


def test_the_worker_process_never_loads_torch():
    """The parent must stay small and quick; only its child computes."""
    code = "import sys, worker_client.cli, worker_client.doctor; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
