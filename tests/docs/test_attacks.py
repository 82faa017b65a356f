"""What `docs/attacks.md` names exists: every test, and a row for every fault of the catalogue."""

import ast
import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "attacks.md").read_text("utf-8")
FAULTS: Final = (
    *chain(range(101, 109), range(111, 117), range(121, 129), range(131, 138), range(141, 147), range(151, 157)),
    *chain(range(161, 163), range(171, 176), range(181, 183)),
    *chain(range(201, 214), range(301, 317), range(401, 413), range(501, 517), range(601, 624)),
    *chain(range(701, 713), range(801, 814), range(901, 906), range(951, 957)),
)
"""Deaths at a step; broker and network; disk, clock, process; races; parties; values; formats; the broker; overload."""
_CODE: Final = re.compile(r"`([\w/.]+)(?:::(\w+))?`")
NAMED: Final = {(path, name) for path, name in _CODE.findall(PAGE) if "/" in path}
PATHS: Final = sorted({path for path, _ in NAMED})
ROWS: Final = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| ")]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's tests, without `test_`."""
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    found = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name.removeprefix("test_") for name in found if name.startswith("test_"))


def test_there_is_something_to_look_at() -> None:
    assert len(NAMED) > 100
    assert len(FAULTS) == 50 + 13 + 16 + 12 + 16 + 23 + 12 + 13 + 5 + 6


@pytest.mark.parametrize("path", PATHS)
def test_what_is_named_exists(path: str) -> None:
    assert (ROOT / "tests" / path).exists()
    assert {name for there, name in NAMED if there == path and name} <= (names_in(path) if path[-1] != "/" else set())


def test_every_fault_has_its_row() -> None:
    assert [int(row[0]) for row in ROWS if row[0].isdigit()] == list(FAULTS)


def test_every_row_says_what_shows_it_or_that_nothing_does() -> None:
    for row in ROWS:
        assert all(row[:3]), row
        if not row[3]:
            assert row[1] == "open", row
