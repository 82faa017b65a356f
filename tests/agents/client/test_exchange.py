import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from agents.bank.desks import DESKS
from agents.client.exchange import Inputs, exchange
from agents.client.store import CoinsTaken, ExchangeRow
from agents.client.wallet import Wallet
from agents.requester import NobodyAnswers
from broker.port import Outgoing
from protocol.coins import Evidence
from protocol.errors import PeerError
from protocol.exchange import ExchangeRequest, exchange_digest
from protocol.messages import Exhibits
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key, sign
from protocol.wallet import exchange as machine
from tests.agents.world import Town, cash, states
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

from .purses import EXCHANGES, answers, cash_as, counts, exchange_requests, nothing


async def break_a_four(wallet: Wallet, patience_ms: int = 60_000) -> ExchangeRow:
    """Exchange a coin of 4 for four of 1."""
    bank = wallet.bank()
    held = [one for one in await wallet.store.coins("north", "USD") if one.value == 4]
    ones = [bank.ring.current("USD", wallet.clock.now())[1]] * 4
    return await exchange(wallet, bank, Inputs(held[:1]), ones, 0, "change", patience_ms)


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[[Wallet, Town], Any]:
    async def fill(wallet: Wallet, town: Town) -> None:
        await town.customer(wallet, "alice", 100)
        await cash_as(monkeypatch, wallet, 4, 4)

    return fill


async def test_coins_are_exchanged_for_others_of_the_same_worth(town: Town, give: Any) -> None:
    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        row = await break_a_four(alice)
        assert (row.state, row.note.purpose) == (machine.Exchanged(4), "change")
        assert await counts(alice) == {4: 1, 1: 4}
    assert await town.faults() == []


@pytest.mark.parametrize("values", [(1, 1, 2), (2, 1, 1), (1, 2, 1)])
async def test_the_order_of_the_coins_asked_for_does_not_tell_what_they_are_for(
    town: Town, monkeypatch: pytest.MonkeyPatch, give: Any, values: tuple[int, ...]
) -> None:
    seen, serve = list[bytes](), DESKS["exchange"]

    async def reading(desk: Any, request: Any) -> bytes:
        seen.extend(one.denomination for one in ExchangeRequest.decode(request.letter.body).outputs)
        return await serve(desk, request)

    monkeypatch.setitem(DESKS, "exchange", reading)
    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        held = await alice.store.coins("north", "USD")
        minted = alice.bank().ring.current("USD", alice.clock.now())
        outputs = [minted[value] for value in values]
        row = await exchange(alice, alice.bank(), Inputs(held[:1]), outputs, 0, "change")
        assert row.state == machine.Exchanged(4)
    assert seen == [minted[2], minted[1], minted[1]]


@pytest.mark.parametrize("loses", [exchange_requests, answers])
async def test_the_same_bytes_are_sent_until_they_are_answered_and_coins_are_spent_once(
    town: Town, network: Network, clock: VirtualClock, give: Any, loses: Callable[[Outgoing], bool]
) -> None:
    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        network.loses = loses
        task = asyncio.create_task(break_a_four(alice))
        for sent in range(1, 4):
            await network.wait_for(sent, EXCHANGES)
            clock.advance(10_000)
        network.loses = nothing
        clock.advance(10_000)
        assert isinstance((await task).state, machine.Exchanged)
        assert len({message.payload for message in network.heard(EXCHANGES)}) == 1
        assert await counts(alice) == {4: 1, 1: 4}
    assert await town.faults() == []


async def test_a_coin_that_is_taken_leaves_everything_as_it_was(town: Town, network: Network, give: Any) -> None:
    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        bank, held = alice.bank(), await alice.store.coins("north", "USD")
        four = bank.ring.current("USD", alice.clock.now())[4]
        await exchange(alice, bank, Inputs(held[:1]), [four], 0, "change")
        with pytest.raises(CoinsTaken):
            await exchange(alice, bank, Inputs(held), [four, four], 0, "change")
        assert await counts(alice) == {4: 2}
        assert len(network.heard(EXCHANGES)) == 1


