import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from agents.bank.audit import Report
from agents.bank.auditing import judge
from agents.bank.last_audit import last_audit
from tests.agents.bank.web.conftest import Operator


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set, it lets audits come to their end."""
    event = threading.Event()

    def wait_and_judge(books: Any) -> Report:
        event.wait()
        return judge(books)

    monkeypatch.setattr("agents.bank.web.auditor.judge", wait_and_judge)
    yield event
    event.set()


async def test_an_audit_is_begun_watched_and_kept(trade: Operator, verdict: threading.Event) -> None:
    assert "The books were never audited." in await trade.see("/audit")
    trade.app.state.stopping = asyncio.Event()
    running = await trade.send("/audit", "/")
    assert "The books are being audited" in running
    assert 'data-events="/audit/events"' in (await trade.browser.get("/audit")).text
    assert "An audit is running" in await trade.see("/")
    verdict.set()
    events = (await trade.browser.get("/audit/events")).text
    (told,) = (json.loads(line.removeprefix("data: ")) for line in events.splitlines() if line.startswith("data:"))
    assert told["done"]
    assert "The books balance" in told["html"]["audit"]
    assert "The books balance: no fault was found." in await trade.see("/audit")
    kept = last_audit(trade.home)
    assert kept is not None
    assert (kept.at, kept.ok, kept.faults) == (trade.town.clock.now(), True, 0)
    assert kept.totals["USD"].outstanding == 13
    assert "Its result The books balance" in await trade.see("/")


async def test_faults_are_listed(trade: Operator) -> None:
    with closing(sqlite3.connect(trade.home / "books.db")) as db:
        db.execute("UPDATE funding SET reference = '<b>', amount = amount + 1 WHERE reference = 'takings'")
        db.commit()
    trade.auditor.start()
    await trade.auditor.finished()
    page = await trade.see("/audit")
    assert "The books do not balance: 2 faults were found." in page
    assert f"funding '<b>': 101 for account {trade.town.shop_number}, but journal" in page
    assert "Its result 2 faults " in await trade.see("/")


async def test_there_is_one_audit_at_a_time(trade: Operator) -> None:
    assert trade.auditor.start()
    assert not trade.auditor.start()
    await trade.auditor.finished()
    assert trade.auditor.start()


async def test_an_audit_that_fails_says_nothing_about_the_books(trade: Operator) -> None:
    (trade.home / "keys/identity").unlink()
    trade.auditor.start()
    await trade.auditor.finished()
    assert "The audit did not come to an end" in await trade.see("/audit")
    assert last_audit(trade.home) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"at": "now"}'])
async def test_a_last_audit_that_cannot_be_read_is_none(operator: Operator, content: bytes) -> None:
    (operator.home / "last-audit.json").write_bytes(content)
    assert "Last audit never" in await operator.see("/")


async def test_what_the_command_has_found_is_shown(operator: Operator) -> None:
    kept = {"at": 1_700_000_000_000, "ok": False, "faults": 2, "totals": {}}
    (operator.home / "last-audit.json").write_bytes(msgspec.json.encode(kept))
    assert "The last audit found 2 faults." in await operator.see("/audit")
