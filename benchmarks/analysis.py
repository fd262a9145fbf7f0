"""`make bench-inference`: the whole demo analysis, click to mask, beside the network's own time, on this machine.

Real server, real lab worker, the simulated patient. While analyses run, /healthz is asked all the time: the web
process must not compute.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import httpx

from benchmarks.figures import last_line, milliseconds, percentile, table
from tests.system.stack import Stack, by_sequence, click, demo_patient, ended

RUNS = 5


class Pulse(threading.Thread):
    """Asks /healthz every 10 ms and keeps the answer times."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.seconds: list[float] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.url) as client:
            while not self.is_over.wait(0.01):
                started = time.perf_counter()
                client.get("/healthz").raise_for_status()
                self.seconds.append(time.perf_counter() - started)


def one_analysis(client: httpx.Client, study: dict) -> tuple[float, dict[str, float]]:
    """Seconds from the click to `succeeded`, and the stage times of the report."""
    started = time.perf_counter()
    job = click(client, study).raise_for_status().json()
    done = ended(client, job["id"])
    seconds = time.perf_counter() - started
    assert done["state"] == "succeeded", done
    report = client.get(done["result"]["report_url"]).json()
    return seconds, report["stage_seconds"]


def main() -> None:
    """Measure the first (cold) and the following (warm) analyses."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "data", LOG_LEVEL="WARNING") as stack:
        study = demo_patient(stack)
        stack.start_worker(stack.enrol_worker())
        client = stack.client()
        pulse = Pulse(stack.url)
        pulse.start()
        cold, _ = one_analysis(client, study)
        runs = [one_analysis(client, study) for _ in range(RUNS)]
        pulse.is_over.set()
        pulse.join()
        print(f"demo patient: {len(by_sequence(study))} sequences; the first click cold, then {RUNS} warm")
    whole = [seconds for seconds, _ in runs]
    network = [stages["inference"] for _, stages in runs]
    table("click -> mask", {"cold": [cold], "warm": whole, "of which the network": network})
    table("/healthz meanwhile", {"answer": pulse.seconds})
    last_line(
        cold=f"{cold:.2f}s",
        warm=f"{percentile(whole, 0.5):.2f}s",
        network=f"{percentile(network, 0.5):.2f}s",
        whole_to_network=f"{percentile(whole, 0.5) / percentile(network, 0.5):.2f}x",
        healthz_p99=milliseconds(percentile(pulse.seconds, 0.99)),
    )


if __name__ == "__main__":
    main()
