"""The house rules that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import docs

ROOT = Path(__file__).parents[2]
LONGEST = 400
MAY_BE_LONGER = {"worker_client/protocol/messages.py"}  # the whole vocabulary, read as one
CODE = [
    file
    for place in ("server", "worker_client", "inference", "frontend_bridge", "tests", "tools", "benchmarks")
    for file in sorted((ROOT / place).rglob("*.py"))
    if "node_modules" not in file.parts and "migrations" not in file.parts
]


@pytest.mark.parametrize("name", docs.PAGES)
def test_a_generated_page_is_as_the_code_says(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")

    assert written == docs.PAGES[name](), "run `make docs`"


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {str(file.relative_to(ROOT)) for file in CODE if len(file.read_text().splitlines()) > LONGEST}

    assert long <= MAY_BE_LONGER


def test_the_environment_is_read_in_two_places_only() -> None:
    settings = {"server/config/env.py", "worker_client/config.py"}
    what_a_child_inherits = {"server/launcher/local_worker.py", "server/imaging/limited.py"}
    product = [file for file in CODE if file.relative_to(ROOT).parts[0] not in ("tests", "tools", "benchmarks")]

    readers = {
        str(file.relative_to(ROOT))
        for file in product
        if re.search(r"os\.(environ\[|getenv|environ\.get)", file.read_text())
    }

    assert readers <= settings | what_a_child_inherits


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("inference", "torch"),
        ("inference.contract", "torch"),
        ("worker_client.session", "torch"),
        ("worker_client.session", "django"),
        ("worker_client.protocol.codec", "cryptography"),
        ("server.core.machine", "django"),
    ],
)
def test_a_light_module_stays_light(module: str, absent: str) -> None:
    """A subprocess: this process has long loaded everything."""
    check = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"

    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False)

    assert done.returncode == 0


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("name", ["requirements.lock", "frontend_bridge/web/package-lock.json"])
def test_a_lock_file_names_no_place_to_download_from(name: str) -> None:
    assert not re.search(r"index-url|find-links|\"resolved\"", (ROOT / name).read_text())
