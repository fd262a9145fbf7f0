"""Programs that some tests need. With REQUIRE_TOOLS=1 a missing one is a failure, elsewhere the test skips."""

import os
import shutil

import pytest


def require_tool(program: str, *, package: str) -> str:
    """Path of a program."""
    found = shutil.which(program)
    if found:
        return found
    reason = f"{program} is not installed; on Debian: apt-get install {package}"
    if os.environ.get("REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)
