"""What the rich Alice does while somebody dies: one class for each exchange, and the check of all books after it."""

import itertools
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Final

from agents.bank.auditing import audit_of
from agents.bank.service import open_books
from agents.client import pay as paying
from agents.client.store import FREE, SPENT, UNVERIFIED
from agents.merchant.store import MerchantStore
from agents.world import SystemClock
from protocol.machine import State
from protocol.messages import OrderLine
from protocol.recovery import RecoverRequest
from protocol.wallet import payment

from .process import agent
from .world import BIG, FUNDED, RICHES, World

Deaths = tuple[str, ...]
"""Trace points where an agent dies: the first in the exchange, each further one in the recovery from the one before."""

_AT_THE_BANK: Final = ("opened", "posting", "posted", "answering")


async def check(world: World, paid_out: int = 0) -> None:
    """Check what must hold after every recovery, from the files alone; the bank may be running.

    The audit finds no fault; accounts, commission, clearing and coins in the wallets are what was brought in less what
    was paid out; no coin that is spent counts as money, and none is lost.
    """
    report = await audit_of(world.bank)
    assert report.faults == []
    async with open_books(world.bank, SystemClock()) as books:
        spent = {row.serial for row in (await books.snapshot()).spent}
    coins = [coin for name in ("wallet", "bob") for coin in coins_in(world.folder / name)]
    assert {serial for serial, _, state in coins if state == SPENT} <= spent
    assert not {serial for serial, _, state in coins if state in {FREE, UNVERIFIED}} & spent
    held = sum({serial: value for serial, value, _ in coins if serial not in spent}.values())
    total = report.totals["USD"]
    assert held == total.outstanding
    assert total.accounts + total.commission + total.clearing + held == FUNDED + RICHES - paid_out == -total.cash


def coins_in(wallet: Path) -> list[tuple[bytes, int, str]]:
    """Return serial number, value and state of all coins in a wallet's file."""
    with closing(sqlite3.connect(wallet / "wallet.db")) as db:
        return db.execute("SELECT serial, value, state FROM coin").fetchall()


def change(wallet: Path, *statements: str) -> None:
    """Change a wallet's file behind its back."""
    with closing(sqlite3.connect(wallet / "wallet.db")) as db, db:
        for statement in statements:
            db.execute(statement)


async def buy_albums(world: World, count: int = 1) -> str:
    """Buy albums from this process, and return the payment's id."""
    async with world.wallet_here() as wallet, wallet.presence(world.address.broker) as requester:
        quote = await paying.order(wallet, wallet.bank(), "shop", [OrderLine("album", count)], requester)
        row = await paying.pay(wallet, quote, requester)
    ended: State = row.state
    assert isinstance(ended, payment.Paid)
    return row.id.hex()


class Scenario:
    """An exchange that can be had again and again; one instance for each world."""

    deaths: ClassVar[dict[str, tuple[Deaths, ...]]]
    """How each agent dies in it."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def begin(self) -> None:
        """Make once what it needs; everybody is there."""

    async def prepare(self) -> None:
        """Make the next exchange necessary, in the wallet's file alone."""

    def command(self) -> tuple[object, ...]:
        """The words after `ecash wallet`."""
        raise NotImplementedError

    def again(self) -> tuple[object, ...]:
        """The words that carry it on; any command does that."""
        return ("register", self.world.address, "--json")

    async def act(self) -> None:
        """Have the exchange."""
        done = await self.world.customer(*self.command())
        assert done.code == 0, f"{done.stdout}\n{done.stderr}"

    async def settle(self) -> None:
        """Use up what was left by an exchange that was carried on."""


class Change(Scenario):
    """Alice pays with a coin that does not fit."""

    deaths: ClassVar = {
        "bank": tuple((f"bank.exchange.{step}",) for step in _AT_THE_BANK),
        "wallet": (
            ("wallet.counter.used",),
            ("wallet.exchange.saving",),
            ("wallet.exchange.requested",),
            ("wallet.exchange.sending",),
            ("wallet.exchange.sent", "wallet.exchange.saving:2"),
            ("wallet.exchange.exchanged",),
        ),
    }

    def command(self) -> tuple[object, ...]:
        return ("pay", "shop", "album", "--yes")

    async def settle(self) -> None:
        if any(value < BIG and state == FREE for _, value, state in coins_in(self.world.wallet)):
            await buy_albums(self.world)


class Redeem(Scenario):
    """Alice puts a coin back into her account."""

    deaths: ClassVar = {
        "bank": tuple((f"bank.redeem.{step}",) for step in _AT_THE_BANK),
        "wallet": (
            ("wallet.redeem.saving",),
            ("wallet.redeem.requested",),
            ("wallet.redeem.sending",),
            ("wallet.redeem.sent", "wallet.redeem.saving:2"),
            ("wallet.redeem.redeemed",),
        ),
    }

    def command(self) -> tuple[object, ...]:
        return ("redeem", f"{BIG / 100:.2f}")


