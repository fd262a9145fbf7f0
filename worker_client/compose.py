"""Puts a worker together from its configuration and identity."""

from __future__ import annotations

import asyncio
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
from worker_client.home import Home, Identity
from worker_client.http import tls_context, uses_proxy
from worker_client.link import Link, Route
from worker_client.outbox import Outbox
from worker_client.profile import Profile
from worker_client.protocol.messages import Capabilities
from worker_client.runner import Runner
from worker_client.session import Session
from worker_client.telemetry import Device, DeviceMissing, Meter, choose_device, software, version_of
from worker_client.transfer import Transfer
from worker_client.translate import model_name


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
    entries = [entry for entry in Registry(config.models_folder).entries() if entry.weights.is_file()]
    return Profile(
        worker_id=identity.worker_id,
        host=identity.host,
        boot_id=uuid4().hex,
        sign=identity.sign,
        software=software(driver=meter.driver),
        caps=Capabilities(
            device=f"{device.name} ({device.title})",
            vram_mb=device.memory_mb,
            models=tuple(model_name(entry.ref) for entry in entries),
        ),
        slots=config.slots,
        epoch=identity.epoch,
    )


def find_device(config: WorkerConfig, *, meter: Meter) -> Device:
    """Where the analysis will run. Raises NothingToComputeOn."""
    try:
        return choose_device(config.device, gpus=meter.gpus(), torch_version=version_of("torch"))
    except DeviceMissing as missing:
        raise NothingToComputeOn(str(missing)) from missing


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
    boxes = tuple(
        Sandbox(device=config.device, models_folder=config.models_folder, home=home.work) for _ in range(config.slots)
    )
    runner = Runner(boxes, transfer=transfer, cache=cache, work=home.work, new_id=lambda: uuid4().hex)
    await asyncio.to_thread(runner.clean)
    agent = Agent(
        session=session,
        link=Link(route_of(identity)),
        runner=runner,
        transfer=transfer,
        outbox=outbox,
        measure=partial(meter.read, device),
        drain_seconds=config.drain_seconds,
    )
    return agent, device
