"""A person with a wallet: every command, resumed and repeated over any number of deaths."""

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import msgspec

from agents.client import offer, recover, refund, transfer
from agents.client import pay as paying
from agents.client.inbox import receive
from agents.client.machines import MACHINES
from agents.client.resume import resume
from agents.client.store import CoinsTaken, ExchangeRow, Note, WalletStore
from agents.client.tending import tend
from agents.client.wallet import Bank, InUse, Wallet, WalletError
from agents.client.withdraw import withdraw
from agents.requester import NobodyAnswers
from broker.address import BrokerUrl
from broker.port import Link, LinkError
from protocol.derivation import Root
from protocol.errors import PeerError
from protocol.messages import OrderLine, PaymentInfo
from protocol.money import Amount
from protocol.token import Token
from protocol.wallet import payment

from .entropy import SeededEntropy
from .houses import PRICES, BankHouse, Shop
from .process import LIFE, Killed
from .world import World

REFUSED: Final = (WalletError, NobodyAnswers, PeerError, LinkError, CoinsTaken, sqlite3.Error)
"""What a command may tell its user."""
_HOUR_MS: Final = 3_600_000


class Purchase(NamedTuple):
    """An order that a wallet has been quoted: who, where, and how much; by the merchant's payment id."""

    wallet: str
    shop: Shop
    bank: str
    amount: int


