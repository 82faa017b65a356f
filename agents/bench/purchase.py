"""Purchases: a wallet orders at the merchant and pays with coins in hand; measured from `pay` to the receipt."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from protocol.messages import OrderLine
from protocol.wallet import withdrawal
from protocol.wallet.payment import Paid
from protocol.wallet.purse import KeepCoins

from ..client.pay import order, pay
from ..client.store import ExchangeRow, Note
from ..client.wallet import Wallet
from .failure import BenchFailed
from .load import Tick, percentile_ms
from .rig import CURRENCY, SHOP, SKU, Rig
from .withdraw import Set, Withdrawals

_SPARE: Final = 3
"""Payments that a purse can make beside the one at hand: a purse of a usual size, throughout."""


class Customer(NamedTuple):
    """A wallet, where its coins come from, and its turn: a wallet makes one purchase at a time."""

    wallet: Wallet
    source: Withdrawals
    turn: asyncio.Lock


class Job(NamedTuple):
    """A purchase to be made: coins of the exact amount, for the customer's purse."""

    customer: Customer
    coins: Set


class Times(NamedTuple):
    """Seconds that the parts of a purchase took."""

    connecting: float
    ordering: float
    paying: float


class Purchases:
    """Purchases by these customers in turn."""

    def __init__(self, rig: Rig, customers: list[Customer], amount: int) -> None:
        self._rig = rig
        self._customers = customers
        self._amount = amount
        self._values = {key: (one.currency, one.value) for key, one in rig.ring.items()}
        self._times: list[Times] = []

    async def prepare(self, count: int, tick: Tick) -> list[Job]:
        """Withdraw the coins of so many purchases."""
        jobs: list[Job] = []
        for number, customer in enumerate(self._customers):
            share = len(range(number, count, len(self._customers)))
            jobs += [Job(customer, coins) for coins in await customer.source.mint(share, tick)]
        return jobs

    async def fill_purses(self) -> None:
        """Give each customer something to choose from."""
        for customer in self._customers:
            for coins in await customer.source.mint(_SPARE, lambda: None):
                await self._put(Job(customer, coins))

    async def _put(self, job: Job) -> None:
        wallet, coins = job.customer.wallet, job.coins
        issued = withdrawal.Issued(self._amount, 0)
        now, note = wallet.clock.now(), Note(self._amount, CURRENCY)
        name = wallet.bank().row.name
        row = ExchangeRow(
            coins.request_id, withdrawal.KIND, name, issued, open=False, wake_at=now, begun_at=now, note=note
        )
        await wallet.store.save(row, [KeepCoins(coins.request_id, coins.coins)], self._values)

    async def carry_out(self, job: Job) -> float:
        """Connect, order and pay, with a presence of its own for each purchase as the wallet has it."""
        wallet = job.customer.wallet
        async with job.customer.turn:
            await self._put(job)
            begun = time.perf_counter()
            async with wallet.presence(self._rig.address.broker) as requester:
                connected = time.perf_counter()
                quote = await order(wallet, wallet.bank(), SHOP, [OrderLine(SKU, 1)], requester)
                ordered = time.perf_counter()
                row = await pay(wallet, quote, requester)
                paid = time.perf_counter()
        if not isinstance(row.state, Paid):
            raise BenchFailed(f"a purchase ended in {type(row.state).__name__}")
        self._times.append(Times(connected - begun, ordered - connected, paid - ordered))
        return paid - ordered

    def figures(self, since: int) -> dict[str, float]:
        """Tell how long connecting and ordering took."""
        times = self._times[since:]
        return {
            "connect_p50_ms": percentile_ms([one.connecting for one in times], 0.5),
            "order_p50_ms": percentile_ms([one.ordering for one in times], 0.5),
            "order_p99_ms": percentile_ms([one.ordering for one in times], 0.99),
        }


@asynccontextmanager
async def purchases(rig: Rig, coins: int, customers: int) -> AsyncIterator[Purchases]:
    """Open so many wallets, each with its own account and a purse of coins."""
    denominations = rig.denominations(coins)
    async with AsyncExitStack() as stack:
        opened = []
        for number in range(customers):
            wallet = await stack.enter_async_context(rig.customer(f"customer-{number}"))
            requester = await stack.enter_async_context(wallet.presence(rig.address.broker))
            opened.append(Customer(wallet, Withdrawals(rig, wallet, requester, denominations), asyncio.Lock()))
        made = Purchases(rig, opened, rig.worth(denominations))
        await made.fill_purses()
        yield made
