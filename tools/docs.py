"""`make docs`: the pages that are written from the code. A test fails when one of them is stale."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from server.core.machine import TRANSITIONS  # noqa: E402
from tools import flow  # noqa: E402
from worker_client.protocol import messages  # noqa: E402

MARKS = {"_refuse": "refused", "_keep": "="}


def job_life_page() -> str:
    """The table of a job's life."""
    events = list(next(iter(TRANSITIONS.values())))
    lines = [
        "# The life of a job",
        "",
        "Written by `make docs` from `server/core/machine.py`. `refused`: the event does not fit. `=`: accepted, and",
        "nothing changes (a resend). Any other word names the step that is taken.",
        "",
        "| state | " + " | ".join(event.__name__ for event in events) + " |",
        "|---" * (len(events) + 1) + "|",
    ]
    for state, row in TRANSITIONS.items():
        steps = (MARKS.get(row[event].__name__, row[event].__name__.strip("_")) for event in events)
        lines.append(f"| {state} | " + " | ".join(steps) + " |")
    return "\n".join(lines) + "\n"


def protocol_page() -> str:
    """Every message of the worker's socket with its fields."""
    lines = [
        "# The worker's WebSocket, `seg.worker.v1`",
        "",
        "Written by `make docs` from `worker_client/protocol/messages.py`. A text frame is one JSON object",
        "of at most 64 KiB with `t` (below), `id` (the sender's counter) and `re` (the id it answers, or null).",
        "",
    ]
    for kind in _messages():
        tag = kind.__struct_config__.tag
        lines += [f"## `{tag}`", "", inspect.getdoc(kind) or "", ""]
        own = [name for name in kind.__struct_fields__ if name not in ("id", "re")]
        lines += [f"- `{name}`: {_type_name(kind, name)}" for name in own]
        lines += [""] if own else []
    return "\n".join(lines)


def _messages() -> Iterable[type[messages.Message]]:
    both = [kind for kind in messages.FromServer.__args__ if kind in messages.FromWorker.__args__]
    server = [kind for kind in messages.FromServer.__args__ if kind not in both]
    worker = [kind for kind in messages.FromWorker.__args__ if kind not in both]
    return [*server, *worker, *both]


def _type_name(kind: type[messages.Message], name: str) -> str:
    for owner in kind.__mro__:
        annotations = inspect.get_annotations(owner)
        if name in annotations:
            return str(annotations[name])
    raise KeyError(name)


PAGES = {"flow.md": flow.page, "job_life.md": job_life_page, "protocol.md": protocol_page}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
