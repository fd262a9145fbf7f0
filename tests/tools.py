"""Programs that some tests need. With REQUIRE_TOOLS=1 a missing one is a failure, elsewhere the test skips."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from tools.setup import OHIF, OHIF_VERSION


def require_tool(program: str, *, package: str) -> str:
    """Path of a program."""
    return shutil.which(program) or _nothing(f"{program} is not installed; on Debian: apt-get install {package}")


def require_ohif() -> Path:
    """The folder of OHIF's files."""
    folder = OHIF / "dist"
    if not (folder / "index.html").is_file():
        _nothing(f"OHIF {OHIF_VERSION} is not in {OHIF.parent}; with npm and its registry at hand: make setup")
    return folder


def _nothing(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)
