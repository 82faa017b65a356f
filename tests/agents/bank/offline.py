"""A bank that is not running: its home on the disk, and what its operator types."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from agents.bank.cli import app
from tests.agents.world import Town, copy_file


class Typed(NamedTuple):
    """A command that has ended; its output without the line breaks of a narrow terminal."""

    code: int
    said: str
    complained: str

    @property
    def json(self) -> Any:
        return json.loads(self.said)


def type_in(home: Path, *words: object) -> Typed:
    """Type `ecash bank …` for the bank in this home; not from within an event loop."""
    result = CliRunner().invoke(app, [*map(str, words), "--home", str(home)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Typed(result.exit_code, result.stdout, result.stderr)


async def leave(town: Town) -> Path:
    """Stop the town's bank and return a home with its keys and books."""
    await town.stop_bank()
    home = town.folder / "home"
    for path in town.mint.folder.rglob("*"):
        if path.is_file():
            target = home / path.relative_to(town.mint.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(path, target)
    copy_file(town.folder / "books.db", home / "books.db")
    return home
