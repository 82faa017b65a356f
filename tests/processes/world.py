"""A bank, a shop and a wallet in homes of their own, made once and copied for each test, to run as processes."""

import asyncio
import itertools
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from unittest import mock

import msgspec
import pytest
from nacl.pwhash import argon2id

from agents.address import BankAddress
from agents.bank.auditing import audit_of
from agents.bank.home import settings_of
from agents.bank.service import open_books
from agents.client import pay as paying
from agents.client import seed
from agents.client.exchange import Inputs, exchange
from agents.client.service import create, open_store, open_wallet
from agents.client.store import FREE, SPENT, ExchangeRow
from agents.client.wallet import Wallet
from agents.client.withdraw import withdraw
from agents.home import save_settings
from agents.merchant.store import MerchantStore, SaleRow
from agents.world import SystemClock, SystemEntropy
from broker import embedded
from broker.address import BrokerUrl
from broker.embedded import embedded_broker
from broker.mosquitto import NotInstalled, mosquitto_broker
from protocol.merchant import sale
from protocol.messages import OrderLine
from protocol.money import Amount
from protocol.wallet import withdrawal
from tests.conftest import free_port

from .process import PASSPHRASE, Finished, Process, Processes, agent, processes

FUNDED: Final = 50
WITHDRAWN: Final = 20
PRICE: Final = 13
COMMISSION: Final = "10%"
WITHDRAWAL_COMMISSION: Final = 2
DEPOSIT_COMMISSION: Final = 1
LARGEST: Final = 4
"""Coins are worth 1, 2, 4, 8 and 16 cents: few keys, for a bank that starts fast."""
CATALOG: Final = """
[[item]]
sku = "song"
title = "A song"
price = "0.13 USD"
goods = "https://shop.example/song.flac"

[[item]]
sku = "album"
title = "An album"
price = "0.15 USD"
goods = "https://shop.example/album.zip"
"""
BIG: Final = 16
"""What each coin of the rich Alice is worth; exchanged, it makes an album's price, and 5 % commission."""
BIG_COINS: Final = 24
RICHES: Final = 2000
ACH: Final = {
    "ach_destination": "021000021",
    "ach_destination_name": "FIRST BANK",
    "ach_origin": "1234567890",
    "ach_company_name": "TOWN BANK",
    "ach_company_id": "1234567890",
    "ach_odfi": "02100002",
}

CHEAP: Final = mock.patch.object(seed, "LIGHT", (argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN))
"""While this context is open, passphrases are stretched by nothing, so that wallets open at once ever after."""


class Reckoning(NamedTuple):
    """What everybody has in the end; amounts in cents. `wallet` is the value of the coins there, by state."""

    alice: int
    shop: int
    minted: int
    deposited: int
    wallet: dict[str, int]
    exchanges: list[ExchangeRow]
    sales: list[SaleRow]


