"""What the linters do not count: lengths, leftovers, and a test module for each module of the protocol."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.refusals import TABLE, Refusal

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("protocol", "agents", "broker") for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MODULES = [path.relative_to(ROOT / "protocol") for path in (ROOT / "protocol").rglob("*.py")]
MODULES = sorted(path for path in MODULES if path.name != "__init__.py")
PAGE = ROOT / "docs" / "protocol.md"

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    return path.as_posix().removeprefix(f"{ROOT.as_posix()}/")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the name to the end, but for the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 20
    assert len(SOURCES) > len(MODULES)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


# Parsed before any test runs: CPython 3.11 fails in `ast.parse` when the garbage collector calls back meanwhile.
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_function_fits_on_a_screen(path: Path) -> None:
    long = {one.name: length(one) for one in functions(TREES[path]) if length(one) > LONGEST_FUNCTION}
    assert not long


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_nothing_is_left_to_do(path: Path) -> None:
    marks = "|".join(("TO" + "DO", "FIX" + "ME"))
    assert not re.search(rf"\b({marks})\b", path.read_text())


@pytest.mark.parametrize("module", MODULES, ids=Path.as_posix)
def test_every_module_of_the_protocol_has_its_tests(module: Path) -> None:
    assert (ROOT / "tests" / "protocol" / module.parent / f"test_{module.name}").is_file()


@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal_is_in_the_table(refusal: Refusal) -> None:
    assert TABLE[refusal].meaning


@pytest.mark.skipif(not PAGE.exists(), reason="the page is not in this tree")
@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal_is_documented(refusal: Refusal) -> None:
    assert f"`{refusal.value}`" in PAGE.read_text()