class Customer:
    """A customer.

    Attributes:
        script: what is still to be done; `done` when nothing is.
        copied: whether the wallet's file is not the first one: it was restored.
        restoring: from what, as long as that has not come to its end: "backup" or "words".
        backup: an earlier copy of the file.
    """

    def __init__(self, world: World, name: str, banks: list[BankHouse], shops: list[Shop]) -> None:
        self.name = name
        self.world = world
        self.banks = banks
        self.shops = shops
        self.path = world.folder / f"{name}.db"
        self.root = Root(SeededEntropy(f"seed of {name}").bytes(64))
        self.script: list[str] = []
        self.copied = False
        self.restoring = ""
        self.backup: Path | None = None
        self.tokens: list[str] = []
        self.others: list[Customer] = []
        self.mixed_with: set[str] = set()
        self.purchases: dict[bytes, Purchase] = {}
        self.final = False
        self.done = asyncio.Event()
        self.hook: Callable[[Customer, str], Awaitable[None]] = _nothing
        self._random = world.random.__class__(f"{world.plan.seed} customer {name}")

    def live(self) -> None:
        self.world.inhabit(self.name, self._live)

    async def _live(self) -> None:
        async with WalletStore(self.path) as store:
            wallet = await self._open(store)
            await self._settle_in(wallet)
            await self._attempt("resume", lambda: resume(wallet))
            await self._recover(wallet)
            while self.script:
                if self.world.calm:
                    self.script.clear()
                    break
                what = self.script.pop(0)
                await self.hook(self, what)
                await self._attempt(what, partial(self._do, wallet, what))
                await asyncio.sleep(self._random.choice((0.1, 1, 10, 100)))
            self.done.set()
            await self._keep(wallet)

    async def _open(self, store: WalletStore) -> Wallet:
        if self.restoring in {"backup", "words"} and await store.meta("restored") is None:
            await store.restored(self.world.entropy(f"device of {self.name}").bytes(16))
            await store.set_meta("restored", b"yes")
        if await store.meta("device") is None:
            await store.set_meta("device", SeededEntropy(f"device {self.name}").bytes(16))
        wallet = Wallet(store, self.root, self._anonymous, self.world.clock(self.name), self.world.entropy(self.name))
        await wallet.start()
        return wallet

    def _anonymous(self, broker: BrokerUrl, client_id: str) -> Link:
        return self.world.network.link(client_id, persistent=False)

    async def _settle_in(self, wallet: Wallet) -> None:
        """Have an account at each bank, however often that takes."""
        for attempt in itertools.count(1):
            missing = [one for one in self.banks if not self._has_account(wallet, one)]
            if not missing:
                return
            try:
                if self.copied:
                    await recover.settle_in(wallet, missing[0].address, _yes)
                else:
                    await wallet.register(missing[0].address, missing[0].invitation(self.name))
            except REFUSED as error:
                self.world.tell(self.name, f"register: {type(error).__name__}: {error}")
                if isinstance(error, InUse) or (isinstance(error, PeerError) and "used" in str(error)):
                    self.copied = True
                await asyncio.sleep(min(20 * attempt, 3_600))

    def _has_account(self, wallet: Wallet, bank: BankHouse) -> bool:
        known = [one for one in wallet.banks if one.row.name == bank.name]
        return bool(known and known[0].row.account is not None and known[0].row.generation)

    async def _recover(self, wallet: Wallet) -> None:
        """Find everything again after a restore, however often that takes."""
        for attempt in itertools.count(1):
            if not self.restoring:
                return
            done = True
            for house in self.banks:
                bank = wallet.bank(house.name)
                keep = self._random.random() < 0.5
                what = f"recover from {self.restoring}"
                report = await self._attempt(what, partial(recover.restore, wallet, bank, keep=keep))
                done = done and report is not None
            if done:
                self.restoring = ""
            else:
                await asyncio.sleep(min(60 * attempt, 3_600))

    async def _attempt(self, what: str, work: Callable[[], Awaitable[object]]) -> object:
        """Do something as a command does; tell how it ended."""
        self.world.tell(self.name, f"begins {what}")
        try:
            done = await work()
        except REFUSED as error:
            self.world.counts[f"operation: {what.split(maxsplit=1)[0]}: {type(error).__name__}"] += 1
            self.world.tell(self.name, f"{what}: {type(error).__name__}: {error}")
            return None
        told = type(done.state).__name__ if isinstance(done, ExchangeRow) else "done"
        self.world.counts[f"operation: {what.split(maxsplit=1)[0]}: {told}"] += 1
        self.world.tell(self.name, f"{what}: {told}")
        return done

    async def _do(self, wallet: Wallet, what: str) -> object:
        house = self._random.choice(self.banks)
        bank = wallet.bank(house.name)
        match what:
            case "withdraw":
                return await withdraw(wallet, bank, Amount(self._random.randint(1, 30), house.currency))
            case "buy":
                return await self._buy(wallet, house)
            case "give":
                return await self._give(wallet, bank, house)
            case "receive":
                return await self._receive(wallet)
            case "refund":
                return await self._refund(wallet)
            case "redeem":
                return await recover.put_back(wallet, bank, None)
            case "recover":
                return await recover.restore(wallet, bank, keep=self._random.random() < 0.5, gap=5)
            case "tend":
                return await tend(wallet, bank, up_to=20)
            case "resume":
                return await resume(wallet)
            case "spend twice":
                await self._spend_twice(wallet, house)
                return None
            case "back up":
                self.backup = self.path.with_suffix(".backup")
                self.back_up(self.backup)
                return None
            case "lose the file" | "lose everything":
                return self._lose("backup" if self.backup and what == "lose the file" else "words")
            case "wait":
                await asyncio.sleep(self._random.choice((600, 4_000, 40_000)))
                return None
            case "wait for days":
                await asyncio.sleep(self._random.choice((1, 3, 8, 12)) * 86_400)
                return None
            case _:
                raise ValueError(what)

    async def _buy(self, wallet: Wallet, house: BankHouse) -> ExchangeRow:
        shop, sku = self._random.choice(self.shops), self._random.choice(list(PRICES))
        async with wallet.presence(house.address.broker) as requester:
            lines = [OrderLine(f"{sku}-{house.currency.lower()}", 1)]
            quote = await paying.order(wallet, wallet.bank(house.name), shop.name, lines, requester)
            self.purchases[quote.payreq.payment_id] = Purchase(self.name, shop, house.name, quote.payreq.amount)
            return await offer.pay_once(wallet, quote, requester, patience_ms=self._random.choice((0, 3_000, 20_000)))

    async def _spend_twice(self, wallet: Wallet, house: BankHouse) -> None:
        """Pay with the wallet and with a copy of it at the same time; then find out what is left."""
        self.copied = True
        copy = self.path.with_suffix(".copy")
        remove(copy)
        self.back_up(copy)
        async with WalletStore(copy) as store:
            other = Wallet(
                store,
                self.root,
                self._anonymous,
                self.world.clock(self.name),
                self.world.entropy(f"{self.name}'s copy"),
            )
            await other.start()
            both = (self._buy(one, house) for one in (wallet, other))
            for told in await asyncio.gather(*both, return_exceptions=True):
                if isinstance(told, BaseException) and not isinstance(told, REFUSED):
                    raise told
                self.world.tell(self.name, f"spends twice: {type(getattr(told, 'state', told)).__name__}")
        self.restoring = "both copies"
        await self._recover(wallet)

    async def _give(self, wallet: Wallet, bank: Bank, house: BankHouse) -> ExchangeRow:
        amount = Amount(self._random.randint(1, 8), house.currency)
        row = await transfer.give(wallet, bank, transfer.Gift(amount, "", self._random.choice((1, 1, 7))))
        to = self._random.choice(self.others)
        to.tokens.append(str(await transfer.token_of(wallet, row)))
        self.mixed_with |= {self.name, to.name}
        self.world.tell(self.name, f"gives {amount} to {to.name}")
        return row

    async def _receive(self, wallet: Wallet) -> object:
        if not self.tokens:
            return None
        token = Token.parse(self._random.choice(self.tokens))
        return (await receive(wallet, wallet.bank(token.bank), token)).row

    async def _refund(self, wallet: Wallet) -> object:
        rows = [row for row in await wallet.store.exchanges() if row.kind == "pay" and not row.open]
        if not rows:
            return None
        row = self._random.choice(rows)
        purchase = self.purchases.get(bytes.fromhex(row.number))
        if purchase is not None:
            amount = self._random.randint(1, purchase.amount)
            name, payment_id = f"{purchase.shop.name}-office", bytes.fromhex(row.number)
            await self.world.run_once(name, lambda: purchase.shop.grant(payment_id, amount))
        return await refund.collect(wallet, row, patience_ms=20_000)

    async def _keep(self, wallet: Wallet) -> None:
        """Look after the wallet until the world ends."""
        while True:
            rows = await wallet.store.exchanges(only_open=True)
            now = wallet.clock.now()
            due = min((row.wake_at for row in rows), default=now + 12 * _HOUR_MS)
            await wallet.clock.sleep_until(min(max(now + 60_000, due), now + 12 * _HOUR_MS))
            self.final = False
            for house in self.banks:
                if self.world.calm:
                    await self._attempt("tend", partial(self._tend, wallet, house))
                else:
                    await self._attempt("resume", lambda: resume(wallet))
            self.final = True

    async def _tend(self, wallet: Wallet, house: BankHouse) -> None:
        """Do what an owner does in the end: look after the coins, and redeem those of a revoked key.

        What a lost or another copy of the file had under way may have been paid since: the bank is asked once more.
        """
        if self.copied:
            await recover.restore(wallet, wallet.bank(house.name), keep=True, gap=5)
        await tend(wallet, wallet.bank(house.name), up_to=20)
        await recover.redeem_revoked(wallet, wallet.bank(house.name))

    def _lose(self, restoring: str) -> NoReturn:
        """Lose the machine; go on with the earlier copy of the file, or with the words alone."""
        self.copied, self.restoring = True, restoring
        life = LIFE.get()
        if life is not None:
            life.kill(f"with its disk; {restoring} are left")
        remove(self.path)
        if restoring == "backup" and self.backup is not None:
            shutil.copyfile(self.backup, self.path)
        raise Killed

    def back_up(self, target: Path) -> None:
        """Copy the wallet's file as it is at this moment."""
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")

    def money(self) -> dict[tuple[str, str], int]:
        """Return the worth of the coins by bank and state, as the file says."""
        with contextlib.suppress(sqlite3.OperationalError), closing(sqlite3.connect(self.path)) as db:
            query = "SELECT bank, state, sum(value) FROM coin WHERE state <> 'spent' GROUP BY bank, state"
            return {(bank, state): worth for bank, state, worth in db.execute(query)}
        return {}

    def secrets(self) -> set[bytes]:
        """Return the serial numbers and signatures of the coins, as the file says."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            return {secret for row in db.execute("SELECT serial, signature FROM coin") for secret in row}

    def paid(self) -> set[bytes]:
        """Return the merchants' ids of the payments that were made, as the file says."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT state, note FROM exchange WHERE kind = 'pay'").fetchall()
        notes = [msgspec.msgpack.decode(note, type=Note) for state, note in rows if _is_paid(state)]
        return {PaymentInfo.decode(note.info).payment_id for note in notes}


def remove(database: Path) -> None:
    """Remove a SQLite file, and what lies beside it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def _is_paid(state: bytes) -> bool:
    return isinstance(MACHINES["pay"].states.decode(state), payment.Paid | payment.Unreceipted)


async def _yes(_: str) -> bool:
    return True


async def _nothing(customer: Customer, what: str) -> None:
    """Do nothing before an operation."""
