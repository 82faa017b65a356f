"""What is fuzzed: each target takes bytes to where they would arrive, and says what became of them."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Final

from agents.client.wallet import Wallet
from broker.port import Incoming, Outgoing
from protocol import topics
from protocol.envelope import Letter, seal, seal_letter
from protocol.messages import AccountRequest, Payreq
from protocol.wallet import payment
from protocol.wallet.paying import open_catalog
from tests.agents.byhand import Caller, client, shopkeeper
from tests.agents.world import BANK, SHOP, START, Town, cash, simulated
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network
from tests.world import seed

from .desks import BareBooks, BareDesk, desk_targets, samples, sealed
from .files import file_targets
from .forms import RAW
from .plain import plain_targets
from .shop import Sold, shop_targets
from .target import DROPPED, INSIDE, TAKEN, Target
from .wallets import told_wallet, wallet_targets
from .web import web_targets
from .words import word_targets

_MONEY: Final = (
    "account",
    "entry",
    "export",
    "funding",
    "issued",
    "payout",
    "payout_return",
    "redemption",
    "settlement",
    "spent",
    "withdrawal",
)
"""The tables of the bank that a refused request leaves alone; refusals themselves are kept elsewhere."""


class Deaf(Network):
    """A network that can be made to lose everything and to remember nothing."""

    deaf = False

    def publish(self, message: Outgoing) -> None:
        if not self.deaf:
            super().publish(message)


class Range:
    """A town under fire."""

    def __init__(self, town: Town, network: Deaf, wallet: Wallet, targets: list[Target]) -> None:
        self.town = town
        self.network = network
        self.wallet = wallet
        self.targets = targets

    def state(self) -> dict[str, tuple[int, ...]]:
        """Return how much there is of all that a refused input must not change."""
        with closing(sqlite3.connect(self.town.folder / "books.db")) as db:
            counts = {f"bank {name}": _row(db, f"SELECT count(*) FROM {name}") for name in _MONEY}
            counts["bank accepted"] = _row(db, "SELECT count(*) FROM payment WHERE accepted")
            counts["bank generations"] = _row(db, "SELECT sum(generation) FROM account")
        for name, file in ("shop", self.town.folder / "shop/sales.db"), ("wallet", self.town.folder / "wallet.db"):
            with closing(sqlite3.connect(file)) as db:
                tables = [table for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                counts |= {f"{name} {one}": _row(db, f"SELECT count(*) FROM {one}") for one in tables if one != "asked"}
        return counts

    async def honest(self) -> None:
        """What must still work: a purchase, and an audit."""
        self.network.deaf = False
        row = await self.town.buy(self.wallet, "card")
        assert isinstance(row.state, payment.Paid)
        assert await self.town.faults() == []


def _row(db: sqlite3.Connection, query: str) -> tuple[int, ...]:
    row: tuple[int, ...] = db.execute(query).fetchone()
    return row


async def _raw_targets(town: Town, bob: Caller) -> list[Target]:
    """The bank's topics, and the letter inside an envelope."""
    key = town.keyset.envelope_key
    letter = Letter("account", bytes(16), 1, bytes(32), bob.key, AccountRequest(b"", 0).encode())
    envelope = seal_letter(key, letter, bob.seed)
    inside = town.mint.keys.envelopes[key.key_id].open(envelope, "account")
    topic = topics.bank_request(BANK, 0, "account", "x")

    async def raw(data: bytes) -> str:
        return DROPPED if await town.bank.handle(Incoming(topic, data)) is None else TAKEN

    async def opened(data: bytes) -> str:
        return await raw(seal(key, "account", data[:INSIDE]))

    return [Target("bank: envelope", [envelope], raw, RAW), Target("bank: letter", [inside], opened)]


async def _sold(town: Town, wallet: Wallet) -> Sold:
    """Buy something of which a refund is granted."""
    row = await town.buy(wallet, "card")
    assert isinstance(row.state, payment.Paid)
    found = await town.sales.deposit(row.state.digest)
    assert found is not None
    await town.sales.grant(found.payment_id, 2, town.clock.now())
    return Sold(row.state.digest, row.note.salt)


@asynccontextmanager
async def fuzzing_range(folder: Path) -> AsyncIterator[Range]:
    """A town with a bank, a shop, and everything that is a target in it."""
    network = Deaf()
    town = Town(folder, simulated(network), VirtualClock(START))
    await town.found()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(town.close)
        await town.start_bank()
        await town.start_shop()
        number = town.shop_number
        alice, keeper = await client(town, amount=10**9), await shopkeeper(town)
        wallet = await stack.enter_async_context(town.open_wallet("wallet"))
        await town.customer(wallet, "owner", 10**6)
        await cash(wallet, 31)
        catalog = network.heard(topics.catalog(SHOP))[-1].payload
        shop = open_catalog(SHOP, catalog, town.keyset)
        sold = await _sold(town, wallet)
        told = await stack.enter_async_context(told_wallet(town, catalog))
        purse = await alice.withdraw(8)
        kinds = {name: await samples(town, alice, keeper, name) for name in ("bank", "desk")}
        books = await stack.enter_async_context(BareBooks(folder / "books.db", town.clock.now))
        mint = town.mint
        bare = BareDesk(BANK, town.ring, mint.keys, books, mint.signer, town.clock)
        stack.callback(bare.close)
        files = folder / "files"
        files.mkdir()
        payreq = _payreq(town, number)
        targets = [
            *plain_targets(town, shop, catalog, payreq, keeper.info(8)),
            *word_targets(town, purse, payreq),
            *file_targets(town, files, keeper.info(8)),
            *await _raw_targets(town, kinds["bank"]["account"].caller),
            *desk_targets("bank", sealed, kinds["bank"]),
            *desk_targets("desk", bare.ask, kinds["desk"]),
            *await wallet_targets(town, network, wallet, told, purse),
            *await shop_targets(town, sold),
            *await web_targets(town, wallet),
        ]
        network.deaf = True
        yield Range(town, network, wallet, targets)


def _payreq(town: Town, account: int) -> Payreq:
    """A payment request as the shop makes it."""
    return Payreq(
        currency="USD",
        amount=13,
        timestamp=START,
        bank=BANK,
        account=account,
        order=("1 A novel 0.13 USD",),
        payment_id=seed("payment")[:16],
        salt=bytes(16),
        expires=START + 60_000,
        deposit_before=START + 120_000,
        keyset=town.keyset.hash,
    )