class Recover(Scenario):
    """A coin is gone from Alice's file; the bank has kept what it derives from."""

    deaths: ClassVar = {
        "bank": tuple(
            (f"bank.{kind}.{step}",) for kind in ("recover", "fetch", "check") for step in ("opened", "answering")
        ),
        "wallet": (("wallet.recover.entered",), ("wallet.verify.weeded", "wallet.redeem.sent")),
    }

    async def prepare(self) -> None:
        lose = (
            f"DELETE FROM coin WHERE serial = (SELECT serial FROM coin WHERE state = 'free' AND value = {BIG} LIMIT 1)"
        )
        change(self.world.wallet, lose, "DELETE FROM exchange WHERE kind = 'exchange'")

    def command(self) -> tuple[object, ...]:
        return ("recover", "--gap", "1")

    again = command


class TakeOver(Scenario):
    """Another device with Alice's words takes her account over."""

    deaths: ClassVar = {
        "bank": tuple((f"bank.account.{step}",) for step in _AT_THE_BANK),
        "wallet": (("wallet.account.saving",), ("wallet.account.saved",)),
    }

    async def prepare(self) -> None:
        change(self.world.wallet, "UPDATE bank SET generation = 0, counter = 0")

    def command(self) -> tuple[object, ...]:
        return ("register", self.world.address, "--take-over", "--json")

    again = command


class Refund(Scenario):
    """The shop grants Alice a cent, and she collects it."""

    deaths: ClassVar = {
        "bank": tuple((f"bank.refund.{step}",) for step in _AT_THE_BANK),
        "shop": (
            ("merchant.refund.opened",),
            ("merchant.refund.requested.saving",),
            ("merchant.refund.requested.saved",),
            ("merchant.refund.decided", "merchant.refund.refunded.saving"),
            ("merchant.refund.refunded.saved",),
        ),
        "wallet": (
            ("wallet.refund.saving",),
            ("wallet.refund.requested",),
            ("wallet.refund.sending",),
            ("wallet.refund.sent", "wallet.refund.saving:2"),
            ("wallet.refund.collected",),
        ),
    }

    async def begin(self) -> None:
        self.payment = await buy_albums(self.world, 2)

    async def prepare(self) -> None:
        async with MerchantStore(self.world.shop / "sales.db") as till:
            await till.grant(bytes.fromhex(sale_in(self.world)), 1, SystemClock().now())

    def command(self) -> tuple[object, ...]:
        return ("refund", self.payment)


class Prove(Scenario):
    """The bank states that Alice has paid."""

    deaths: ClassVar = {"bank": (("bank.proof.opened",), ("bank.proof.answering",))}

    async def begin(self) -> None:
        self.payment, self._number = await buy_albums(self.world), itertools.count()

    def command(self) -> tuple[object, ...]:
        return ("prove", self.payment, "--out", self.world.folder / f"proof-{next(self._number)}.json")


class Inquire(Scenario):
    """Somebody asks for a verdict on a payment, and is refused: the question makes no sense."""

    deaths: ClassVar = {"bank": (("bank.verdict.opened",), ("bank.verdict.answering",))}

    async def act(self) -> None:
        async with self.world.wallet_here() as wallet:
            answer = await wallet.ask_anonymously(wallet.bank(), "verdict", RecoverRequest(0, 0))
        assert answer.refusal


class Payout(Scenario):
    """The shop has a cent paid out."""

    deaths: ClassVar = {"bank": tuple((f"bank.payout.{step}",) for step in _AT_THE_BANK)}

    async def begin(self) -> None:
        await buy_albums(self.world, 4)
        await name_destination(self.world)

    async def act(self) -> None:
        await self.world.processes.does(agent("merchant", "payout", "0.01", "--home", self.world.shop, "--json"))


async def name_destination(world: World) -> None:
    """Enter where the shop's payouts go."""
    where = ("--routing", "021000021", "--number", "12-345A", "--holder", "Blue Note")
    await world.processes.does(agent("bank", "ach", "account", "1002", *where, "--home", world.bank))


def sale_in(world: World) -> str:
    """Return the number of the only sale that is sold."""
    with closing(sqlite3.connect(world.shop / "sales.db")) as db:
        [(payment_id,)] = db.execute("SELECT hex(payment_id) FROM sale WHERE NOT open").fetchall()
    return str(payment_id).lower()


def last_of(said: str) -> dict[str, object]:
    """Return the last line of what a command has printed, read as JSON."""
    told: dict[str, object] = json.loads(said.splitlines()[-1])
    return told


SCENARIOS: Final[tuple[type[Scenario], ...]] = (Change, Redeem, Recover, TakeOver, Refund, Prove, Inquire, Payout)
