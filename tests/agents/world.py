"""One bank, one shop and some wallets in one process, over a simulated network or a real broker."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from agents.address import BankAddress
from agents.admission import UNHURRIED
from agents.bank import home as bank_home
from agents.bank.agent import BankAgent
from agents.bank.audit import audit
from agents.bank.signer import SoftwareSigner
from agents.bank.sqlite import SqliteBooks
from agents.client import pay as paying
from agents.client.pay import Quote
from agents.client.store import ExchangeRow, WalletStore
from agents.client.wallet import Bank, Wallet
from agents.client.withdraw import withdraw
from agents.invitation import hash_invitation
from agents.merchant import home as shop_home
from agents.merchant.agent import MerchantAgent
from agents.merchant.store import MerchantStore
from agents.requester import Requester
from agents.world import Clock, Entropy
from broker.address import BrokerUrl
from broker.port import Link, Outgoing
from protocol import keyset as keyset_module
from protocol import topics
from protocol.blind_rsa import check_strength
from protocol.derivation import Root
from protocol.keyset import KeyRing, Keyset
from protocol.messages import OrderLine
from protocol.money import Amount
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy
from tests.simulation.network import Network

START: Final = 1_700_000_000_000
BROKER: Final = "mqtt://127.0.0.1:1883"
BANK: Final = "north"
SHOP: Final = "bookshop"
SETTINGS: Final = bank_home.Settings(
    BANK,
    "USD",
    BROKER,
    "presence-of-the-bank",
    withdrawal_commission="10%",
    deposit_commission="10%",
    largest_denomination=4,
    max_coins=12,
    mint_days=36_500,
    spend_days=36_600,
    redeem_days=36_700,
)
CATALOG: Final = """
[[item]]
sku = "novel"
title = "A novel of manners"
price = "0.13 USD"
goods = "https://shop.example/novel.epub"

[[item]]
sku = "card"
title = "A postcard of the harbour"
price = "0.05 USD"
"""


class LinkMaker(Protocol):
    """Makes the presence of a client id."""

    def __call__(self, client: str, *, persistent: bool, will: Outgoing | None = None) -> Link: ...


class Mint(NamedTuple):
    """A bank's home as it is made once for all tests, and what was in it."""

    folder: Path
    keyset: Keyset
    keys: bank_home.BankKeys
    announcement: bytes
    signer: SoftwareSigner


@cache
def mint() -> Mint:
    """The bank of all tests. Its home is copied; its keys are made once, and judged once, for that takes 30 ms each."""
    vars(keyset_module)["check_strength"] = cache(check_strength)
    folder = Path(mkdtemp(prefix="ecash-mint-"))
    keyset = bank_home.create(folder, SETTINGS, VirtualClock(START), SeededEntropy("bank"))
    keys = bank_home.keys_of(folder)
    announcement = bank_home.sign_keyset(keys.identity, keyset)
    return Mint(folder, keyset, keys, announcement, SoftwareSigner(keys.denominations, threads=1))


