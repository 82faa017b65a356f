import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from agents.client import inbox
from agents.client.inbox import Asked, ask, wait, waiting
from agents.client.resume import resume
from agents.client.store import ExchangeRow
from agents.client.transfer import Connect, Gift, deliver, give, take_back, token_of
from agents.client.wallet import Bank, Wallet, WalletError
from agents.requester import NobodyAnswers
from broker.address import BrokerUrl
from broker.port import Link, LinkDown, Outgoing
from protocol import topics
from protocol.envelope import Letter, seal_letter
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.money import Amount
from protocol.refusals import Refusal
from protocol.token import KIND, Acknowledgement, TokenRequest
from protocol.wallet import exchange as exchanging
from protocol.wallet.transfer import Claimed, Sent
from tests.agents.world import Town, cash, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network
from tests.world import alter

FOREVER = 10**12


@pytest.fixture
async def alice(town: Town) -> AsyncIterator[Wallet]:
    """Who gives."""
    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 40)
        yield wallet


@pytest.fixture
async def bob(town: Town) -> AsyncIterator[Wallet]:
    """Who asks."""
    async with town.open_wallet("bob") as wallet:
        await town.customer(wallet, "bob", 0)
        yield wallet


@pytest.fixture
def connect(town: Town) -> Connect:
    def link(broker: BrokerUrl, client_id: str, /, *, persistent: bool) -> Link:
        return town.connect(client_id, persistent=persistent)

    return link


@pytest.fixture(autouse=True)
def no_losses(network: Network) -> Iterator[None]:
    yield
    network.loses = lambda _: False


async def asked_for(wallet: Wallet, value: int = 13) -> Asked:
    expires = wallet.clock.now() + HOUR_MS
    return await ask(wallet, wallet.bank(), Amount(value, "USD"), "for the tea", expires)


async def at_the_inbox(wallet: Wallet, asked: Asked, connect: Connect) -> asyncio.Task[ExchangeRow | None]:
    """Let a wallet wait, and return when what is sent to it will arrive."""
    present = asyncio.Event()

    def told(broker: BrokerUrl, client_id: str, /, *, persistent: bool) -> Link:
        link = connect(broker, client_id, persistent=persistent)
        subscribe = link.subscribe

        async def subscribing(*filters: str) -> None:
            await subscribe(*filters)
            present.set()

        link.subscribe = subscribing  # type: ignore[method-assign]
        return link

    task = asyncio.create_task(wait(wallet, asked, told))
    await present.wait()
    return task


async def answer(wallet: Wallet, asked: Asked, value: int = 13) -> ExchangeRow:
    """Set coins apart for a request, as it travels."""
    request = TokenRequest.parse(str(asked.request))
    return await give(wallet, wallet.bank(), Gift(Amount(value, "USD"), "here", request=request))


async def in_inbox(network: Network, asked: Asked, number: int = 1) -> list[Outgoing]:
    return await network.wait_for(number, topics.inboxes(asked.request.inbox))


