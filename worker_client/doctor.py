"""What this machine can reach and do, and why not: for the person at the lab PC, in sentences.

Each check is a function that answers a `Finding`. Only a `bad` one means that the worker could not work.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inference.models.registry import Registry
from worker_client.address import sync_url
from worker_client.answers import Answer
from worker_client.compose import find_device, profile_of, route_of
from worker_client.config import GIB, WorkerConfig
from worker_client.errors import HomeBusy, SetUpError
from worker_client.fallback import SyncLine, SyncRefused
from worker_client.home import Home, Identity
from worker_client.http import http_client, transfer_client, uses_proxy
from worker_client.link import Route
from worker_client.outbox import Outbox
from worker_client.profile import Profile
from worker_client.signin import SignedIn, SignInFailed, sign_in_once
from worker_client.telemetry import Device, Meter

CLOCK_TOLERANCE_SECONDS = 60.0
LEAST_FREE_DISK_BYTES = 2 * GIB
LEAST_FREE_MEMORY_BYTES = 3 * GIB
SIGN_IN_SECONDS = 20.0
OLD_KEY_DAYS = 120.0

_SIGNS = {"ok": "[green]✓[/]", "note": "[yellow]![/]", "bad": "[red]✗[/]"}


@dataclass(frozen=True)
class Finding:
    """What one check found. A `bad` finding means that the worker could not work, a `note` that a person might look."""

    name: str
    verdict: Literal["ok", "note", "bad"]
    sentence: str


def can_work(findings: list[Finding]) -> bool:
    """Whether nothing bad was found."""
    return all(finding.verdict != "bad" for finding in findings)


async def examine(config: WorkerConfig) -> list[Finding]:
    """Every check, in the order in which they depend on each other; those that cannot be made are left out."""
    home, meter = Home(config.home), Meter()
    findings = [check_memory(), check_models(config)]
    device: Device | None = None
    try:
        device = find_device(config, meter=meter)
        findings.append(Finding("device", "ok", f"{device.name}, {device.title}"))
    except SetUpError as error:
        findings.append(Finding("device", "bad", str(error)))
    try:
        identity = await asyncio.to_thread(home.identity)
    except SetUpError as error:
        return [*findings, Finding("enrolment", "bad", str(error))]
    findings.append(Finding("enrolment", "ok", f"{identity.name} ({identity.worker_id}) with {identity.server}"))
    findings += [check_key(identity, now=time.time())]
    findings += [await asyncio.to_thread(check_disk, home), await asyncio.to_thread(check_outbox, home)]
    findings += [check_proxy(identity)]
    for check in (check_name, check_server):
        found = await asyncio.to_thread(check, identity)
        findings += found
        if not can_work(found):
            return findings
    if device is not None:
        profile = profile_of(identity, config=config, device=device, meter=meter)
        async with transfer_client(identity.server, ca_file=identity.ca_file) as client:
            findings += await check_sign_in(home, route=route_of(identity), profile=profile, client=client)
    return findings


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────────────────


def check_memory() -> Finding:
    """Whether an analysis fits into the memory that is free now."""
    free = psutil.virtual_memory().available
    sentence = f"{free / GIB:.1f} GB free"
    if free < LEAST_FREE_MEMORY_BYTES:
        return Finding("memory", "bad", f"{sentence}; an analysis needs {LEAST_FREE_MEMORY_BYTES / GIB:.0f} GB.")
    return Finding("memory", "ok", sentence)


def check_models(config: WorkerConfig) -> Finding:
    """Whether there is a model, and its weights beside it."""
    entries = Registry(config.models_folder).entries()
    names = ", ".join(f"{entry.name} {entry.version}" for entry in entries if entry.weights.is_file())
    if not names:
        return Finding("models", "bad", "No model with weights is installed; reinstall the program.")
    return Finding("models", "ok", names)


def check_disk(home: Home) -> Finding:
    """Whether there is room for inputs and masks."""
    free = shutil.disk_usage(home.path).free
    sentence = f"{free / GIB:.1f} GB free in {home.path}"
    if free < LEAST_FREE_DISK_BYTES:
        return Finding("disk", "bad", f"{sentence}; the worker needs {LEAST_FREE_DISK_BYTES / GIB:.0f} GB.")
    return Finding("disk", "ok", sentence)


def check_outbox(home: Home) -> Finding:
    """What waits to be delivered, and what cannot be."""
    outbox = Outbox(home.outbox)
    waiting, damaged = outbox.waiting(), outbox.damaged()
    sentence = f"{waiting} answers wait to be delivered"
    if damaged:
        return Finding("outbox", "note", f"{sentence}; {damaged} are damaged and were set aside in {home.outbox}")
    return Finding("outbox", "ok", sentence)


def check_key(identity: Identity, *, now: float) -> Finding:
    """How old the key is. The server asks for a new one in time; one that stays old was not asked for."""
    days = max(0.0, now - identity.made_at) / 86400.0
    sentence = f"made {days:.0f} days ago"
    if identity.next_key is not None:
        return Finding("key", "note", f"{sentence}; a newer one waits until the server has taken it")
    if days > OLD_KEY_DAYS:
        return Finding("key", "note", f"{sentence}; replace it with run --rotate-after {OLD_KEY_DAYS:.0f}")
    return Finding("key", "ok", sentence)


# ── the way to the server ───────────────────────────────────────────────────────────────────────────────────────


def check_proxy(identity: Identity) -> Finding:
    """Which way connections take."""
    parts = urlsplit(identity.server)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or not uses_proxy(identity.server) or proxy_bypass(parts.hostname or ""):
        return Finding("proxy", "ok", "none; connections go straight to the server")
    # A proxy's address may hold a password.
    return Finding("proxy", "note", f"through {urlsplit(proxy).hostname}; without WebSockets it takes a minute longer")


def check_name(identity: Identity) -> list[Finding]:
    """Whether the server's name leads anywhere. Behind a proxy the proxy looks it up, so it is only a note there."""
    host = urlsplit(identity.server).hostname or ""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        is_proxied = check_proxy(identity).verdict == "note"
        return [Finding("DNS", "note" if is_proxied else "bad", f"{host} has no address ({error.strerror}).")]
    return [Finding("DNS", "ok", f"{host} is {', '.join(sorted(map(str, found)))}")]


