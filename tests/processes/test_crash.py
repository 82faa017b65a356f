"""kill -9 loses nothing: every agent dies at every trace point that it passes, and everybody agrees in the end.

A trace point stands before and after each durable step, and before and after each message that follows from one.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from agents.client.store import FREE
from broker.address import BrokerUrl
from broker.mosquitto import add_password
from protocol.merchant import sale
from protocol.wallet import payment, withdrawal
from tests.conftest import free_port

from .process import agent, processes
from .world import (
    FUNDED,
    WITHDRAWN,
    Reckoning,
    Templates,
    World,
    check_bought,
    check_withdrawn,
    running_broker,
    world_for,
)

AT_ONCE: Final = 3
"""How many worlds run beside each other; more do not help on two cores."""

Deaths = tuple[str, ...]
"""Trace points where an agent dies: the first in the exchange, each further one in the recovery from the one before."""

POINTS: Final[dict[tuple[str, str], Deaths]] = {
    ("withdraw", "bank"): (
        "bank.withdraw.opened",
        "bank.withdraw.posting",
        "bank.books.before_commit",
        "bank.books.committed",
        "bank.withdraw.posted",
        "bank.withdraw.answering",
    ),
    ("withdraw", "wallet"): (
        "wallet.withdraw.saving",
        "wallet.withdraw.requested",
        "wallet.withdraw.sending",
        "wallet.withdraw.sent",
        "wallet.withdraw.issued",
    ),
    ("pay", "bank"): (
        "bank.deposit.opened",
        "bank.deposit.posting",
        "bank.books.before_commit",
        "bank.books.committed",
        "bank.deposit.posted",
        "bank.deposit.answering",
    ),
    ("pay", "shop"): (
        "merchant.order.opened",
        "merchant.order.saving",
        "merchant.order.offered",
        "merchant.pay.opened",
        "merchant.depositing.saving",
        "merchant.depositing.saved",
        "merchant.verdict.arrived",
        "merchant.sold.saving",
        "merchant.sold.saved",
    ),
    ("pay", "wallet"): (
        "wallet.pay.saving",
        "wallet.pay.paying",
        "wallet.pay.sending",
        "wallet.pay.sent",
        "wallet.pay.paid",
    ),
}
"""The trace points that each agent passes in a withdrawal and in a purchase, in this order."""

AGAIN: Final[dict[tuple[str, str], tuple[Deaths, ...]]] = {
    ("withdraw", "bank"): (
        ("bank.books.before_commit", "bank.books.before_commit"),
        ("bank.books.committed", "bank.withdraw.opened", "bank.withdraw.answering"),
    ),
    ("withdraw", "wallet"): (
        ("wallet.withdraw.saving:2",),
        ("wallet.withdraw.sent", "wallet.withdraw.saving", "wallet.withdraw.saving:2", "wallet.withdraw.issued"),
    ),
    ("pay", "bank"): (
        ("bank.books.before_commit", "bank.books.before_commit"),
        ("bank.books.committed", "bank.deposit.opened", "bank.deposit.answering"),
    ),
    ("pay", "shop"): (
        ("merchant.depositing.saved", "merchant.verdict.arrived", "merchant.sold.saving", "merchant.sold.saved"),
    ),
    ("pay", "wallet"): (
        ("wallet.pay.saving:2",),
        ("wallet.pay.sent", "wallet.pay.sending", "wallet.pay.saving:2", "wallet.pay.paid"),
    ),
}
"""Points that are passed a second time, and deaths in recovery."""

WALLET_COMMANDS: Final = {"withdraw": ("withdraw", "0.20"), "pay": ("pay", "shop", "song", "--yes")}
SERVERS: Final = {"withdraw": ("bank",), "pay": ("bank", "shop")}
ENDS: Final = {"withdraw": check_withdrawn, "pay": check_bought}


@pytest.mark.parametrize("kind", ["withdraw", "pay"])
async def test_the_list_of_trace_points_is_complete(kind: str, templates: Templates, tmp_path: Path) -> None:
    async with world_for(kind, templates, tmp_path) as world:
        await world.open("bank", "shop", log="debug")
        done = await world.customer(*WALLET_COMMANDS[kind], "--log", "debug")
        assert done.code == 0, done.stderr
        await world.close()
        logs = {name: process.logged for name, process in world.agents.items()} | {"wallet": done.stderr.splitlines()}
    passed = {(kind, name): points_in(lines) for name, lines in logs.items()}
    assert {key: points for key, points in passed.items() if points} == {
        key: points for key, points in POINTS.items() if key[0] == kind
    }


def points_in(log: Iterable[str]) -> Deaths:
    """The trace points in a log, each where it was passed first."""
    return tuple(dict.fromkeys(line.rpartition(" ")[2] for line in log if " ecash.trace " in line))


@pytest.mark.parametrize(("kind", "name"), [key for key in POINTS if key[1] != "wallet"])
async def test_bank_and_shop_may_die_at_every_point(kind: str, name: str, templates: Templates, tmp_path: Path) -> None:
    async def die(deaths: Deaths, folder: Path) -> None:
        async with world_for(kind, templates, folder) as world:
            await world.open(*SERVERS[kind], crash_at={name: deaths[0]})
            async with asyncio.TaskGroup() as group:
                group.create_task(restart(world, name, deaths))
                exchange = group.create_task(world.withdraw() if kind == "withdraw" else world.buy())
            assert isinstance(exchange.result().state, withdrawal.Issued | payment.Paid)
            await world.close()
            ENDS[kind](await world.reckon())

    await die_everywhere(die, kind, name, tmp_path)


async def restart(world: World, name: str, deaths: Deaths) -> None:
    """Do what a supervisor does: start an agent again whenever it has died."""
    for crash_at in (*deaths[1:], ""):
        assert await world.agents[name].ended() == -signal.SIGKILL
        await world.launch(name, crash_at)


@pytest.mark.parametrize(("kind", "name"), [key for key in POINTS if key[1] == "wallet"])
async def test_the_wallet_may_die_at_every_point(kind: str, name: str, templates: Templates, tmp_path: Path) -> None:
    async def die(deaths: Deaths, folder: Path) -> None:
        async with world_for(kind, templates, folder) as world:
            await world.open(*SERVERS[kind])
            assert (await world.customer(*WALLET_COMMANDS[kind], crash_at=deaths[0])).code == -signal.SIGKILL
            for crash_at in deaths[1:]:
                assert (await world.look(crash_at)).code == -signal.SIGKILL
            looked = await world.look()
            assert looked.code == 0, looked.stderr
            await world.close()
            end = await world.reckon()
        if deaths == (f"wallet.{kind}.saving",):
            check_nothing_began(kind, end)
        else:
            ENDS[kind](end)
        assert looked.last_json["balance"] == end.alice

    await die_everywhere(die, kind, name, tmp_path)


def check_nothing_began(kind: str, end: Reckoning) -> None:
    """The wallet died before it wrote anything down: it has what it had, and an offer is all that anybody remembers."""
    assert end.shop == 0
    if kind == "withdraw":
        assert (end.alice, end.minted, end.exchanges, end.sales) == (FUNDED, 0, [], [])
    else:
        assert end.wallet == {FREE: WITHDRAWN}
        assert [type(row.state) for row in end.sales] == [sale.Offered]


async def die_everywhere(
    die: Callable[[Deaths, Path], Coroutine[Any, Any, None]], kind: str, name: str, folder: Path
) -> None:
    """Let an agent die in each of the ways, each in a world of its own, some beside each other."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, deaths: Deaths) -> None:
        async with turn:
            home = folder / str(number)
            home.mkdir()
            try:
                await die(deaths, home)
            except BaseException as error:
                error.add_note(f"the {name} died at {', '.join(deaths)}")
                raise

    ways = [*((point,) for point in POINTS[kind, name]), *AGAIN[kind, name]]
    async with asyncio.TaskGroup() as group:
        for number, deaths in enumerate(ways):
            group.create_task(one(number, deaths))


