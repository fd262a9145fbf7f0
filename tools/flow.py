"""`make flow`: the way of a click. Every module on it says so in the last line of its docstring: `Flow: n name`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("frontend_bridge", "server", "worker_client", "inference")
STEPS = ("click", "job", "dispatch", "push", "receive", "run", "progress", "mask", "browser")
FLOW = re.compile(r"^Flow: (.+)$", re.MULTILINE)
STEP = re.compile(r"(\d) ([a-z]+)")


def stops(root: Path = ROOT) -> Iterator[tuple[int, str, str]]:
    """Number of the step, module, and the first line of what the module says it is for."""
    for place in PLACES:
        for file in sorted((root / place).rglob("*.py")):
            said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            flow = FLOW.search(said)
            for number, name in STEP.findall(flow.group(1)) if flow else ():
                if STEPS[int(number) - 1] != name:
                    raise ValueError(f"{file}: step {number} is {STEPS[int(number) - 1]}, not {name}")
                yield int(number), str(file.relative_to(root)), said.splitlines()[0]


def page() -> str:
    """The way as Markdown."""
    found = sorted(stops())
    parts = ["# The way of a click", "", "Written by `make docs` from the modules themselves.", ""]
    for number, name in enumerate(STEPS, start=1):
        parts += [f"## {number} · {name}", ""]
        parts += [f"- `{file}`: {line}" for step, file, line in found if step == number]
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