async def test_what_was_asked_for_comes_and_is_acknowledged(
    town: Town, network: Network, connect: Connect, alice: Wallet, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    waits = await at_the_inbox(bob, asked, connect)
    row, said = await deliver(alice, await answer(alice, asked), connect, FOREVER)
    assert said == Acknowledgement("", "")
    assert row.state == Claimed()
    received = await waits
    assert received is not None
    assert received.state == exchanging.Exchanged(13)
    assert await states(bob) == {"free": 13}
    assert await states(alice) == {"free": 27}
    assert await waiting(bob) == []
    assert await town.faults() == []


async def test_a_receiver_who_was_away_gets_it_later(
    town: Town,
    network: Network,
    clock: VirtualClock,
    connect: Connect,
    alice: Wallet,
    bob: Wallet,
) -> None:
    asked = await asked_for(bob)
    waits = await at_the_inbox(bob, asked, connect)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    sending = asyncio.create_task(deliver(alice, await answer(alice, asked), connect, 100))
    await in_inbox(network, asked)
    clock.advance(100)
    row, said = await sending
    assert said is None
    assert isinstance(row.state, Sent), "the text is still there to be given"
    received = await wait(bob, (await waiting(bob))[0], connect)
    assert received is not None
    assert received.state == exchanging.Exchanged(13)
    clock.advance(HOUR_MS)
    assert [one.state for one in await resume(alice)] == [Claimed()]
    assert await town.faults() == []


async def test_it_is_sent_again_until_somebody_takes_it(
    town: Town, network: Network, clock: VirtualClock, connect: Connect, alice: Wallet, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    sending = asyncio.create_task(deliver(alice, await answer(alice, asked), connect, FOREVER))
    await in_inbox(network, asked)
    clock.advance(1_000)
    first, second = await in_inbox(network, asked, 2)
    assert first == second, "the same bytes"
    waits = await at_the_inbox(bob, asked, connect)
    while not sending.done():
        clock.advance(1_000)
        await asyncio.sleep(0.001)
    assert (await sending)[0].state == Claimed()
    assert (await waits) is not None


async def test_who_hears_no_acknowledgement_asks_the_bank(
    network: Network, clock: VirtualClock, connect: Connect, alice: Wallet, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    row = await answer(alice, asked)
    waits = await at_the_inbox(bob, asked, connect)
    inbox_of_bob = f"ecash/v1/inbox/{asked.request.inbox}/"
    network.loses = lambda message: "/inbox/" in message.topic and not message.topic.startswith(inbox_of_bob)
    sending = asyncio.create_task(deliver(alice, row, connect, 100))
    assert (await waits) is not None
    clock.advance(100)
    row, said = await sending
    assert said is None
    assert row.state == Claimed()


async def test_a_token_that_is_worth_too_little_is_refused_and_waiting_goes_on(
    town: Town, connect: Connect, alice: Wallet, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    waits = await at_the_inbox(bob, asked, connect)
    row, said = await deliver(alice, await answer(alice, asked, 12), connect, FOREVER)
    assert said is not None
    assert said.refusal == Refusal.AMOUNT_MISMATCH
    assert isinstance(row.state, Sent)
    assert not waits.done()
    assert (await take_back(alice, row)).open is False
    row, _ = await deliver(alice, await answer(alice, asked), connect, FOREVER)
    assert row.state == Claimed()
    received = await waits
    assert received is not None
    assert await states(bob) == {"free": 13}
    assert await states(alice) == {"free": 27}


async def test_a_token_that_was_spent_is_refused(town: Town, connect: Connect, alice: Wallet, bob: Wallet) -> None:
    asked = await asked_for(bob)
    row = await answer(alice, asked)
    token = await token_of(alice, row)
    async with town.open_wallet("carol") as carol:
        await town.customer(carol, "carol", 0)
        await inbox.receive(carol, carol.bank(), token)
    waits = await at_the_inbox(bob, asked, connect)
    row, said = await deliver(alice, row, connect, FOREVER)
    assert said is not None
    assert said.refusal == Refusal.ALREADY_SPENT
    assert row.state == Claimed()
    assert not waits.done()
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert await states(bob) == {}
    assert [one.id for one in await waiting(bob)] == [asked.id]


async def test_a_token_that_was_spent_is_not_tried_again(town: Town, alice: Wallet, bob: Wallet) -> None:
    token = await token_of(alice, await give(alice, alice.bank(), Gift(Amount(13, "USD"))))
    async with town.open_wallet("carol") as carol:
        await town.customer(carol, "carol", 0)
        await inbox.receive(carol, carol.bank(), token)
    first, second = [await inbox.receive(bob, bob.bank(), token) for _ in range(2)]
    assert isinstance(first.row.state, exchanging.Refused)
    assert (second.row, second.again) == (first.row, True)
    assert await bob.store.next_counter("north") == (1, 1)


@pytest.mark.parametrize("worthless", [Refusal.KEY_REVOKED, Refusal.DENOMINATION_CLOSED])
async def test_a_token_that_the_bank_must_refuse_uses_up_no_number(
    town: Town, clock: VirtualClock, alice: Wallet, bob: Wallet, monkeypatch: pytest.MonkeyPatch, worthless: Refusal
) -> None:
    token = await token_of(alice, await give(alice, alice.bank(), Gift(Amount(13, "USD"))))
    bank = bob.bank()
    if worthless is Refusal.KEY_REVOKED:
        keyset = msgspec.structs.replace(bank.keyset, revoked=bank.ring.ids)
        bank = bank._replace(ring=KeyRing(keyset))
    else:
        clock.advance(max(one.redeem_until for one in bank.keyset.denominations) - clock.now())

    async def same(*_: object) -> Bank:
        return bank

    monkeypatch.setattr(inbox, "newest", same)
    with pytest.raises(PeerError) as caught:
        await inbox.receive(bob, bank, token)
    assert caught.value.refusal is worthless
    assert await bob.store.next_counter("north") == (1, 0)


async def test_strangers_bytes_change_nothing(
    town: Town, network: Network, connect: Connect, alice: Wallet, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    waits = await at_the_inbox(bob, asked, connect)
    letter = Letter(KIND, bytes(16), 1, bytes(32), b"", b"no token")
    to = topics.inbox(asked.request.inbox, "mallory")
    for payload in (b"", b"junk", seal_letter(asked.request.envelope_key, letter, None)):
        network.inject(to, payload)
    row, _ = await deliver(alice, await answer(alice, asked), connect, FOREVER)
    assert row.state == Claimed()
    assert (await waits) is not None


async def test_a_token_of_another_bank_than_was_asked_for_is_refused(
    connect: Connect, alice: Wallet, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    token = await token_of(alice, await answer(alice, asked))
    row, told = await inbox._taken_up(bob, asked, alter(token, "fingerprint"))
    assert row is None
    assert told is not None
    assert told.refusal == Refusal.WRONG_BANK


async def test_a_request_closes_when_nothing_has_come_in_time(
    network: Network, clock: VirtualClock, connect: Connect, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    waits = await at_the_inbox(bob, asked, connect)
    clock.advance(HOUR_MS)
    assert await waits is None
    assert await waiting(bob) == []
    assert asked.request.inbox not in network._sessions, "the broker keeps nothing for it any more"


async def test_who_crashes_while_the_bank_answers_has_the_coins_the_next_time(
    town: Town, network: Network, clock: VirtualClock, connect: Connect, alice: Wallet
) -> None:
    async with town.open_wallet("bob") as bob:
        await town.customer(bob, "bob", 0)
        asked = await asked_for(bob)
        row = await answer(alice, asked)
        waits = await at_the_inbox(bob, asked, connect)
        network.loses = lambda message: message.topic.endswith("/north") and "/reply/" in message.topic
        sending = asyncio.create_task(deliver(alice, row, connect, 100))
        await network.wait_for(1, "ecash/v1/north/+/exchange/+")
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        clock.advance(100)
        network.loses = lambda _: False
        row, _ = await sending
    async with town.open_wallet("bob") as bob:
        (resumed,) = await resume(bob)
        assert resumed.state == exchanging.Exchanged(13)
        (again,) = await waiting(bob)
        received = await wait(bob, again, connect)
        assert received is not None
        assert received.id == resumed.id
        assert await waiting(bob) == []
        assert await states(bob) == {"free": 13}
    assert await town.faults() == []


async def test_a_sender_who_crashes_has_the_token_still(
    town: Town, network: Network, connect: Connect, bob: Wallet
) -> None:
    asked = await asked_for(bob)
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 40)
        row = await answer(alice, asked)
        sending = asyncio.create_task(deliver(alice, row, connect, FOREVER))
        await in_inbox(network, asked)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    waits = await at_the_inbox(bob, asked, connect)
    async with town.open_wallet("alice") as alice:
        row, _ = await deliver(alice, await alice.store.exchange(row.id), connect, FOREVER)
        assert row.state == Claimed()
    assert (await waits) is not None
    assert await town.faults() == []


async def test_while_the_bank_is_away_a_token_is_left_for_the_sender_to_repeat(
    network: Network, connect: Connect, alice: Wallet, bob: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await asked_for(bob)
    waits = await at_the_inbox(bob, asked, connect)

    async def away(*_: object) -> None:
        raise NobodyAnswers("the bank does not answer")

    row = await answer(alice, asked)
    with monkeypatch.context() as patch:
        patch.setattr(inbox, "receive", away)
        sending = asyncio.create_task(deliver(alice, row, connect, 1))
        await in_inbox(network, asked)
        assert isinstance(alice.clock, VirtualClock)
        alice.clock.advance(1)
        row, said = await sending
    assert said is None
    assert not waits.done()
    row, _ = await deliver(alice, row, connect, FOREVER)
    assert row.state == Claimed()
    assert (await waits) is not None


async def test_what_answers_no_request_is_not_delivered(connect: Connect, alice: Wallet) -> None:
    row = await give(alice, alice.bank(), Gift(Amount(13, "USD")))
    with pytest.raises(WalletError, match="no request"):
        await deliver(alice, row, connect)


async def test_without_a_broker_the_request_still_waits(bob: Wallet) -> None:
    def down(*_: object, **__: object) -> Link:
        raise LinkDown("no broker")

    asked = await asked_for(bob)
    with pytest.raises(LinkDown):
        await wait(bob, asked, down)
    assert [one.id for one in await waiting(bob)] == [asked.id]


async def test_the_bank_cannot_connect_the_two_by_ids(
    town: Town, network: Network, connect: Connect, alice: Wallet, bob: Wallet
) -> None:
    """No client id under which something is given or taken is ever one under which the bank is asked."""
    before = len(network.published)
    asked = await asked_for(bob)
    waits = await at_the_inbox(bob, asked, connect)
    row, _ = await deliver(alice, await answer(alice, asked), connect, FOREVER)
    assert row.state == Claimed()
    await waits
    asking, giving = list[str](), set[str]()
    for message in network.published[before:]:
        match topics.parse(message.topic):
            case topics.BankRequest(client=client):
                asking.append(client)
            case topics.Inbox(client=client, sender=sender):
                giving |= {client, sender}
    assert len(asking) == len(set(asking)) >= 2
    assert len(giving) == 2
    assert not giving & set(asking)
