"""One quiet line for the person in front of the lab PC: connected or not, and what is being computed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.text import Text

from worker_client.session import Session

REFRESH_SECONDS = 0.5
_STAGES = {
    "fetch": "fetching",
    "preprocess": "preparing",
    "inference": "computing",
    "postprocess": "finishing",
    "upload": "uploading",
}


@dataclass(frozen=True)
class Glance:
    """What the line shows."""

    host: str
    device: str
    is_connected: bool
    is_draining: bool
    work: tuple[str, ...]
    owed: int


def glance_at(session: Session, *, host: str, device: str) -> Glance:
    """The present state of a session."""
    work = []
    for job in session.jobs:
        eta = "" if job.eta_seconds is None else f", {job.eta_seconds:.0f} s left"
        work.append(f"{_STAGES[job.stage]} {job.percent:.0f} %{eta}")
    return Glance(
        host=host,
        device=device,
        is_connected=session.is_signed_in,
        is_draining=session.is_draining,
        work=tuple(work),
        owed=len(session.owed),
    )


def line_of(glance: Glance) -> Text:
    """The line, in colour."""
    if glance.is_draining:
        state = ("◐ draining", "yellow")
    elif glance.is_connected:
        state = ("● connected", "green")
    else:
        state = ("○ connecting", "yellow")
    line = Text.assemble(state, f" {glance.host} · {glance.device} · ")
    line.append("; ".join(glance.work) or "waiting for work", style="bold" if glance.work else "dim")
    if glance.owed:
        line.append(f" · {glance.owed} to deliver", style="yellow")
    if glance.is_draining:
        line.append(" · Ctrl-C again to stop at once", style="dim")
    return line


async def show(session: Session, *, console: Console, host: str, device: str) -> None:
    """Keep the line up to date until cancelled."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(line_of(glance_at(session, host=host, device=device)), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)
