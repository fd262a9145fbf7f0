"""Puts a worker together from its configuration and identity."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from functools import partial
from uuid import uuid4

import httpx

from inference.isolate import Sandbox
from inference.models.registry import Registry
from worker_client.address import socket_url
from worker_client.agent import Agent
from worker_client.cache import Cache
from worker_client.config import WorkerConfig
from worker_client.errors import SetUpError
from worker_client.home import Home, Identity, KeySigner
from worker_client.http import tls_context, uses_proxy
from worker_client.keyring import Keyring
from worker_client.link import Link, Route
from worker_client.outbox import Outbox
from worker_client.profile import Load, Profile
from worker_client.protocol.messages import Capabilities
from worker_client.runner import Runner
from worker_client.session import Session
from worker_client.telemetry import Device, DeviceMissing, Meter, choose_device, software, version_of
from worker_client.transfer import Transfer
from worker_client.translate import model_name

SILENCE_SECONDS = 14.0
"""An analysis process says once a second that it lives; a dead one is known within 15."""
SECONDS_A_DAY = 86400.0
MOST_NAMED = 64
"""Inputs that are named to the server: sixteen patients."""


class NothingToComputeOn(SetUpError):
    """The device that was asked for is not there."""


def route_of(identity: Identity) -> Route:
    """The way to the worker's server."""
    server = identity.server
    return Route(
        url=socket_url(server),
        tls=tls_context(server, ca_file=identity.ca_file),
        uses_proxy=uses_proxy(server),
    )


def profile_of(identity: Identity, *, config: WorkerConfig, device: Device, meter: Meter) -> Profile:
    """What this worker says of itself in `hello`."""
    entries = Registry(config.models_folder).by_preference()
    return Profile(
        worker_id=identity.worker_id,
        host=identity.host,
        boot_id=uuid4().hex,
        keys=keyring_of(identity, key_days=config.key_days),
        software=software(driver=meter.driver),
        caps=Capabilities(
            device=f"{device.name} ({device.title})",
            vram_mb=device.memory_mb,
            models=tuple(
                model_name(entry.ref, memory_mb=entry.memory_mb, sequences=entry.sequences) for entry in entries
            ),
            labels=config.labels,
        ),
        slots=config.slots,
        epoch=identity.epoch,
    )


def keyring_of(identity: Identity, *, key_days: float | None) -> Keyring:
    """The keys that sign. The age counts by the wall clock, and a clock that is off by an hour changes nothing."""
    age_days = (time.time() - identity.made_at) / SECONDS_A_DAY
    return Keyring(
        KeySigner(identity.key),
        fresh=None if identity.next_key is None else KeySigner(identity.next_key),
        is_old=key_days is not None and age_days > key_days,
    )


def measure(meter: Meter, device: Device, *, cache: Cache, boxes: tuple[Sandbox, ...]) -> Load:
    """How busy this machine is, and what lies in its cache. Blocks for a few milliseconds."""
    pids = tuple(pid for box in boxes if (pid := box.pid) is not None)
    return replace(meter.read(device, own_pids=pids), cached=cache.newest(MOST_NAMED))


def find_device(config: WorkerConfig, *, meter: Meter) -> Device:
    """Where the analysis will run. Raises NothingToComputeOn."""
    try:
        return choose_device(config.device, gpus=meter.gpus(), torch_version=version_of("torch"))
    except DeviceMissing as missing:
        raise NothingToComputeOn(str(missing)) from missing


def make_box(config: WorkerConfig, *, home: Home) -> Sandbox:
    """One analysis process. Several of them share the cores; alone, the libraries choose for themselves."""
    threads = max(1, (os.cpu_count() or 1) // config.slots) if config.slots > 1 else None
    return Sandbox(
        device=config.device,
        models_folder=config.models_folder,
        home=home.work,
        threads=threads,
        silence_seconds=SILENCE_SECONDS,
    )


async def build(
    config: WorkerConfig, *, home: Home, identity: Identity, client: httpx.AsyncClient, meter: Meter
) -> tuple[Agent, Device]:
    """A worker ready to run. Raises NothingToComputeOn."""
    device = find_device(config, meter=meter)
    outbox = Outbox(home.outbox)
    profile = profile_of(identity, config=config, device=device, meter=meter)
    session = Session(profile, answers=await asyncio.to_thread(outbox.open), is_warm=False)
    cache = Cache(home.cache, cap_bytes=config.cache_bytes)
    transfer = Transfer(client, server=identity.server, cache=cache)
    boxes = tuple(make_box(config, home=home) for _ in range(config.slots))
    runner = Runner(boxes, transfer=transfer, cache=cache, work=home.work, new_id=lambda: uuid4().hex)
    await asyncio.to_thread(runner.clean)
    agent = Agent(
        session=session,
        link=Link(route_of(identity), client=client, patience_seconds=config.fallback_seconds),
        runner=runner,
        transfer=transfer,
        home=home,
        measure=partial(measure, meter, device, cache=cache, boxes=boxes),
        drain_seconds=config.drain_seconds,
    )
    return agent, device
