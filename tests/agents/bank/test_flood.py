"""The bank under a flood: the others are served, the flooder is told to wait, and nothing of it is kept."""

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from agents.admission import Bounds, Verdict
from broker.port import Incoming
from protocol import topics
from protocol.messages import AccountRequest
from protocol.refusals import Refusal
from protocol.wallet import payment, withdrawal
from tests.agents.byhand import Caller, client
from tests.agents.world import BANK, Town, cash
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network
from tests.world import seed

LOOK = AccountRequest(b"", 0)
COST = 4
HONEST = 10


@pytest.fixture
async def strict(founded: Town) -> Town:
    """A town whose bank grants each party four looks at its account, and then one in four seconds."""
    founded.bounds = Bounds(rate=1, burst=4 * COST, refusals=10)
    await founded.stop_bank()
    await founded.open_books()
    return founded


@pytest.fixture
async def alice(strict: Town) -> Caller:
    return await client(strict)


async def handle(caller: Caller, envelope: bytes, name: str, kind: str = "account") -> bytes | None:
    topic = topics.bank_request(BANK, 0, kind, name)
    answer = await caller.town.bank.handle(Incoming(topic, envelope))
    return answer.payload if answer else None


async def test_a_client_id_that_has_used_up_its_rate_is_told_when_to_come_back(alice: Caller) -> None:
    asking = alice.seal("account", LOOK)
    for _ in range(4):
        assert alice.open(asking, await alice.send(asking)).refusal == ""
    answer = alice.open(asking, await alice.send(asking))
    assert (answer.refusal, answer.retry_after) == (Refusal.OVERLOADED, 4_000)