class Town:
    """Everybody, and the ways to start and stop them.

    Args:
        folder: an empty one.
        connect: makes links.
        clock: everybody's.
        broker: what the addresses say.
    """

    def __init__(self, folder: Path, connect: LinkMaker, clock: Clock, broker: str = BROKER) -> None:
        self.folder = folder
        self.connect = connect
        self.clock = clock
        self.mint = mint()
        self.keyset, self.ring = self.mint.keyset, KeyRing(self.mint.keyset)
        address = bank_home.address_of(SETTINGS, self.mint.keys.identity)
        self.address = BankAddress(BANK, BrokerUrl.parse(broker), address.fingerprint)
        self.books: SqliteBooks
        self.bank: BankAgent
        self.shop: MerchantAgent
        self.sales: MerchantStore
        self.shop_number = 0
        self.shop_banks = [str(self.address)]
        self.shop_invitations = {BANK: bytes(16)}
        self.catalog = CATALOG
        self.bounds = UNHURRIED
        self._bank = AsyncExitStack()
        self._shop = AsyncExitStack()

    async def found(self) -> None:
        """Open the books and enter keyset and shop; nobody is running then."""
        await self.open_books()
        await self.books.add_keyset(0, self.mint.announcement)
        invitation = hash_invitation(bytes(16))
        account = await self.books.open_account("merchant", SHOP, "The Bookshop", "USD", b"", invitation)
        self.shop_number = account.number

    async def open_books(self) -> None:
        """Open the bank's books and make an agent of them, which does not run yet."""
        self.books = await self._bank.enter_async_context(SqliteBooks(self.folder / "books.db", self.clock.now))
        m = self.mint
        self.bank = BankAgent(m.keyset, m.announcement, m.keys, self.books, m.signer, self.clock, self.bounds)

    async def start_bank(self) -> None:
        """Let the bank serve."""
        link = self.connect("north-presence", persistent=True, will=Outgoing(topics.status(BANK), b"gone", retain=True))
        await self._bank.enter_async_context(link)
        await self._bank.enter_async_context(running(self.bank.run(link)))

    async def stop_bank(self) -> None:
        """Stop the bank and close its books."""
        await self._bank.aclose()

    async def restart_bank(self) -> None:
        """Stop the bank, open its books anew, and let it serve."""
        await self.stop_bank()
        await self.open_books()
        await self.start_bank()

    async def start_shop(self, **changes: int | str) -> None:
        """Open the shop; `changes` are its settings."""
        home = self.folder / "shop"
        usual = shop_home.Settings(SHOP, self.shop_banks, BROKER, "presence-of-the-shop")
        settings = msgspec.structs.replace(usual, **changes)
        if not home.exists():
            shop_home.create(home, settings, SeededEntropy("shop"))
            (home / "catalog.toml").write_text(self.catalog)
        keys, catalog = shop_home.keys_of(home), shop_home.catalog_of(home)
        self.sales = await self._shop.enter_async_context(MerchantStore(home / "sales.db"))
        link = self.connect(
            "bookshop-presence", persistent=True, will=Outgoing(topics.status(SHOP), b"gone", retain=True)
        )
        await self._shop.enter_async_context(link)
        entropy, invitations = self.entropy("till"), self.shop_invitations
        self.shop = MerchantAgent(
            settings, keys, catalog, self.sales, link, self.clock, entropy, invitations, self.bounds
        )
        await self._shop.enter_async_context(running(self.shop.run()))
        await asyncio.wait_for(self.shop.ready.wait(), 120)

    async def stop_shop(self) -> None:
        """Close the shop and its books."""
        await self._shop.aclose()

    async def close(self) -> None:
        await self.stop_shop()
        await self.stop_bank()

    def entropy(self, name: str) -> Entropy:
        return SeededEntropy(name)

    @asynccontextmanager
    async def open_wallet(self, name: str, *, seed: str = "", device: str = "") -> AsyncIterator[Wallet]:
        """Open a wallet in a file of its own; `seed` and `device` name another wallet that it is a copy of."""
        async with WalletStore(self.folder / f"{name}.db") as store:
            if await store.meta("device") is None:
                await store.set_meta("device", SeededEntropy(device or name).bytes(16))
            wallet = Wallet(store, root_of(seed or name), self._client, self.clock, self.entropy(f"use of {name}"))
            await wallet.start()
            yield wallet

    def _client(self, broker: BrokerUrl, client_id: str) -> Link:
        return self.connect(client_id, persistent=False)

    async def customer(self, wallet: Wallet, name: str, amount: int) -> Bank:
        """Register a wallet and put money into its account."""
        secret = SeededEntropy(f"invitation of {name}").bytes(16)
        account = await self.books.open_account("client", name, name.title(), "USD", b"", hash_invitation(secret))
        if amount:
            await self.books.credit(account.number, amount, f"cash of {name}")
        await wallet.register(self.address, secret)
        return wallet.bank()

    async def buy(self, wallet: Wallet, sku: str = "novel", patience_ms: int = 20_000) -> ExchangeRow:
        """Order and pay."""
        async with wallet.presence(self.address.broker) as requester:
            quote = await self.order(wallet, requester, sku)
            return await paying.pay(wallet, quote, requester, patience_ms=patience_ms)

    async def order(self, wallet: Wallet, requester: Requester, sku: str = "novel") -> Quote:
        return await paying.order(wallet, wallet.bank(), SHOP, [OrderLine(sku, 1)], requester)

    async def faults(self) -> list[str]:
        """What the bank's audit finds wrong."""
        denominations = {key: (d.value, d.currency) for key, d in self.ring.items()}
        return audit(await self.books.snapshot(), denominations).faults


def root_of(name: str) -> Root:
    return Root(SeededEntropy(f"seed of {name}").bytes(64))


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine beside the block; what it raises ends the test."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def cash(wallet: Wallet, amount: int) -> ExchangeRow:
    """Withdraw."""
    return await withdraw(wallet, wallet.bank(), Amount(amount, "USD"))


async def states(wallet: Wallet) -> dict[str, int]:
    """The value of the wallet's unspent coins, by state."""
    totals: dict[str, int] = {}
    for _, _, state, value, count in await wallet.store.holdings():
        totals[state] = totals.get(state, 0) + value * count
    return totals


def simulated(network: Network) -> LinkMaker:
    """Presences on a simulated network."""
    return network.link


def copy_file(source: Path, target: Path) -> None:
    """Copy a SQLite file that nobody has open."""
    shutil.copyfile(source, target)