async def test_everybody_may_die_in_one_purchase(templates: Templates, tmp_path: Path) -> None:
    async with world_for("pay", templates, tmp_path) as world:
        deaths = {"bank": "bank.books.committed", "shop": "merchant.verdict.arrived"}
        await world.open("bank", "shop", crash_at=deaths)
        async with asyncio.TaskGroup() as group:
            group.create_task(restart(world, "bank", (deaths["bank"], "bank.deposit.answering")))
            group.create_task(restart(world, "shop", (deaths["shop"], "merchant.sold.saved")))
            pay = WALLET_COMMANDS["pay"]
            assert (await world.customer(*pay, crash_at="wallet.pay.sent")).code == -signal.SIGKILL
            assert (await world.look("wallet.pay.saving:2")).code == -signal.SIGKILL
            assert (await world.look()).code == 0
        await world.close()
        check_bought(await world.reckon())


@pytest.mark.parametrize("engine", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
@pytest.mark.parametrize(
    ("name", "point"),
    [("shop", "merchant.depositing.saved"), ("bank", "bank.books.committed")],
    ids=["asked", "decided"],
)
async def test_the_broker_may_die_in_a_purchase(
    engine: str, name: str, point: str, templates: Templates, tmp_path: Path
) -> None:
    port, home = free_port(), tmp_path / "broker"
    async with processes() as started, contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(running_broker(engine, port, home))
        url = BrokerUrl("127.0.0.1", port)
        named = ("bank", "shop") if engine == "mosquitto" else ()
        log_ins = {who: BrokerUrl("127.0.0.1", port, who, add_password(home, who)) for who in named}
        world = templates.with_coins.move(tmp_path, url, started, **log_ins)
        await world.open("bank", "shop", log="debug")
        if name == "shop":
            world.agents["bank"].send(signal.SIGSTOP)  # so that the deposit can be nowhere but at the broker
        exchange = asyncio.create_task(world.buy())
        await world.agents[name].logs(point)
        broker.kill()
        broker.wait()
        stack.enter_context(running_broker(engine, port, home))
        world.agents["bank"].send(signal.SIGCONT)
        assert isinstance((await exchange).state, payment.Paid)
        await world.close()
        check_bought(await world.reckon())


@pytest.mark.skipif("ECASH_CRASH_SECONDS" not in os.environ, reason="takes ECASH_CRASH_SECONDS; `make crash` runs it")
@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(1 << 32)])
async def test_kill_9_of_anybody_at_any_time_loses_nothing(seed: int, templates: Templates, tmp_path: Path) -> None:
    """For ECASH_CRASH_SECONDS Alice withdraws and buys, and every time somebody dies at a moment by chance."""
    chance, funded = random.Random(seed), FUNDED + 1_000_00
    give_up_at = time.monotonic() + float(os.environ["ECASH_CRASH_SECONDS"])
    port, killed = free_port(), 0
    async with processes() as started, contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(running_broker("embedded", port, tmp_path / "broker"))
        world = templates.credited.move(tmp_path, BrokerUrl("127.0.0.1", port), started)
        await started.does(agent("bank", "credit", "--home", world.bank, "1001", "1000.00", "--reference", "more"))
        await world.open("bank", "shop")
        while time.monotonic() < give_up_at:
            words = chance.choice(list(WALLET_COMMANDS.values()))
            wallet = await started.start(agent("client", *words, "--home", world.wallet, "--log", "debug"))
            victim = chance.choice(["bank", "shop", "broker", "wallet"])
            await wallet.logs("Using selector")
            await asyncio.sleep(chance.uniform(0, 0.8))
            killed += 1
            if victim == "broker":
                broker.kill()
                broker.wait()
                broker = stack.enter_context(running_broker("embedded", port, tmp_path / "broker"))
            elif victim == "wallet":
                await wallet.stop(signal.SIGKILL)
            else:
                await world.agents[victim].stop(signal.SIGKILL)
                await world.launch(victim)
            await wallet.ended()
        assert (await world.look()).code == 0
        await world.close()
        end = await world.reckon(funded)
    assert killed > 0
    assert not any(row.open for row in end.exchanges)
    assert end.deposited > 0