async def test_who_does_not_wait_is_dropped_unopened_and_counted(
    alice: Caller, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = alice.seal("account", LOOK)
    for _ in range(5):
        await alice.send(asking)
    with monkeypatch.context() as patch:
        patch.setattr("agents.bank.agent.open_letter", None)
        assert await handle(alice, asking.envelope, alice.name) is None
    assert alice.town.bank.dropped == {"flood": 1}
    clock.advance(4_000)
    assert alice.open(asking, await alice.send(asking)).refusal == ""


async def test_an_account_has_one_share_under_all_its_client_ids(alice: Caller, strict: Town) -> None:
    for index in range(4):
        assert await handle(alice, alice.seal("account", LOOK).envelope, f"alice-{index}") is not None
    asking = alice.seal("account", LOOK)
    refused = await handle(alice, asking.envelope, "alice-5")
    assert refused is not None
    assert alice.open(asking, refused).retry_after == 4_000
    assert await handle(alice, alice.seal("account", LOOK).envelope, "alice-6") is None
    bob = Caller(strict, "bob", seed("bob's key"))
    await bob.open_account()
    assert await bob.refusal("account", LOOK) == ""


@pytest.mark.parametrize("kind", ["account", "withdraw"])
async def test_who_sends_an_accounts_requests_again_uses_up_nothing_of_its_rate(alice: Caller, kind: str) -> None:
    request_id, _, coins = alice.order_coins(1)
    heard = alice.seal(kind, LOOK if kind == "account" else coins, request_id=request_id)
    first = await handle(alice, heard.envelope, alice.name, kind)
    for index in range(40):
        assert await handle(alice, heard.envelope, f"echo-{index}", kind) is not None
    assert first is not None
    asking = alice.seal("account", LOOK)
    answer = await handle(alice, asking.envelope, "alice-later")
    assert answer is not None
    assert alice.open(asking, answer).refusal == ""


async def test_a_client_id_that_is_called_as_a_key_takes_nothing_from_it(alice: Caller, strict: Town) -> None:
    nobody = Caller(strict, alice.key.hex())
    for _ in range(6):
        await handle(nobody, nobody.seal("account", LOOK).envelope, nobody.name)
    assert await alice.refusal("account", LOOK) == ""


async def test_nothing_is_stored_for_who_was_turned_away_and_the_same_bytes_succeed_later(
    alice: Caller, clock: VirtualClock
) -> None:
    request_id, _, body = alice.order_coins(8, 4)
    asking = alice.seal("withdraw", body, request_id=request_id)
    look = alice.seal("account", LOOK)
    for _ in range(4):
        await alice.send(look)
    before = await alice.town.books.last_entry()
    answer = alice.open(asking, await alice.send(asking))
    assert answer.refusal == Refusal.OVERLOADED
    assert await alice.town.books.last_entry() == before
    clock.advance(answer.retry_after)
    first = await alice.send(asking)
    assert alice.open(asking, first).refusal == ""
    clock.advance(10_000)
    assert await alice.send(asking) == first
    assert await alice.town.faults() == []


async def test_junk_from_many_fills_no_log(alice: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ecash.bank")
    bank = alice.town.bank
    for number in range(100):
        assert await bank.handle(Incoming(f"ecash/v1/{BANK}/0/{'none' * 9_000}\n/c{number}", b"")) is None
    assert bank.dropped == {Refusal.MALFORMED: 100}
    assert 0 < len(caplog.records) < 10
    assert all(len(line) < 300 for line in caplog.text.splitlines())
    assert len(caplog.text.splitlines()) == len(caplog.records)


async def test_junk_costs_its_sender_more_than_what_opens(alice: Caller) -> None:
    bank = alice.town.bank
    for _ in range(5):
        assert await handle(alice, b"\1junk" * 10, "junkie") is None
    assert bank.dropped[Refusal.MALFORMED] + bank.dropped[Refusal.UNKNOWN_VERSION] == 2
    assert bank.dropped["flood"] == 3
    assert bank._door.admission.figures == {Verdict.ADMITTED: 1, Verdict.REFUSED: 1, Verdict.DROPPED: 3}


async def test_a_worker_of_the_bank_serves_its_lanes_only(founded: Town, network: Network) -> None:
    caller = await client(founded)
    link = network.link("worker", persistent=True)
    async with link:
        work = asyncio.create_task(founded.bank.run(link, lanes=(1, 3)))
        await founded.bank.ready.wait()
        askings = {lane: caller.seal("account", LOOK) for lane in range(4)}
        for lane, asking in askings.items():
            network.inject(topics.bank_request(BANK, lane, "account", caller.name), asking.envelope)
        replies = await network.wait_for(2, f"ecash/v1/reply/{caller.name}/{BANK}")
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    assert {reply.correlation for reply in replies} == {askings[1].request_id, askings[3].request_id}


async def test_a_flood_of_thousands_keeps_nobody_from_withdrawing_and_paying(founded: Town, network: Network) -> None:
    bounds = founded.bounds = Bounds(rate=100, burst=200, each=4, waiting=256, working=4)
    await founded.restart_bank()
    await founded.start_shop()
    bank, mallory = founded.bank, await client(founded)
    wanted = mallory.order_coins(*[1] * 12)[2]
    askings = [mallory.seal("withdraw", wanted).envelope for _ in range(50 * HONEST)]
    junk = topics.bank_request(BANK, 0, "deposit", "flooder")

    async with AsyncExitStack() as stack:
        wallets = [await stack.enter_async_context(founded.open_wallet(f"honest-{i}")) for i in range(HONEST)]
        for i, wallet in enumerate(wallets):
            await founded.customer(wallet, f"honest-{i}", 100)
        most = 0
        tasks = []
        for wallet in wallets:
            for index in range(300):
                network.inject(junk, b"\1junk" * 10)
                if index % 6 == 0:
                    topic = topics.bank_request(BANK, 1, "withdraw", f"mallory-{index}")
                    network.inject(topic, askings.pop())
            tasks.append(asyncio.create_task(cash(wallet, 16)))
            await asyncio.sleep(0)
            most = max(most, bank._door.admission.waiting, bank._counter.admission.waiting)
        assert all(isinstance(row.state, withdrawal.Issued) for row in await asyncio.gather(*tasks))
        paid = await asyncio.gather(*(founded.buy(wallet, "card") for wallet in wallets[:3]))
        assert all(isinstance(row.state, payment.Paid) for row in paid)

    by_id, by_key = bank._door.admission, bank._counter.admission
    assert most <= bounds.waiting
    assert (by_id.waiting, by_id.working, by_key.waiting, by_key.working) == (0, 0, 0, 0)
    assert by_id.parties <= bounds.parties
    assert bank.dropped["flood"] > 2_500
    assert await founded.faults() == []
