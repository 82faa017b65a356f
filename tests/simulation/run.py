"""One seed, one world: founded, troubled, calmed, and looked at from beginning to end."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Final, NamedTuple

from .checks.books import BooksWatch
from .checks.ending import Ending
from .checks.wallets import WalletWatch
from .customer import Customer
from .faults import Trouble
from .founding import found
from .houses import FLOAT, BankHouse, Shop
from .loop import Stuck, VirtualLoop
from .patches import simulated
from .plan import Plan, draw
from .world import World

_CASH: Final = 120
_HORIZON_S: Final = 45 * 86_400.0


class Result(NamedTuple):
    """What became of a seed: `failures` is empty if all is well."""

    seed: int
    failures: tuple[str, ...]
    trace: tuple[str, ...]
    counts: dict[str, int]
    days: float


def _spoil_nothing(world: World) -> None:
    """Leave the world as it is."""


def run_seed(seed: int) -> Result:
    """Run the world of a seed."""
    return run_plan(draw(seed))


def run_plan(plan: Plan, spoil: Callable[[World], None] = _spoil_nothing) -> Result:
    """Run a world; `spoil` spoils it before everything is looked at for the last time."""
    folder = Path(mkdtemp(prefix="ecash-world-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    loop = VirtualLoop()
    world = World(plan, folder, loop)
    try:
        for name in plan.banks:
            found(name, plan.tariff, plan.epochs)
        with simulated(world):
            try:
                loop.play(_Life(world, spoil).play())
            except Stuck:
                world.fail("nothing is left that could ever happen")
    finally:
        world.readers.close()
        shutil.rmtree(folder, ignore_errors=True)
    return Result(plan.seed, tuple(world.failures), tuple(world.trace), dict(world.counts), loop.time() / 86_400)


class _Life:
    """The world from its first day to its last."""

    def __init__(self, world: World, spoil: Callable[[World], None]) -> None:
        self._world = world
        self._spoil = spoil
        self._banks = [BankHouse(world, name) for name in world.plan.banks]
        self._shops = [Shop(world, name, self._banks) for name in world.plan.shops]
        self._customers = [Customer(world, name, self._banks, self._shops) for name in world.plan.wallets]
        self._trouble = Trouble(world, self._banks)
        self._main: asyncio.Task[None] | None = None
        self._watches = [BooksWatch(world, bank) for bank in self._banks]
        self._purses = [WalletWatch(world, one, self._watches) for one in self._customers]

    async def play(self) -> None:
        """Live it; end it at the first failure."""
        self._main = asyncio.current_task()
        try:
            await self._play()
        except asyncio.CancelledError:
            if not self._world.failures:
                raise
        self._world.over = True

    async def _play(self) -> None:
        world = self._world
        world.tell("world", str(world.plan))
        await self._found()
        world.loop.after_turn = self._look
        for bank in self._banks:
            bank.open()
        for shop in self._shops:
            shop.open()
        for customer in self._customers:
            customer.live()
        await self._business()
        if not world.failures:
            town = self._banks, self._shops, self._customers
            await Ending(world, *town, self._trouble, self._spoil).play()
        for watch in self._watches:
            watch.look(thoroughly=True)
        for failure in (*world.loop.failures, *world.network.failures):
            world.fail(failure)

    async def _found(self) -> None:
        plan = self._world.plan
        people = [("merchant", name, FLOAT) for name in plan.shops] + [("client", name, _CASH) for name in plan.wallets]
        for bank in self._banks:
            await bank.found(people)
        script = Random(f"script {plan.seed}")
        for customer in self._customers:
            customer.others = [one for one in self._customers if one is not customer]
            customer.script = ["withdraw", *self._script(script)]
            customer.hook = self._before

    def _script(self, random: Random) -> list[str]:
        plan = self._world.plan
        kinds: dict[str, float] = {
            "withdraw": 3,
            "buy": 8,
            "give": 2,
            "receive": 3,
            "refund": 2,
            "redeem": 1,
            "recover": 1,
            "tend": 1,
        }
        kinds |= {"resume": 2, "wait": 2, "wait for days": 2 * plan.long_waits}
        if plan.restores:
            kinds |= {"spend twice": 2, "back up": 2, "lose the file": 1, "lose everything": 0.4}
        return random.choices(list(kinds), weights=list(kinds.values()), k=plan.operations)

    async def _before(self, customer: Customer, what: str) -> None:
        """Make trouble, and let operators work, before an operation."""
        self._trouble.perhaps(customer.name, what)
        random, world = self._world.random, self._world
        if random.random() < 0.15:
            shop, bank = random.choice(self._shops), random.choice(self._banks)
            amount = random.choice(("", "0.05", "0.30"))
            await world.run_once(f"{shop.name}-office", lambda: shop.pay_out(bank, amount))
        if random.random() < 0.15:
            bank = random.choice(self._banks)
            await world.run_once(f"{bank.name}-operator", lambda: bank.operate("payouts"))
        if world.plan.rotations and random.random() < 0.1 and world.next_key < 12:
            bank = random.choice(self._banks)
            what = random.choice(("rotate", "rotate", "revoke"))
            await world.run_once(f"{bank.name}-operator", lambda: bank.operate(what))

    async def _business(self) -> None:
        """Let everybody do what their scripts say."""
        for customer in self._customers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(customer.done.wait(), max(1.0, _HORIZON_S - self._world.loop.time()))

    def _look(self) -> None:
        """Look at what has changed."""
        world = self._world
        if world.dirty:
            for watch in self._watches:
                watch.look()
            for purse in self._purses:
                purse.look()
            world.dirty.clear()
        for watch in self._watches:
            if watch.replies:
                watch.look_at_answers()
        if world.failures and not world.over and self._main is not None:
            self._main.cancel()
