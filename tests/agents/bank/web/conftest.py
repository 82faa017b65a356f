"""A bank with business in it, its operator's site, and a browser."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Final

import httpx
import msgspec
import pytest

from agents.bank.home import settings_of
from agents.bank.web.key import operator_key
from agents.bank.web.site import bank_site
from agents.home import save_settings
from agents.web.listen import Listen
from protocol.payout import PayoutRequest
from tests.agents.bank.test_transfers import AGREED, SHOP
from tests.agents.byhand import Caller, Purse
from tests.agents.world import Town, copy_file
from tests.simulation.entropy import SeededEntropy

HERE: Final = "http://127.0.0.1:8081"
ORIGIN: Final = {"Origin": HERE}


class Operator:
    """A browser at the operator's site of a town's bank; the town's folder is the bank's home."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.home = town.folder
        self.broker = "open, on 4 lanes"
        for path in town.mint.folder.rglob("*"):
            if path.is_file():
                target = self.home / path.relative_to(town.mint.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_file(path, target)
        self.key = operator_key(self.home, SeededEntropy("operator"))
        site = bank_site(self.home, town.books, Listen("127.0.0.1", 8081), town.clock, SeededEntropy("site"), self._ask)
        self.app, guarded, self.auditor = site
        self.browser = httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url=HERE)

    async def _ask(self) -> str:
        return self.broker

    async def enter(self) -> httpx.Response:
        """Show the key."""
        return await self.browser.post("/enter", data={"secret": self.key}, headers=ORIGIN)

    async def see(self, path: str) -> str:
        """Return the text of a page."""
        answer = await self.browser.get(path)
        assert answer.status_code == 200, answer.text
        return text_of(answer.text)

    async def send(self, path: str, form: str, **fields: str) -> str:
        """Fill in a form of the page `form`; return the text of the page that it leads to."""
        sent = await self.browser.post(path, data=fields | {"csrf": await self.csrf(form)}, headers=ORIGIN)
        assert sent.status_code == 303, sent.text
        return await self.see(sent.headers["location"])

    async def csrf(self, path: str = "/accounts") -> str:
        """Return the token in a page's forms."""
        found = re.search(r'name="csrf" value="(\w+)"', (await self.browser.get(path)).text)
        assert found is not None
        return found[1]


def text_of(page: str) -> str:
    """Return what a person reads of a page, in one line."""
    body = page[page.index("<main") :]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.fixture
async def stranger(founded: Town) -> AsyncIterator[Operator]:
    """Who has not shown the key."""
    operator = Operator(founded)
    yield operator
    await operator.auditor.close()
    await operator.browser.aclose()


@pytest.fixture
async def operator(stranger: Operator) -> Operator:
    """Who has."""
    await stranger.enter()
    return stranger


@pytest.fixture
async def trade(operator: Operator, purse: Purse, keeper: Caller) -> Operator:
    """After a withdrawal of 8, 4 and 1, and two payouts of 10 and 25 out of takings of 100."""
    assert len(purse.coins) == 3
    change(operator.home)
    books = operator.town.books
    await books.credit(operator.town.shop_number, 100, "takings")
    await books.set_destination(operator.town.shop_number, SHOP)
    for amount in (10, 25):
        assert await keeper.refusal("payout", PayoutRequest(amount, 0)) == ""
    return operator


def change(home: Path, **settings: str) -> None:
    """Enter what the operator has agreed with the bank that sends payouts, and other settings."""
    save_settings(home, "bank", msgspec.structs.replace(settings_of(home), **AGREED | settings))
