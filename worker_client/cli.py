"""`python -m worker_client`: enrol, run (the default), doctor."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from worker_client import __version__, console, logs
from worker_client.address import server_url
from worker_client.compose import build
from worker_client.config import (
    GIB,
    WorkerConfig,
    check_device,
    check_labels,
    check_number,
    check_slots,
    default_home,
    is_watched,
    read_logs,
    read_models_folder,
)
from worker_client.enrol import enrol
from worker_client.errors import EnrolRefused, SetUpError
from worker_client.home import Home, Identity
from worker_client.http import transfer_client
from worker_client.telemetry import Meter

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and answer its exit code: 0 done, 2 to 4 a person must do something, 130 stopped at once."""
    parser = _parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "run")
    options = parser.parse_args(words)
    try:
        return int(options.command(options))
    except SetUpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker_client", description="The lab PC of Segwire.")
    parser.add_argument("--version", action="version", version=f"segwire-worker {__version__}")
    commands = parser.add_subparsers(required=True, metavar="enrol | run | doctor")
    enrolling = commands.add_parser("enrol", allow_abbrev=False, help="make this machine known to a server")
    enrolling.add_argument("--server", required=True, metavar="URL", help="https://segwire.example")
    enrolling.add_argument("--name", required=True, help="how administrators see this machine")
    enrolling.add_argument("--token-stdin", action="store_true", required=True, help="read the token from stdin")
    enrolling.add_argument("--ca-file", type=Path, metavar="PEM", help="trust this authority instead of the system's")
    enrolling.add_argument("--plain-http", action="store_true", help="allow http on a network of your own")
    enrolling.set_defaults(command=_enrol)
    running = commands.add_parser("run", allow_abbrev=False, help="connect and work until stopped (the default)")
    running.set_defaults(command=_run)
    _add_run_options(running)
    examining = commands.add_parser("doctor", allow_abbrev=False, help="what this machine can reach, and why not")
    examining.set_defaults(command=_doctor)
    for command in (enrolling, running, examining):
        command.add_argument("--home", type=Path, default=default_home(), metavar="DIR", help="default: %(default)s")
    for command in (running, examining):
        command.add_argument("--label", action="append", default=[], help="a word for the scheduler; may be repeated")
        command.add_argument("--device", default="auto", metavar="auto|cpu|cuda:N")
    return parser


def _add_run_options(running: argparse.ArgumentParser) -> None:
    default = WorkerConfig(home=Path())
    options: tuple[tuple[str, type, object, str], ...] = (
        ("--drain-seconds", float, default.drain_seconds, "how long a running job may still take at the end"),
        ("--slots", int, default.slots, "jobs at a time, each in a process of its own"),
        ("--cache-gb", float, default.cache_bytes / GIB, "room for fetched inputs"),
        ("--fallback-after", float, default.fallback_seconds, "seconds without a WebSocket before HTTPS is used"),
        ("--rotate-after", float, default.key_days, "replace a key older than this many days"),
    )
    for name, kind, value, meaning in options:
        running.add_argument(name, type=kind, default=value, metavar="N", help=f"{meaning} (default: {value})")


def _enrol(options: argparse.Namespace) -> int:
    server = server_url(options.server, plain_http=options.plain_http)
    token = sys.stdin.readline().strip()
    if not token:
        raise EnrolRefused("no token came on standard input", status=0)
    worker_id = enrol(Home(options.home), server=server, name=options.name, token=token, ca_file=options.ca_file)
    sys.stdout.write(f"Enrolled as {worker_id} with {server}. Start it with: python -m worker_client run\n")
    return 0


def _config(options: argparse.Namespace) -> WorkerConfig:
    base = WorkerConfig(
        home=options.home.absolute(),
        device=check_device(options.device),
        models_folder=read_models_folder(),
        labels=check_labels(options.label),
    )
    if not hasattr(options, "slots"):
        return base
    rotate_after = options.rotate_after
    return replace(
        base,
        slots=check_slots(options.slots),
        drain_seconds=check_number("--drain-seconds", options.drain_seconds),
        cache_bytes=int(check_number("--cache-gb", options.cache_gb) * GIB),
        fallback_seconds=check_number("--fallback-after", options.fallback_after),
        key_days=None if rotate_after is None else check_number("--rotate-after", rotate_after),
    )


def _doctor(options: argparse.Namespace) -> int:
    from worker_client.doctor import examine, show

    logs.set_up(logs.QUIET)
    checks = asyncio.run(examine(_config(options)))
    return show(checks, console=Console() if is_watched() else None)


def _run(options: argparse.Namespace) -> int:
    config = _config(options)
    screen = Console(stderr=True) if is_watched() else None
    logs.set_up(read_logs(), console=screen)
    home = Home(config.home)
    identity = home.identity()
    home.prepare()
    with home.locked():
        try:
            asyncio.run(_work(config, home=home, identity=identity, screen=screen))
        except KeyboardInterrupt:
            return INTERRUPTED
    return 0


async def _work(config: WorkerConfig, *, home: Home, identity: Identity, screen: Console | None) -> None:
    async with transfer_client(identity.server, ca_file=identity.ca_file) as client:
        meter = Meter()
        agent, device = await build(config, home=home, identity=identity, client=client, meter=meter)
        listen_to_signals(Stopping(agent.drain))
        shown = None
        if screen is not None:
            shown = asyncio.create_task(console.show(agent, console=screen, host=identity.host, device=device.name))
        try:
            await agent.run()
        finally:
            if shown is not None:
                shown.cancel()
                await asyncio.wait({shown})


@dataclass
class Stopping:
    """The first signal drains; the second ends the process at once, and its child with it (its pipe closes)."""

    drain: Callable[[], None]
    exit_at_once: Callable[[int], object] = os._exit
    is_draining: bool = False

    def __call__(self) -> None:
        """A signal came; called on the event loop."""
        if self.is_draining:
            self.exit_at_once(INTERRUPTED)
        self.is_draining = True
        self.drain()


def listen_to_signals(stopping: Stopping) -> None:
    """Let SIGINT, SIGTERM and Windows' Ctrl-Break call `stopping`.

    `loop.add_signal_handler` does not exist on Windows; a plain handler that wakes the loop works everywhere.
    """
    loop = asyncio.get_running_loop()

    def came(number: int, frame: FrameType | None) -> None:
        if stopping.is_draining:
            # The loop may hang; whoever asks twice means it.
            stopping()
        loop.call_soon_threadsafe(stopping)

    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    for name in names:
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, came)
