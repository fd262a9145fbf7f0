"""docs/faults.md names a test for every fault, and the tests it names are there."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.system.stack import ROOT

PAGE = ROOT / "docs" / "faults.md"
FAULTS = 38
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
CITED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = {int(number): proof for number, _, proof in ROW.findall(PAGE.read_text())}


@cache
def functions_of(path: str) -> set[str]:
    """The names of the functions in a file."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_has_its_row() -> None:
    assert list(ROWS) == list(range(1, FAULTS + 1))


@pytest.mark.parametrize("number", ROWS)
def test_what_proves_a_row_is_there(number: int) -> None:
    cited = CITED.findall(ROWS[number])

    missing = [
        f"{path}::{name}" for path, name in cited if not (ROOT / path).is_file() or name not in functions_of(path)
    ]
    assert missing == []
    assert cited or ROWS[number].startswith("not a test:")