async def test_what_the_bank_signed_wrongly_is_disputed_and_the_coins_set_aside(
    town: Town, give: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sign_nothing(denomination: bytes, blinded: Sequence[bytes]) -> list[bytes]:
        return list(blinded)

    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        monkeypatch.setattr(town.bank._desk.signer, "blind_sign", sign_nothing)
        row = await break_a_four(alice)
        assert isinstance(row.state, machine.Disputed)
        assert await states(alice) == {"free": 4, "aside": 4}


@pytest.mark.parametrize("case", ["none", "another coin", "forged", "genuine"])
async def test_a_coin_is_spent_only_if_its_own_signature_proves_it(
    town: Town, give: Any, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """`genuine` is what an old copy of the wallet has signed."""
    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        held = (await alice.store.coins("north", "USD"))[0]
        secret, elsewhere = alice.root.coin(held.request_id, held.position), bytes(32)
        if case == "another coin":
            secret = bytes(32)
        denomination = held.coin.denomination
        spending = sign(secret, Domain.SPEND, denomination, elsewhere)
        evidence = Evidence(denomination, public_key(secret), elsewhere, spending)
        if case == "forged":
            evidence = msgspec.structs.replace(evidence, spend=bytes(64))
        body = Exhibits((evidence,)).encode() if case != "none" else b""

        async def refuse(desk: Any, request: Any) -> bytes:
            return bytes(await desk.refuse(request, PeerError(Refusal.ALREADY_SPENT, "spent before"), body))

        monkeypatch.setitem(DESKS, "exchange", refuse)
        row = await break_a_four(alice)
        if case == "genuine":
            assert row.state == machine.Refused(Refusal.ALREADY_SPENT, "spent before", 1)
            assert await states(alice) == {"free": 4}
        else:
            assert isinstance(row.state, machine.Disputed)
            assert await states(alice) == {"free": 4, "aside": 4}


async def test_a_bank_that_refuses_an_id_as_used_cannot_show_what_was_signed_under_it(
    town: Town, give: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = list[tuple[bytes, ExchangeRequest]]()

    async def lie(desk: Any, request: Any) -> bytes:
        body = ExchangeRequest.decode(request.letter.body)
        taken.append((exchange_digest("north", request.letter.request_id, body.commission, body.outputs), body))
        if len(taken) == 1:
            return bytes(await desk.refuse(request, PeerError(Refusal.REQUEST_ID_REUSED, "used before")))
        digest, first = taken[0]
        shown = tuple(Evidence(one.coin.denomination, one.coin.serial, digest, one.spend) for one in first.coins)
        error = PeerError(Refusal.ALREADY_SPENT, "spent before")
        return bytes(await desk.refuse(request, error, Exhibits(shown).encode()))

    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        monkeypatch.setitem(DESKS, "exchange", lie)
        row = await break_a_four(alice)
        assert len(taken) == 2
        assert isinstance(row.state, machine.Disputed)
        assert await states(alice) == {"free": 4, "aside": 4}
        assert taken[0][0] in await alice.store.refused_digests()


async def test_while_the_bank_does_not_tell_what_an_id_was_used_for_the_exchange_goes_on(
    town: Town, network: Network, clock: VirtualClock, give: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve, asked = DESKS["exchange"], asyncio.Event()

    async def refuse_once(desk: Any, request: Any) -> bytes:
        if asked.is_set():
            return await serve(desk, request)
        return bytes(await desk.refuse(request, PeerError(Refusal.REQUEST_ID_REUSED, "used before")))

    async def away(*_: object) -> None:
        asked.set()
        raise NobodyAnswers("the bank does not answer")

    async with town.open_wallet("alice") as alice:
        await give(alice, town)
        monkeypatch.setattr("agents.client.exchange.fetch", away)
        monkeypatch.setitem(DESKS, "exchange", refuse_once)
        task = asyncio.create_task(break_a_four(alice))
        await asked.wait()
        clock.advance(10_000)
        assert (await task).state == machine.Exchanged(4)
        assert len({message.payload for message in network.heard(EXCHANGES)}) == 1


async def test_a_purse_of_small_coins_needs_no_exchange(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        await town.buy(alice)
    assert network.heard(EXCHANGES) == []
