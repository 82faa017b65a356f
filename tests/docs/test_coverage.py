"""What `docs/coverage.md` names exists: commands with their options, guides, tests, and sections of the protocol."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest
import typer.main
from typer.core import TyperArgument, TyperGroup, TyperOption

from agents.cli import app
from docs.guides import steps

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGE: Final = (DOCS / "coverage.md").read_text("utf-8")
COMMANDS: Final = typer.main.get_command(app)
SHORT: Final = {"alice": "wallet", "bob": "wallet", "shop": "merchant", "bank": "bank"}
"""What the guides' shell functions are short for."""
_LINK: Final = re.compile(r"\[([^]]+)\]\(([^)]+)\)")
_CODE: Final = re.compile(r"`([^`]+)`")
_TYPED: Final = re.compile(r"(?:^|[|;&(] ?| (?=ecash ))(alice|bob|shop|bank|ecash)((?: [a-z-]+){1,3})")


class Row(NamedTuple):
    """The cells of a row; `name` is the first one: a number, or the capability itself."""

    name: str
    command: str
    tests: str
    section: str


def rows_of(heading: str) -> list[Row]:
    """The rows of the table under a heading."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [Row(cells[0], *cells[-3:]) for line in lines if (cells := [cell.strip() for cell in line.split("|")[1:-1]])]


LECTURE: Final = rows_of("The lecture")
ROWS: Final = [*LECTURE, *rows_of("What is missed elsewhere")]
rows: Final = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def test_every_capability_of_the_lecture_stands_once() -> None:
    assert [row.name for row in LECTURE] == [f"S{number}" for number in range(1, 56)]
    assert len({row.name for row in ROWS}) == len(ROWS) >= 55 + 16


# ---------------------------------------------------------------- commands and guides


def parse(command: str) -> tuple[str, ...]:
    """The words that name the command; its options and arguments must be such as it takes.

    Raises:
        LookupError, ValueError: it is no command of ours, or cannot be typed so.
    """
    program, *words = shlex.split(command)
    if program != "ecash":
        raise ValueError(f"{program} is not our command")
    found, names = COMMANDS, list[str]()
    while isinstance(found, TyperGroup):
        names.append(words.pop(0))
        found = found.commands[names[-1]]
    options = {name: one for one in found.params if isinstance(one, TyperOption) for name in one.opts}
    given = 0
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            given += 1
        elif not options[word].is_flag:
            words.pop(0)
    arguments = [one for one in found.params if isinstance(one, TyperArgument)]
    most = len(arguments) if all(one.nargs == 1 for one in arguments) else given
    if not sum(one.required for one in arguments) <= given <= most:
        raise ValueError(f"{command}: {given} arguments")
    return tuple(names)


@cache
def typed_in(guide: str) -> frozenset[tuple[str, ...]]:
    """The first one, two and three words of all commands that a guide types: `("wallet", "pay")`."""
    typed = set[tuple[str, ...]]()
    for step in steps((DOCS / guide).read_text("utf-8")):
        for who, words in _TYPED.findall(step.command):
            named = (SHORT[who], *words.split()) if who in SHORT else tuple(words.split())
            typed |= {named[:length] for length in (1, 2, 3)}
    return frozenset(typed)


@rows
def test_the_command_can_be_typed(row: Row) -> None:
    (command,) = _CODE.findall(row.command)
    assert parse(command)


@rows
def test_the_guide_shows_the_command(row: Row) -> None:
    (command,) = _CODE.findall(row.command)
    for name, guide in _LINK.findall(row.command):
        assert guide == f"guide/{name}.md"
        assert parse(command) in typed_in(guide)
    shown = re.sub(r" in \[.*", "", row.command)
    assert shown == f"`{command}`"


@pytest.mark.parametrize(
    "command",
    [
        "mint me 1.00",
        "ecash wallet",
        "ecash wallet fly",
        "ecash wallet pay",
        "ecash wallet withdraw 1.00 2.00",
        "ecash wallet pay shop song --fly",
        "ecash wallet pay shop song --code",
    ],
)
def test_what_cannot_be_typed_is_found_out(command: str) -> None:
    with pytest.raises((LookupError, ValueError)):
        parse(command)


# ---------------------------------------------------------------- tests


@cache
def defined_in(path: str) -> frozenset[str]:
    """The tests of a file, those of a class after the class's name."""
    found = set[str]()
    for node in ast.parse((ROOT / path).read_text("utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {
            f"{prefix}{one.name}"
            for one in members
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name.startswith("test_")
        }
    return frozenset(found)


@rows
def test_the_tests_exist(row: Row) -> None:
    named = _CODE.findall(row.tests)
    assert named
    assert ", ".join(f"`{one}`" for one in named) == row.tests
    for one in named:
        path, _, name = one.partition("::")
        assert Path(path).name.startswith("test_"), "pytest runs it"
        assert name in defined_in(path), one


# ---------------------------------------------------------------- the protocol


def anchors() -> dict[str, str]:
    """The numbers of the protocol's sections, and what a link to each ends in."""
    text = (DOCS / "protocol.md").read_text("utf-8")
    headings = re.findall(r"^#{2,3} (([0-9.]+) .+)$", text, flags=re.MULTILINE)
    return {number: re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title, number in headings}


@rows
def test_the_section_of_the_protocol_exists(row: Row) -> None:
    ((number, target),) = _LINK.findall(row.section)
    assert row.section == f"[{number}]({target})"
    assert target == f"protocol.md#{anchors()[number.removeprefix('§')]}"
