"""docs/reading.md names every reason that a file can be refused or set aside for."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_RAISED = re.compile(r"""(?:InputInvalid|NotAScan)\(\s*"(\w+)\"""")
_IN_TABLE = re.compile(r"""f"\{_STORAGE\}\S+", "(\w+)", \"""")
SOURCES = (*sorted((ROOT / "inference/dicom").glob("*.py")), ROOT / "server/imaging/parser/archive.py")


def test_every_code_has_its_line():
    sources = "\n".join(path.read_text() for path in SOURCES)
    used = {*_RAISED.findall(sources), *_IN_TABLE.findall(sources)} - {"not_found", "several_series"}

    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reading.md").read_text(), re.MULTILINE)

    assert len(used) > 25
    assert used <= set(named), used - set(named)
