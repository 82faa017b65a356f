"""Lost coins found again, in a wallet that is there and in one made of twelve words."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.client.seed import words_of
from agents.client.web.restoring import TASK
from tests.agents.world import Town, cash, states
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

from .browser import PASSPHRASE, Browser
from .streams import in_time, updates

SEED = bytes(range(16))
WORDS = words_of(SEED)


@pytest.fixture
async def lost(town: Town) -> None:
    """The wallet of the words, with coins worth 0.40 USD and 0.60 USD in the account, is lost."""
    old = Browser(town, town.folder / "old")
    await old.vault.restore(PASSPHRASE, SEED)
    async with old.vault.wallet() as wallet:
        await town.customer(wallet, "alice", 104)
        await cash(wallet, 40)
    old.vault.lock()
    await old.client.aclose()


@pytest.fixture
async def newcomer(town: Town, lost: None, tmp_path: Path) -> AsyncIterator[Browser]:
    browser = Browser(town, tmp_path / "new")
    yield browser
    browser.vault.lock()
    await browser.client.aclose()


async def finished(browser: Browser) -> str:
    """The page of a recovery that has ended."""
    task = browser.vault.task(TASK)
    assert task is not None
    await task
    return (await browser.get("/recover/run")).text


def form(town: Town, **changes: str) -> dict[str, str]:
    filled = {"words": WORDS, "banks": str(town.address), "passphrase": PASSPHRASE, "again": PASSPHRASE}
    return filled | changes


async def test_coins_that_the_file_has_lost_come_back(
    town: Town, alice: Browser, clock: VirtualClock, network: Network
) -> None:
    async with alice.vault.wallet() as wallet:
        await cash(wallet, 40)
    async with alice.vault.store() as store:
        await store.write(lambda db: db.execute("DELETE FROM coin"))
    page = (await alice.get("/recover")).text
    assert "nobody can show them again" in page
    answer = await alice.post("/recover", keep="yes")
    assert answer.headers["location"] == "/recover/run"
    page = (await alice.get("/recover/run")).text
    assert 'data-events="/recover/run/live"' in page
    assert '<meta http-equiv="refresh"' in page
    live = updates(alice, "/recover/run/live")
    while not (update := await in_time(anext(live), clock))["done"]:
        assert "<progress" in update["html"]["run"]
    assert "In the wallet as fresh coins" in update["html"]["run"]
    page = await finished(alice)
    assert "0.40" in page
    assert "refresh" not in page
    async with alice.vault.wallet() as wallet:
        assert await states(wallet) == {"free": 40}
    assert await town.faults() == []


async def test_what_is_found_is_credited_unless_it_is_kept(town: Town, alice: Browser) -> None:
    async with alice.vault.wallet() as wallet:
        await cash(wallet, 40)
    async with alice.vault.store() as store:
        await store.write(lambda db: db.execute("DELETE FROM coin"))
    await alice.get("/recover")
    await alice.post("/recover", bank="north")
    assert "Credited to your account" in await finished(alice)
    async with alice.vault.wallet() as wallet:
        assert await states(wallet) == {}


async def test_a_wallet_that_lost_nothing_is_told_so(alice: Browser) -> None:
    await alice.get("/recover")
    await alice.post("/recover")
    assert "Nothing was lost" in await finished(alice)


async def test_without_a_recovery_there_is_nothing_to_see(owner: Browser) -> None:
    assert (await owner.get("/recover/run")).headers["location"] == "/recover"
    assert "knows no bank yet" in (await owner.get("/recover")).text
    assert (await owner.post("/recover")).headers["location"] == "/recover"
    assert (await owner.post("/recover/run/take-over", bank="north")).headers["location"] == "/recover/run"


async def test_a_bank_that_is_away_is_told_of(
    founded: Town, owner: Browser, network: Network, clock: VirtualClock
) -> None:
    await founded.start_bank()
    async with owner.vault.wallet() as wallet:
        await founded.customer(wallet, "alice", 0)
    network.loses = lambda message: "/fetch/" in message.topic
    await owner.get("/recover")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.client.wallet.backoff", lambda *_: 1)
        await owner.post("/recover")
        page = await finished(owner)
    assert "does not answer" in page
    network.loses = lambda _: False


async def test_one_recovery_at_a_time_and_locking_ends_it(alice: Browser, network: Network) -> None:
    network.loses = lambda message: "/fetch/" in message.topic
    await alice.get("/recover")
    await alice.post("/recover")
    first = alice.vault.task(TASK)
    assert first is not None
    assert "See how far it is" in (await alice.get("/recover")).text
    await alice.post("/recover")
    assert alice.vault.task(TASK) is first
    alice.vault.lock()
    await asyncio.wait({first})
    await alice.unlock()
    assert (await alice.get("/recover/run")).headers["location"] == "/recover"
    network.loses = lambda _: False


class TestTwelveWords:
    async def test_they_bring_the_wallet_back_when_its_owner_takes_the_account_over(
        self, town: Town, newcomer: Browser
    ) -> None:
        assert "twelve words" in (await newcomer.get("/restore")).text
        answer = await newcomer.post("/restore", None, **form(town, keep="yes"))
        assert answer.headers["location"] == "/recover/run"
        page = await finished(newcomer)
        assert "Another device uses your account at north" in page
        assert "Take the account over" in page
        async with newcomer.vault.wallet() as wallet:
            assert await states(wallet) == {}
        answer = await newcomer.post("/recover/run/take-over", bank="north")
        assert answer.headers["location"] == "/recover/run"
        page = await finished(newcomer)
        assert "Another device" not in page
        assert "In the wallet as fresh coins" in page
        async with newcomer.vault.wallet() as wallet:
            assert await states(wallet) == {"free": 40}
        assert await town.faults() == []
        assert (await newcomer.get("/restore")).headers["location"] == "/recover"

    async def test_what_is_wrong_is_said_and_nothing_is_made(self, town: Town, newcomer: Browser) -> None:
        await newcomer.get("/restore")
        forms = {
            "twelve words, and these are 2": {"words": "abandon abandon"},
            "misspelt": {"words": WORDS.replace(WORDS.split()[0], "<script>", 1)},
            "Which bank": {"banks": " "},
            "is no bank": {"banks": f"{town.address}\nhttp://evil.example"},
            "at least 8": {"passphrase": "short", "again": "short"},
            "not the same": {"again": "something else"},
        }
        for told, changes in forms.items():
            answer = await newcomer.post("/restore", None, **form(town, **changes))
            assert answer.status_code == 422
            assert told in answer.text
            assert PASSPHRASE not in answer.text
            assert "<script>" not in answer.text.replace('<script src="/static/site.js" defer></script>', "")
        assert not newcomer.vault.exists

    async def test_only_the_sites_own_page_makes_a_wallet(self, town: Town, newcomer: Browser) -> None:
        answer = await newcomer.post("/restore", {"Origin": "http://evil.example"}, **form(town))
        assert answer.status_code == 403
        assert not newcomer.vault.exists

    async def test_a_wallet_that_is_there_is_not_replaced(self, town: Town, lost: None, owner: Browser) -> None:
        answer = await owner.post("/restore", None, **form(town))
        assert answer.headers["location"] == "/recover"
        async with owner.vault.store() as store:
            assert await store.banks() == []
