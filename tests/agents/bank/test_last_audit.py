import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agents.bank.audit import Report
from agents.bank.last_audit import keep, last_audit
from tests.agents.bank.offline import leave, type_in
from tests.agents.byhand import Purse
from tests.agents.world import Town


@pytest.fixture
async def home(founded: Town, purse: Purse) -> Path:
    assert purse.coins
    return await leave(founded)


def test_the_command_keeps_what_it_has_found(home: Path) -> None:
    assert last_audit(home) is None
    assert type_in(home, "audit").code == 0
    kept = last_audit(home)
    assert kept is not None
    assert (kept.ok, kept.faults, kept.totals["USD"].outstanding) == (True, 0, 13)
    with closing(sqlite3.connect(home / "books.db")) as db:
        db.execute("UPDATE funding SET amount = amount + 1")
        db.commit()
    assert type_in(home, "audit").code == 1
    later = last_audit(home)
    assert later is not None
    assert later.at >= kept.at
    assert (later.ok, later.faults) == (False, 2)
    written = json.loads((home / "last-audit.json").read_text())
    assert written["totals"]["USD"]["cash"] == later.totals["USD"].cash


def test_an_audit_counts_even_if_it_cannot_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "file"
    home.touch()
    with caplog.at_level(logging.WARNING):
        keep(home, Report({}, []), 0)
    assert "cannot be written" in caplog.text