class World:
    """Homes in a folder, and the processes that use them."""

    def __init__(self, folder: Path, address: BankAddress, processes: Processes) -> None:
        self.folder = folder
        self.bank, self.shop, self.wallet = folder / "bank", folder / "shop", folder / "wallet"
        self.bob = folder / "bob"
        self.address = address
        self.processes = processes
        self.agents: dict[str, Process] = {}

    async def launch(
        self,
        name: str,
        crash_at: str = "",
        *,
        log: str = "info",
        before: Sequence[str] = (),
        program: Sequence[str] = (),
    ) -> None:
        """Start bank or shop and wait until it is open; `before` are words before the command, such as strace's."""
        program = program or agent({"bank": "bank", "shop": "merchant"}[name])
        options = ("run", "--home", str(self.folder / name), "--log", log)
        process = await self.processes.start([*before, *program, *options], crash_at)
        self.agents[name] = process
        await process.logs("is open")

    async def open(self, *names: str, crash_at: Mapping[str, str] | None = None, log: str = "info") -> None:
        """Start bank and shop together."""
        deaths = crash_at or {}
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self.launch(name, deaths.get(name, ""), log=log))

    async def close(self) -> None:
        """Stop bank and shop; both must end well."""
        codes = await asyncio.gather(*(process.stop() for process in self.agents.values()))
        assert set(codes) <= {0}, [process.log for process in self.agents.values()]

    async def customer(self, *arguments: object, crash_at: str = "") -> Finished:
        """Run a command of the wallet to its end, as a process."""
        command = agent("client", *arguments, "--home", self.wallet)
        return await self.processes.run(command, crash_at)

    async def look(self, crash_at: str = "") -> Finished:
        """Run the wallet's next command, which carries on what is open and changes nothing else."""
        return await self.customer("register", self.address, "--json", crash_at=crash_at)

    @asynccontextmanager
    async def wallet_here(self, name: str = "wallet") -> AsyncIterator[Wallet]:
        """Open Alice's wallet, or Bob's, in this process."""
        async with open_wallet(self.folder / name, PASSPHRASE, SystemClock(), SystemEntropy()) as wallet:
            yield wallet

    async def withdraw(self) -> ExchangeRow:
        """Withdraw 0.20 from this process."""
        async with self.wallet_here() as wallet:
            return await withdraw(wallet, wallet.bank(), Amount(WITHDRAWN, "USD"))

    async def buy(self) -> ExchangeRow:
        """Buy the song from this process."""
        async with self.wallet_here() as wallet, wallet.presence(self.address.broker) as requester:
            quote = await paying.order(wallet, wallet.bank(), "shop", [OrderLine("song", 1)], requester)
            return await paying.pay(wallet, quote, requester)

    async def reckon(self, funded: int = FUNDED) -> Reckoning:
        """Read all books when nobody runs, and check what must hold whatever has happened.

        The audit finds no fault; what was minted was deposited or is in the wallet; no coin is in two places; what
        the bank paid to the shop is what the shop sold.
        """
        report = await audit_of(self.bank)
        assert report.faults == []
        total = report.totals["USD"]
        async with open_books(self.bank, SystemClock()) as books:
            balances = {account.name: balance for account, balance in await books.accounts()}
            snapshot = await books.snapshot()
        async with open_store(self.wallet) as store:
            exchanges = await store.exchanges()
        async with MerchantStore(self.shop / "sales.db") as till:
            sales = await till.sales()
        coins = self._coins()
        by_state: dict[str, int] = {}
        for _, value, state in coins:
            by_state[state] = by_state.get(state, 0) + value
        held = sum(by_state.values()) - by_state.get(SPENT, 0)
        assert total.minted == total.deposited + held
        assert -total.cash == funded == total.accounts + total.commission + held
        assert len(snapshot.issued) == len(coins)
        assert sorted(row.serial for row in snapshot.spent) == sorted(s for s, _, state in coins if state == SPENT)
        sold = [row for row in sales if isinstance(row.state, sale.Sold)]
        assert sum(row.amount for row in sold) == total.deposited
        assert {row.payment_id for row in sold} == {row.payment_id for row in snapshot.payments if row.accepted}
        return Reckoning(balances["alice"], balances["shop"], total.minted, total.deposited, by_state, exchanges, sales)

    def _coins(self) -> list[tuple[bytes, int, str]]:
        with closing(sqlite3.connect(self.wallet / "wallet.db")) as db:
            return db.execute("SELECT serial, value, state FROM coin").fetchall()

    def move(self, folder: Path, broker: BrokerUrl, processes: Processes, **log_ins: BrokerUrl) -> "World":
        """Return a copy in another folder, at another broker; nobody may be running here."""
        old, new = self.address.broker.public.removeprefix("mqtt://"), broker.public.removeprefix("mqtt://")
        for name in ("bank", "shop", "wallet", "bob"):
            shutil.copytree(self.folder / name, folder / name)
        for path in (folder / "bank/bank.toml", folder / "shop/merchant.toml"):
            log_in = log_ins.get(path.parent.name, broker)
            path.write_text(path.read_text().replace(f"mqtt://{old}", str(log_in)).replace(old, new))
        for name in ("wallet", "bob"):
            with closing(sqlite3.connect(folder / name / "wallet.db")) as db, db:
                db.execute("UPDATE bank SET address = replace(address, ?, ?)", (old, new))
        return World(folder, self.address._replace(broker=broker), processes)


def check_nothing_happened(end: Reckoning) -> None:
    """A withdrawal was never asked for."""
    assert (end.alice, end.shop, end.minted, end.wallet) == (FUNDED, 0, 0, {})


def check_withdrawn(end: Reckoning) -> None:
    """0.20 were withdrawn, once."""
    assert (end.alice, end.shop) == (FUNDED - WITHDRAWN - WITHDRAWAL_COMMISSION, 0)
    assert (end.minted, end.deposited) == (WITHDRAWN, 0)
    assert end.wallet == {FREE: WITHDRAWN}
    assert not any(row.open for row in end.exchanges)


def check_bought(end: Reckoning) -> None:
    """0.20 were withdrawn and 0.13 of them spent, once."""
    assert (end.alice, end.shop) == (FUNDED - WITHDRAWN - WITHDRAWAL_COMMISSION, PRICE - DEPOSIT_COMMISSION)
    assert (end.minted, end.deposited) == (WITHDRAWN, PRICE)
    assert end.wallet == {FREE: WITHDRAWN - PRICE, SPENT: PRICE}
    assert not any(row.open for row in end.exchanges)


