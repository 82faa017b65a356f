"""Banks and shops as they live in a simulated world: the production agents, on simulated links, clocks and disks."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from agents.bank import home as bank_home
from agents.bank.agent import BankAgent
from agents.bank.rotation import announcement_of, forget_keys, rotate
from agents.bank.service import follow_keysets, publish_totals
from agents.bank.sqlite import SqliteBooks
from agents.bank.store import DestinationRow
from agents.invitation import hash_invitation
from agents.merchant import home as shop_home
from agents.merchant.agent import MerchantAgent
from agents.merchant.desk import Desk
from agents.merchant.office import Office
from agents.merchant.store import MerchantStore
from broker.address import BrokerUrl
from broker.port import Link, Outgoing
from protocol import topics
from protocol.keyset import Keyset, read_keyset

from .broker import filters_of_lanes
from .entropy import SeededEntropy
from .founding import BROKER, CURRENCIES, copy_home, first_free_key, found, keys_from
from .world import World

PRICES: Final = {"novel": 13, "card": 5, "map": 8, "stamp": 1}
FLOAT: Final = 200
"""What a shop's account holds at first, in minor units, so that it can refund."""
WORKERS: Final = 2


class BankHouse:
    """A bank: two workers on one file, and an operator."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.world = world
        self.founded = found(name, world.plan.tariff, world.plan.epochs)
        self.address = self.founded.address
        self.currency = CURRENCIES[name]
        self.home = world.folder / name
        self.path = self.home / "books.db"
        self.workers = tuple(f"{name}-{number}" for number in range(WORKERS))
        self.funded: dict[str, int] = {}
        self.accounts: dict[str, int] = {}
        self.keysets: list[Keyset] = [read_keyset(self.founded.announcement)]

    async def found(self, customers: list[tuple[str, str, int]]) -> None:
        """Enter the keyset, and an account for each (kind, name, what it holds)."""
        copy_home(self.founded, self.home)
        keys = {key.key_id for key in self.founded.keys.envelopes.values()}
        self.world.knowledge.publish(keys, self.founded.announcement, {d.id for d in self.keysets[0].denominations})
        async with SqliteBooks(self.path, self.world.clock(self.name).now) as books:
            await books.add_keyset(0, self.founded.announcement)
            for kind, name, amount in customers:
                invitation = hash_invitation(self.invitation(name))
                opened = await books.open_account(kind, name, name.title(), self.currency, b"", invitation)
                self.accounts[name] = opened.number
                if kind == "merchant":
                    destination = DestinationRow("021000021", "12345678", "checking", name.title())
                    await books.set_destination(opened.number, destination)
                if amount:
                    await books.credit(opened.number, amount, f"cash of {name}")
                    self.funded[name] = amount

    def invitation(self, name: str) -> bytes:
        return SeededEntropy(f"invitation of {name} to {self.name}").bytes(16)

    def open(self) -> None:
        """Let the workers live."""
        for number, worker in enumerate(self.workers):
            self.world.inhabit(worker, self._serving(worker, number))

    def _serving(self, worker: str, number: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def serve() -> None:
            clock = self.world.clock(self.name)
            async with SqliteBooks(self.path, clock.now) as books:
                announcement = (await books.keysets())[-1]
                keyset, keys = read_keyset(announcement), bank_home.keys_of(self.home)
                signer = self.founded.signer
                await asyncio.to_thread(signer.add, keys.denominations)
                agent = BankAgent(keyset, announcement, keys, books, signer, clock)
                will = Outgoing(topics.status(self.name), b"gone", retain=True)
                async with self._link(worker, number, keyset, will) as link, asyncio.TaskGroup() as group:
                    group.create_task(agent.run(link))
                    group.create_task(follow_keysets(agent, self.home, books, signer, clock, link))
                    if number == 0:
                        group.create_task(publish_totals(agent, books, keys.identity, clock, link))

        return serve

    def _link(self, worker: str, number: int, keyset: Keyset, will: Outgoing) -> Link:
        lanes = range(keyset.limits.lanes)
        admits = None if self.world.plan.shared_lanes else filters_of_lanes(lanes[number::WORKERS])
        return self.world.network.link(f"{worker}-presence", persistent=True, will=will, admits=admits)

    async def operate(self, what: str) -> None:
        """Do what the operator does with the books, beside the bank that is open."""
        clock = self.world.clock(self.name)
        async with SqliteBooks(self.path, clock.now) as books:
            match what:
                case "rotate" | "revoke":
                    await self._new_keys(books, revoke=what == "revoke")
                case "payouts":
                    await self._transfers(books)

    async def _new_keys(self, books: SqliteBooks, *, revoke: bool) -> None:
        now = self.world.clock(self.name).now()
        known = read_keyset((await books.keysets())[-1])
        alive = [d.id for d in known.denominations if d.id not in known.revoked and now < d.mint_until]
        revoked = [self.world.random.choice(alive)] if revoke and alive else []
        with keys_from(first_free_key() + self.world.next_key):
            after = rotate(self.home, known, now, self.founded.settings, revoked=revoked)
        self.world.next_key += len(after.denominations) - len([d for d in known.denominations if now < d.redeem_until])
        data = announcement_of(self.home, known, after)
        await books.add_keyset(after.number, data)
        forget_keys(self.home, [known, after], now)
        self.keysets.append(after)
        self.world.knowledge.publish(set(), data, {d.id for d in after.denominations})
        self.world.counts[f"operator: {'revoked' if revoked else 'rotated'}"] += 1

    async def _transfers(self, books: SqliteBooks) -> None:
        await books.export_payouts(lambda number, at, rows: b"%d" % number)
        for row in await books.payouts(state="exported"):
            if self.world.random.random() < 0.7:
                await books.settle_payout(row.number, row.amount)
                self.world.counts["operator: settled a payout"] += 1
            else:
                await books.return_payout(row.number, row.amount, "R03 no account")
                self.world.counts["operator: returned a payout"] += 1


class Shop:
    """A merchant, with an account at each bank."""

    def __init__(self, world: World, name: str, banks: list[BankHouse]) -> None:
        self.name = name
        self.world = world
        self.banks = banks
        self.home = world.folder / name
        self.path = self.home / "sales.db"
        addresses = [str(bank.address) for bank in banks]
        self.settings = shop_home.Settings(name, addresses, str(BROKER), f"presence-of-{name}")
        shop_home.create(self.home, self.settings, SeededEntropy(name))
        (self.home / "catalog.toml").write_text(self._catalog())

    def _catalog(self) -> str:
        return "".join(
            f'[[item]]\nsku = "{sku}-{bank.currency.lower()}"\ntitle = "A {sku}"\n'
            f'price = "{price / 100:.2f} {bank.currency}"\ngoods = "https://shop.example/{sku}"\n'
            for bank in self.banks
            for sku, price in PRICES.items()
        )

    def open(self) -> None:
        self.world.inhabit(self.name, self._serve)

    async def _serve(self) -> None:
        world, keys, catalog = self.world, shop_home.keys_of(self.home), shop_home.catalog_of(self.home)
        will = Outgoing(topics.status(self.name), b"gone", retain=True)
        invitations = {bank.name: bank.invitation(self.name) for bank in self.banks}
        async with (
            MerchantStore(self.path) as store,
            world.network.link(f"{self.name}-presence", persistent=True, will=will) as link,
        ):
            clock, entropy = world.clock(self.name), world.entropy(self.name)
            await MerchantAgent(self.settings, keys, catalog, store, link, clock, entropy, invitations).run()

    async def grant(self, payment_id: bytes, amount: int) -> None:
        """Grant a refund, if it is not more than what was paid."""
        async with MerchantStore(self.path) as store:
            try:
                await store.grant(payment_id, amount, self.world.clock(self.name).now())
            except ValueError:
                self.world.counts["operation: grant refused"] += 1

    async def pay_out(self, bank: BankHouse, amount: str) -> None:
        """Have money paid out, as `ecash merchant payout` does beside the shop; "" carries on what is open."""
        world = self.world
        async with MerchantStore(self.path) as store:
            keys = shop_home.keys_of(self.home)
            desk = Desk(
                self.settings,
                keys,
                shop_home.Stock(),
                store,
                world.clock(self.name),
                world.entropy(f"{self.name}-office"),
            )
            try:
                await Office(desk, self._anonymous).pay_out(bank.name, amount)
            except ValueError:
                world.counts["operation: nothing to pay out"] += 1

    def _anonymous(self, broker: BrokerUrl, client_id: str) -> Link:
        return self.world.network.link(client_id, persistent=False)
