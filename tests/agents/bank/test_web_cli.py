import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agents.bank.offline import type_in
from tests.agents.world import copy_file, mint


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a bank; its pages end at once."""

    async def end_at_once(*_: object) -> None:
        pass

    monkeypatch.setattr("agents.bank.web.serving.serve_pages", end_at_once)
    copy_file(mint().folder / "bank.toml", tmp_path / "bank.toml")
    return tmp_path


def key_in(said: str) -> str:
    found = re.search(r"The operator's key: ([a-z2-7-]{32})\n", said)
    assert found is not None
    return found[1]


def test_it_tells_where_the_pages_are_and_the_key_which_stays(home: Path) -> None:
    first = type_in(home, "web")
    assert first.code == 0
    assert "The bank's pages: http://bank.localhost:8081/\n" in first.said
    again = type_in(home, "web", "--listen", "localhost:9000")
    assert "http://bank.localhost:9000/" in again.said
    assert key_in(again.said) == key_in(first.said)
    assert (home / "keys/web").stat().st_mode & 0o777 == 0o600


def test_a_new_key_replaces_the_old_one(home: Path) -> None:
    old, new, later = (key_in(type_in(home, "web", *words).said) for words in ((), ("--new-key",), ()))
    assert old != new == later


def test_a_key_that_is_damaged_is_told(home: Path) -> None:
    (home / "keys").mkdir()
    (home / "keys/web").write_text("abc")
    damaged = type_in(home, "web")
    assert damaged.code == 1
    assert "--new-key" in damaged.complained
    assert type_in(home, "web", "--new-key").code == 0


@pytest.mark.parametrize(
    "listen",
    ["0.0.0.0:8081", "[::]:8081", "192.168.1.5:8081", "bank.example:8081", "localhost.example:8081", ":0", "x"],
)
def test_other_machines_are_kept_away(home: Path, listen: str) -> None:
    refused = type_in(home, "web", "--listen", listen)
    assert refused.code == 1
    assert refused.complained.startswith("error: ")
    assert not (home / "keys").exists()


def test_what_is_no_bank_has_no_pages(tmp_path: Path) -> None:
    assert "no home of a bank" in type_in(tmp_path, "web").complained


def test_other_commands_do_not_wait_for_a_web_server() -> None:
    look = "import sys, agents.bank.cli; sys.exit('starlette' in sys.modules or 'uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
