"""One quiet line for the person in front of the lab PC: connected or not, and what is being computed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from worker_client.session import Session
from worker_client.ways import Way

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
    is_leaving: bool
    way: Way
    work: tuple[str, ...]
    owed: int


def glance_at(session: Session, *, host: str, device: str, way: Way = "websocket") -> Glance:
    """The present state of a session, and the way it goes."""
    work = []
    for job in session.jobs:
        eta = "" if job.eta_seconds is None else f", {job.eta_seconds:.0f} s left"
        work.append(f"{_STAGES[job.stage]} {job.percent:.0f} %{eta}")
    return Glance(
        host=host,
        device=device,
        is_connected=session.is_signed_in,
        is_draining=session.is_draining,
        is_leaving=session.is_leaving,
        way=way,
        work=tuple(work),
        owed=len(session.owed),
    )


def _state(glance: Glance) -> tuple[str, str]:
    if glance.is_draining:
        return "◐ draining", "yellow"
    if not glance.is_connected:
        return "○ connecting", "yellow"
    return ("● connected", "green") if glance.way == "websocket" else ("● connected over HTTPS", "green")


def line_of(glance: Glance) -> Text:
    """The line, in colour."""
    line = Text.assemble(_state(glance), f" {glance.host} · {glance.device} · ")
    idle = "no new work, at the server's wish" if glance.is_draining and not glance.is_leaving else "waiting for work"
    line.append("; ".join(glance.work) or idle, style="bold" if glance.work else "dim")
    if glance.owed:
        line.append(f" · {glance.owed} to deliver", style="yellow")
    if glance.is_leaving:
        line.append(" · Ctrl-C again to stop at once", style="dim")
    return line


class Shown(Protocol):
    """What the line is drawn from: an agent."""

    @property
    def session(self) -> Session:
        """What is held and said."""

    @property
    def way(self) -> Way:
        """Which way the connection goes."""


async def show(agent: Shown, *, console: Console, host: str, device: str) -> None:
    """Keep the line up to date until cancelled."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(line_of(glance_at(agent.session, host=host, device=device, way=agent.way)), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)
