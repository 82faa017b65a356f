"""A second bank, in another currency, in the same town."""

from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from agents.address import BankAddress
from agents.bank import home as bank_home
from agents.bank.agent import BankAgent
from agents.bank.audit import audit
from agents.bank.signer import SoftwareSigner
from agents.bank.sqlite import SqliteBooks
from agents.client import pay as paying
from agents.client.store import ExchangeRow
from agents.client.wallet import Bank, Wallet
from agents.invitation import hash_invitation
from protocol.keyset import KeyRing
from protocol.messages import OrderLine
from tests.agents.world import BROKER, CATALOG, SHOP, START, Mint, Town, running
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy

SOUTH: Final = "south"
SETTINGS: Final = bank_home.Settings(
    SOUTH,
    "EUR",
    BROKER,
    "presence-of-south",
    refund_commission="10%",
    payout_commission="1",
    largest_denomination=4,
    max_coins=12,
    mint_days=36_500,
    spend_days=36_600,
    redeem_days=36_700,
)
EURO_CATALOG: Final = (
    CATALOG
    + """
[[item]]
sku = "verse"
title = "A slim volume of verse"
price = "0.11 EUR"
"""
)


@cache
def mint() -> Mint:
    """The second bank of all tests."""
    folder = Path(mkdtemp(prefix="ecash-south-"))
    keyset = bank_home.create(folder, SETTINGS, VirtualClock(START), SeededEntropy("south"))
    keys = bank_home.keys_of(folder)
    announcement = bank_home.sign_keyset(keys.identity, keyset)
    return Mint(folder, keyset, keys, announcement, SoftwareSigner(keys.denominations, threads=1))


class South:
    """The bank, its books, and the ways to start and stop it."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.mint = mint()
        self.ring = KeyRing(self.mint.keyset)
        fingerprint = bank_home.address_of(SETTINGS, self.mint.keys.identity).fingerprint
        self.address = BankAddress(SOUTH, town.address.broker, fingerprint)
        self.books: SqliteBooks
        self.shop_number = 0
        self._stack = AsyncExitStack()

    async def found(self) -> None:
        """Open the books, and an account for the town's shop, which shall know of it."""
        await self._open()
        await self.books.add_keyset(0, self.mint.announcement)
        invitation = bytes(15) + b"s"
        opened = await self.books.open_account("merchant", SHOP, "Le Livre", "EUR", b"", hash_invitation(invitation))
        self.shop_number = opened.number
        self.town.shop_banks.append(str(self.address))
        self.town.shop_invitations[SOUTH] = invitation
        self.town.catalog = EURO_CATALOG

    async def _open(self) -> None:
        books = SqliteBooks(self.town.folder / "south.db", self.town.clock.now)
        self.books = await self._stack.enter_async_context(books)

    async def start(self) -> None:
        """Let the bank serve."""
        m = self.mint
        agent = BankAgent(m.keyset, m.announcement, m.keys, self.books, m.signer, self.town.clock)
        link = self.town.connect("south-presence", persistent=True)
        await self._stack.enter_async_context(link)
        await self._stack.enter_async_context(running(agent.run(link)))

    async def stop(self) -> None:
        """Stop the bank and close its books."""
        await self._stack.aclose()

    async def restart(self) -> None:
        """Stop the bank, open its books anew, and let it serve."""
        await self.stop()
        await self._open()
        await self.start()

    async def customer(self, wallet: Wallet, name: str, amount: int) -> Bank:
        """Register a wallet and put money into its account."""
        secret = SeededEntropy(f"southern invitation of {name}").bytes(16)
        account = await self.books.open_account("client", name, name.title(), "EUR", b"", hash_invitation(secret))
        await self.books.credit(account.number, amount, f"cash of {name}")
        await wallet.register(self.address, secret)
        return wallet.bank(SOUTH)

    async def faults(self) -> list[str]:
        """What the bank's audit finds wrong."""
        denominations = {key: (d.value, d.currency) for key, d in self.ring.items()}
        return audit(await self.books.snapshot(), denominations).faults


async def buy_at(wallet: Wallet, bank: str, sku: str, patience_ms: int = 20_000) -> ExchangeRow:
    """Order and pay with coins of this bank."""
    async with wallet.presence(wallet.bank(bank).address.broker) as requester:
        quote = await paying.order(wallet, wallet.bank(bank), SHOP, [OrderLine(sku, 1)], requester)
        return await paying.pay(wallet, quote, requester, patience_ms=patience_ms)