class Templates(NamedTuple):
    """Worlds to copy.

    In one Alice has 0.50 in her account, in the next she has withdrawn 0.20 of them; in the third she is rich, and has
    coins of 0.16 that no price in the shop can be made of. Her wallet comes back from `words`.
    """

    credited: World
    with_coins: World
    rich: World
    words: str


async def prepare(folder: Path, broker: BrokerUrl, processes: Processes) -> Templates:
    """Make both worlds, as people would make them."""
    address = await _make_bank(folder / "bank", broker, processes)
    world = World(folder, address, processes)
    alice = await _open_account(world, "alice")
    shop = await _open_account(world, "shop", "--kind", "merchant")
    credit = ("credit", "--home", world.bank, "1001", "0.50", "--reference", "cash")
    await processes.does(agent("bank", *credit))
    await processes.does(agent("merchant", "init", "shop", "--home", world.shop, "--bank", address))
    (world.shop / "catalog.toml").write_text(CATALOG)
    entropy = SystemEntropy()
    with CHEAP:
        words = await create(world.wallet, PASSPHRASE, entropy.bytes(seed.ENTROPY_BYTES), entropy, hard=False)
        await create(world.bob, PASSPHRASE, entropy.bytes(seed.ENTROPY_BYTES), entropy, hard=False)
    await world.launch("bank")
    claiming = await processes.start(agent("merchant", "run", "--home", world.shop, "--invitation", shop))
    await claiming.logs("is open")
    registered = await world.customer("register", address, "--invitation", alice)
    assert registered.code == 0, registered.stderr
    async with world.wallet_here("bob") as bob, bob.presence(broker) as requester:
        await bob.refresh(address, requester)
    assert await claiming.stop() == 0
    await world.close()
    (folder / "with-coins").mkdir()
    with_coins = world.move(folder / "with-coins", broker, processes)
    await with_coins.open("bank")
    assert isinstance((await with_coins.withdraw()).state, withdrawal.Issued)
    await with_coins.close()
    (folder / "rich").mkdir()
    rich = world.move(folder / "rich", broker, processes)
    await _enrich(rich)
    return Templates(world, with_coins, rich, words)


async def _enrich(world: World) -> None:
    """Give Alice money, and coins of one value only."""
    credit = ("credit", "--home", world.bank, "1001", f"{RICHES / 100:.2f}", "--reference", "more")
    await world.processes.does(agent("bank", *credit))
    await world.open("bank")
    async with world.wallet_here() as wallet:
        bank = wallet.bank()
        tariff, wanted = bank.keyset.tariff.exchange, BIG * BIG_COINS
        amount = next(sum_ for sum_ in itertools.count(wanted) if sum_ - tariff.charge(sum_) == wanted)
        assert isinstance((await withdraw(wallet, bank, Amount(amount, "USD"))).state, withdrawal.Issued)
        coins = await wallet.store.coins(bank.row.name, "USD")
        big = bank.ring.current("USD", wallet.clock.now())[BIG]
        await exchange(wallet, bank, Inputs(own=coins), [big] * BIG_COINS, amount - wanted, "tidy")
    await world.close()


async def _make_bank(home: Path, broker: BrokerUrl, processes: Processes) -> BankAddress:
    tariff = {"withdrawal": COMMISSION, "deposit": COMMISSION, "exchange": "5%", "redemption": COMMISSION}
    tariff |= {"refund": COMMISSION, "payout": COMMISSION}
    commission = [text for kind, percent in tariff.items() for text in (f"--{kind}-commission", percent)]
    options = (*commission, "--largest-denomination", LARGEST, "--broker", broker)
    await processes.does(agent("bank", "init", "--home", home, *options))
    save_settings(home, "bank", msgspec.structs.replace(settings_of(home), **ACH))
    told = await processes.does(agent("bank", "address", "--home", home))
    return BankAddress.parse(told.stdout)


async def _open_account(world: World, *arguments: str) -> str:
    opened = await world.processes.does(agent("bank", "open-account", "--home", world.bank, "--json", *arguments))
    invitation: str = opened.last_json["invitation"]
    return invitation


@contextmanager
def running_broker(engine: str, port: int, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a broker whose process can be killed."""
    if engine == "mosquitto":
        try:
            with mosquitto_broker(port, home) as broker:
                yield broker.process
        except NotInstalled as missing:
            pytest.skip(str(missing))
    else:
        with embedded._process(port, home) as process:
            yield process


@asynccontextmanager
async def world_for(kind: str, templates: Templates, folder: Path) -> AsyncIterator[World]:
    """A world where Alice can withdraw, or (with coins in hand) pay; nobody runs but a broker of its own."""
    template = templates.credited if kind == "withdraw" else templates.with_coins
    with embedded_broker(free_port(), folder / "broker") as url:
        async with processes() as started:
            yield template.move(folder, url, started)
