"""Whatever a doctor may read of a file that was refused or set aside is there in Korean too."""

from __future__ import annotations

import re

from tests.system.stack import ROOT

RAISED = re.compile(r'(?:InputInvalid|NotAScan)\(\s*"([a-z_0-9]+)"')
CLASSED = re.compile(r'^    \(\S+ "([a-z_]+)", "It ', re.MULTILINE)
ARCHIVES = re.compile(r'^    code = "([a-z_]+)"', re.MULTILINE)
NEVER_OF_AN_UPLOAD = frozenset(
    {"several_series", "not_found", "digest_mismatch", "size_mismatch", "corrupt", "sequence_missing", "pull_not_found"}
)


def codes() -> set[str]:
    """The codes that reading files and asking archives can end with."""
    sources = [path.read_text() for path in (ROOT / "inference" / "dicom").glob("*.py")]
    found = {code for source in sources for kind in (RAISED, CLASSED) for code in kind.findall(source)}
    return found | set(ARCHIVES.findall((ROOT / "server" / "pacs" / "errors.py").read_text()))


def test_every_reason_has_its_korean_sentence():
    page = (ROOT / "frontend_bridge" / "web" / "src" / "viewer" / "told.ts").read_text()
    korean = set(re.findall(r"^  ([a-z_0-9]+): \"", page, re.MULTILINE))

    assert len(codes()) > 25
    assert codes() - korean - NEVER_OF_AN_UPLOAD == set()
