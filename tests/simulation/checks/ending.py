"""The end of a world: the faults stop, and then everything must finish, and everybody has what is theirs."""

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Final

import msgspec

from agents.merchant.store import _REFUND, _SALE
from protocol.merchant import refund, sale

from ..customer import Customer, Purchase
from ..faults import Trouble
from ..houses import BankHouse, Shop
from ..world import World

_HOUR_S: Final = 3_600.0
_ROUNDS: Final = (_HOUR_S, *[6 * _HOUR_S] * 8, *[48 * _HOUR_S] * 12)
"""So long everything has, after the last fault, to come to its end; tokens are good for up to a week."""


class Ending:
    """Ends a world; `spoil` spoils it before everybody's money is counted."""

    def __init__(
        self,
        world: World,
        banks: list[BankHouse],
        shops: list[Shop],
        customers: list[Customer],
        trouble: Trouble,
        spoil: Callable[[World], None],
    ) -> None:
        self._world = world
        self._spoil = spoil
        self._banks = banks
        self._shops = shops
        self._customers = customers
        self._trouble = trouble

    async def play(self) -> None:
        """Stop the faults, let time pass until nothing is open, and look who has what."""
        await self._calm()
        left: list[str] = []
        for pause in _ROUNDS:
            await asyncio.sleep(pause)
            left = list(self._unfinished())
            if self._world.failures or not left:
                break
            for shop in self._shops:
                for bank in self._banks:
                    await self._world.run_once(f"{shop.name}-office", partial(shop.pay_out, bank, "0.01"))
        for what in left:
            self._world.fail(f"E14: {what}")
        if not self._world.failures:
            self._spoil(self._world)
            await asyncio.sleep(1)
            for fault in self._wrong_money():
                self._world.fail(fault)
            self._world.knowledge.check_links()
            self._world.knowledge.check_shops({secret for one in self._customers for secret in one.secrets()})

    async def _calm(self) -> None:
        world = self._world
        world.tell("world", "the faults are over")
        world.calm = True
        self._trouble.end()
        world.network.heal()
        world.skews.clear()
        for life in world.all_lives:
            life.doom = 0
            life.crash_at("", 0)
        world.network.stop(forget_sessions=False, forget_retained=False)
        await asyncio.sleep(5)
        world.network.up = True
        for name in sorted(world.lives):
            world.start(name)

    def _unfinished(self) -> Iterator[str]:
        for name, life in sorted(self._world.lives.items()):
            if life.dead:
                yield f"{name} is not running"
        for customer in self._customers:
            if not customer.final or customer.script:
                yield f"{customer.name} has not looked after the wallet"
            db = self._world.readers.read(customer.path)
            for kind, exchange_id, state in db.execute("SELECT kind, id, state FROM exchange WHERE open"):
                yield f"{customer.name}: {kind} {exchange_id.hex()[:8]} is open, {msgspec.msgpack.decode(state)[0]}"
            query = "SELECT denomination, state FROM coin WHERE state NOT IN ('free', 'spent')"
            for denomination, state in db.execute(query):
                if denomination not in self._revoked():  # good only for redemption, up to what was withdrawn
                    yield f"{customer.name}: a coin is {state}"
        for shop in self._shops:
            db = self._world.readers.read(shop.path)
            for table in ("sale", "deposit", "refund", "payout"):
                [(count,)] = db.execute(f"SELECT count(*) FROM {table} WHERE open").fetchall()
                if count:
                    yield f"{shop.name}: {count} of {table} open"
            [(count,)] = db.execute("SELECT count(*) FROM asked WHERE answer IS NULL").fetchall()
            if count:
                yield f"{shop.name}: {count} requests are not answered"

    def _revoked(self) -> set[bytes]:
        return {key for bank in self._banks for key in bank.keysets[-1].revoked}

    def _wrong_money(self) -> Iterator[str]:
        purchases = {key: value for one in self._customers for key, value in one.purchases.items()}
        sold, refunded = self._sold(), self._refunded()
        for bank in self._banks:
            accepted = _accepted(bank)
            yield from self._goods_iff_paid(bank, accepted, sold, purchases)
            yield from self._owners(bank, accepted, refunded, purchases)

    def _sold(self) -> set[bytes]:
        found: set[bytes] = set()
        for shop in self._shops:
            db = self._world.readers.read(shop.path)
            rows = db.execute("SELECT payment_id, state FROM sale").fetchall()
            found |= {payment_id for payment_id, state in rows if isinstance(_SALE.decode(state), sale.Sold)}
        return found

    def _refunded(self) -> Counter[bytes]:
        found: Counter[bytes] = Counter()
        for shop in self._shops:
            db = self._world.readers.read(shop.path)
            for payment_id, amount, state in db.execute("SELECT payment_id, amount, state FROM refund"):
                found[payment_id] += amount if isinstance(_REFUND.decode(state), refund.Refunded) else 0
        return found

    def _goods_iff_paid(
        self, bank: BankHouse, accepted: set[bytes], sold: set[bytes], purchases: dict[bytes, Purchase]
    ) -> Iterator[str]:
        here = {key for key, one in purchases.items() if one.bank == bank.name}
        for payment_id in accepted - sold:
            yield f"E10: {payment_id.hex()[:8]} was paid, and no goods were given"
        for payment_id in (sold & here) - accepted:
            yield f"E10: the goods of {payment_id.hex()[:8]} were given, and it was not paid"
        paid = set[bytes]()
        for customer in self._customers:
            paid |= customer.paid()
        lost = {key for one in self._customers if one.copied for key in one.purchases}
        for payment_id in ((accepted & here) ^ (paid & here)) - lost:
            yield f"E10: bank and buyer do not agree whether {payment_id.hex()[:8]} was paid"

    def _owners(
        self, bank: BankHouse, accepted: set[bytes], refunded: Counter[bytes], purchases: dict[bytes, Purchase]
    ) -> Iterator[str]:
        """Each group of wallets that gave each other coins has what it put in, less what it bought; so each shop."""
        balances, commission = _balances(bank)
        due: defaultdict[str, int] = defaultdict(int, bank.funded)
        for payment_id in sorted(accepted):
            bought = purchases[payment_id]
            due[bought.wallet] -= bought.amount - refunded[payment_id]
            due[bought.shop.name] += bought.amount - refunded[payment_id]
        has: Counter[str] = Counter({name: balances[number] for name, number in bank.accounts.items()})
        for customer in self._customers:
            has[customer.name] += sum(worth for (name, _), worth in customer.money().items() if name == bank.name)
        for shop in self._shops:
            due[shop.name] -= _paid_out(bank, bank.accounts[shop.name])
        for group in self._groups():
            owed, held = sum(due[name] for name in group), sum(has[name] for name in group)
            if held > owed or held < owed - commission:
                yield f"E9: {', '.join(group)} should have {owed} at {bank.name}, less commission, and have {held}"
        if sum(due.values()) - sum(has.values()) != commission:
            total = sum(has.values())
            yield f"E9: all should have {sum(due.values())} at {bank.name}, less {commission}, and have {total}"

    def _groups(self) -> list[list[str]]:
        groups = [[shop.name] for shop in self._shops]
        mixed = sorted({name for one in self._customers for name in one.mixed_with})
        return [*groups, *([mixed] if mixed else []), *([one.name] for one in self._customers if one.name not in mixed)]


def _accepted(bank: BankHouse) -> set[bytes]:
    with closing(sqlite3.connect(f"file:{bank.path}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute("SELECT payment_id FROM payment WHERE accepted")}


def _balances(bank: BankHouse) -> tuple[Counter[int], int]:
    with closing(sqlite3.connect(f"file:{bank.path}?mode=ro", uri=True)) as db:
        sums = dict(db.execute("SELECT ledger, sum(amount) FROM entry GROUP BY ledger"))
    accounts = {ledger.partition("/")[2]: amount for ledger, amount in sums.items() if ledger.startswith("account/")}
    commission = sum(amount for ledger, amount in sums.items() if ledger.startswith("commission/"))
    return Counter({int(number): amount for number, amount in accounts.items()}), commission


def _paid_out(bank: BankHouse, account: int) -> int:
    """Return what has left an account as payouts and was not returned."""
    with closing(sqlite3.connect(f"file:{bank.path}?mode=ro", uri=True)) as db:
        query = (
            "SELECT coalesce(sum(amount), 0) FROM payout WHERE account = ? "
            "AND number NOT IN (SELECT payout FROM payout_return)"
        )
        [(amount,)] = db.execute(query, [account]).fetchall()
    return int(amount)