def check_server(identity: Identity) -> list[Finding]:
    """Whether the server answers, and whether its certificate is trusted."""
    began = time.time()
    try:
        with http_client(identity.server, ca_file=identity.ca_file) as client:
            response = client.get("/healthz")
    except (httpx.TransportError, OSError) as error:
        return [Finding("server", "bad", f"{identity.server} does not answer: {_cause(error)}")]
    seconds = time.time() - began
    if response.status_code != httpx.codes.OK:
        return [Finding("server", "bad", f"It answers {response.status_code}; is this a Segwire server?")]
    tls = "its certificate is trusted" if identity.server.startswith("https:") else "without TLS"
    return [Finding("server", "ok", f"answers in {seconds * 1000:.0f} ms, {tls}")]


async def check_sign_in(home: Home, *, route: Route, profile: Profile, client: httpx.AsyncClient) -> list[Finding]:
    """Whether the server takes this worker's key, by which way, and what time it has.

    Not tried while the worker is running. One way is enough to work; the other is worth a note.
    """
    try:
        with home.locked():
            answers = await asyncio.to_thread(Outbox(home.outbox).open)
            return await _sign_in(route, profile, answers=answers, client=client)
    except HomeBusy:
        return [Finding("sign-in", "note", "not tried, since the worker is running from this folder")]


async def _sign_in(
    route: Route, profile: Profile, *, answers: tuple[Answer, ...], client: httpx.AsyncClient
) -> list[Finding]:
    try:
        signed_in = await sign_in_once(route, profile, answers=answers, seconds=SIGN_IN_SECONDS)
    except SignInFailed as failed:
        if failed.is_refused:
            return [Finding("sign-in", "bad", str(failed))]
        try:
            signed_in = await sign_in_once(route, profile, answers=answers, seconds=SIGN_IN_SECONDS, client=client)
        except SetUpError:
            return [Finding("sign-in", "bad", str(failed)), *await check_fallback(route, client=client)]
        way = Finding("WebSocket", "note", f"{failed} The worker goes over HTTPS instead.")
        return [way, *_welcome(signed_in, way="over HTTPS")]
    return [*_welcome(signed_in, way="by WebSocket"), *await check_fallback(route, client=client)]


def _welcome(signed_in: SignedIn, *, way: str) -> list[Finding]:
    clock = check_clock(server_time=signed_in.server_time, now=time.time())
    return [Finding("sign-in", "ok", f"welcome {way}, session {signed_in.session}"), clock]


async def check_fallback(route: Route, *, client: httpx.AsyncClient) -> list[Finding]:
    """Whether the conversation could go over HTTPS, should a proxy ever stop WebSockets."""
    try:
        await SyncLine(client, sync_url(route.url), luck=lambda: 0.0).open()
    except SyncRefused as refused:
        return [Finding("fall-back", "note", f"HTTPS cannot take the place of the WebSocket ({refused})")]
    return [Finding("fall-back", "ok", "HTTPS can take the place of the WebSocket")]


def check_clock(*, server_time: float, now: float) -> Finding:
    """Whether the clocks agree. Signing in needs none, but certificates do."""
    skew = now - server_time
    if abs(skew) > CLOCK_TOLERANCE_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        return Finding("clock", "note", f"{abs(skew):.0f} s {way} the server's; certificates may seem invalid")
    return Finding("clock", "ok", "agrees with the server's")


def _cause(error: Exception) -> str:
    """What failed beneath an HTTP error: a certificate's fault says which."""
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({reason.verify_message}); see --ca-file of enrol."
        reason = reason.__cause__ or reason.__context__
    return str(error) or type(error).__name__


# ── the report ──────────────────────────────────────────────────────────────────────────────────────────────────


def show(findings: list[Finding], *, console: Console | None) -> int:
    """Tell the person, as a table on a terminal or as plain lines; the exit code."""
    is_well = can_work(findings)
    end = "This worker can work." if is_well else "This worker cannot work yet."
    if console is None:
        for finding in findings:
            sys.stdout.write(f"{finding.verdict:4} {finding.name}: {finding.sentence}\n")
        sys.stdout.write(end + "\n")
    else:
        table = Table(box=None, show_header=False, padding=(0, 1))
        for finding in findings:
            table.add_row(_SIGNS[finding.verdict], Text(finding.name), Text(finding.sentence))
        console.print(table)
        console.print(end, style="green" if is_well else "red")
    return 0 if is_well else 1
