"""The broker is the attacker. It can delay; it can neither make a cent, nor lose one, nor end a payment wrongly."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from agents.client.resume import resume
from agents.client.wallet import Wallet, WalletError
from agents.requester import NobodyAnswers
from protocol.errors import PeerError
from protocol.wallet import payment
from tests.agents.world import Town, cash, states
from tests.simulation.clock import HOUR_MS, VirtualClock

from .day import swap
from .malice import MINUTE_MS, HostileBroker

SEEDS = range(4)
TRIES = 8
T = TypeVar("T")


@pytest.fixture(params=SEEDS)
async def network(request: pytest.FixtureRequest, clock: VirtualClock) -> HostileBroker:
    return HostileBroker(clock, request.param)


async def in_time(clock: VirtualClock, work: Coroutine[Any, Any, T], step_ms: int = MINUTE_MS) -> T:
    """Let time pass whenever nothing has ended for a moment: somebody may be waiting for it."""
    task = asyncio.create_task(work)
    while not (await asyncio.wait({task}, timeout=0.5))[0]:
        clock.advance(step_ms)
    return task.result()


async def persistently(clock: VirtualClock, wallet: Wallet, ask: Coroutine[Any, Any, object]) -> None:
    """Do something; what is not finished then is carried on while the broker goes on as before."""
    with contextlib.suppress(NobodyAnswers, WalletError, PeerError):
        await in_time(clock, ask)
    for _ in range(TRIES):
        if not any(row.open for row in await wallet.store.exchanges()):
            break
        await in_time(clock, resume(wallet))


async def reckon(town: Town, wallet: Wallet, account: int) -> int:
    """What a customer has, in coins and in the account."""
    return sum((await states(wallet)).values()) + await town.books.balance(account)


async def test_a_broker_with_all_powers_makes_and_loses_no_cent(
    town: Town, network: HostileBroker, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 200)
        network.peaceful = False
        await persistently(clock, alice, cash(alice, 40))
        await persistently(clock, alice, town.buy(alice))
        await persistently(clock, alice, swap(alice))
        await persistently(clock, alice, town.buy(alice, "card"))
        network.peaceful = True
        for _ in range(TRIES):
            clock.advance(HOUR_MS)  # by then nothing can be deposited any more, and the bank tells
            await in_time(clock, resume(alice, patience_ms=HOUR_MS))
        rows = await alice.store.exchanges()
        assert all(not row.open for row in rows), "when the broker is honest again, everything ends"
        assert set(await states(alice)) <= {"free"}
        paid = sum(row.note.amount for row in rows if isinstance(row.state, payment.Paid | payment.Unreceipted))
        commissions = sum(row.note.commission for row in rows if row.kind == "withdraw")
        assert await reckon(town, alice, 1002) == 200 - paid - commissions
        sold = [one for one in (await town.books.snapshot()).payments if one.accepted]
        assert len(sold) == sum(isinstance(row.state, payment.Paid | payment.Unreceipted) for row in rows)
        assert isinstance(
            (await in_time(clock, town.buy(alice, "card", patience_ms=HOUR_MS), 1000)).state, payment.Paid
        )
    assert await town.faults() == []
    assert len(set(network.deeds)) >= 6
