"""A whole day is recorded and sent again, much later and by somebody else."""

from collections.abc import Iterator

from broker.port import Incoming, Outgoing
from protocol import topics
from protocol.answer import request_id_of
from protocol.errors import PeerError
from protocol.topics import BankRequest, MerchantRequest
from protocol.wallet import payment
from tests.agents.byhand import Caller, client
from tests.agents.world import BANK, SHOP, Town, cash, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network

from .day import BANK_KINDS, a_day

DAY_MS = 24 * HOUR_MS
AGES = (1, 8, 40, 400)
"""Days. The bank's keys are minted with for longer, so nothing is refused for being of another epoch."""


def requests(recorded: list[Outgoing]) -> Iterator[tuple[BankRequest | MerchantRequest, bytes]]:
    """The requests among recorded messages, each once."""
    seen = set[bytes]()
    for message in recorded:
        try:
            topic = topics.parse(message.topic)
        except PeerError:
            continue
        if isinstance(topic, BankRequest | MerchantRequest) and message.payload not in seen:
            seen.add(message.payload)
            yield topic, message.payload


def in_the_name_of(topic: BankRequest | MerchantRequest, name: str) -> str:
    """The topic of the same request by another client."""
    if isinstance(topic, BankRequest):
        return topics.bank_request(topic.bank, topic.lane, topic.kind, name)
    return topics.merchant_request(topic.merchant, topic.kind, name)


async def answers(town: Town, recorded: list[Outgoing], name: str) -> dict[bytes, bytes]:
    """What bank and shop answer when somebody sends all requests again, by the request."""
    said = dict[bytes, bytes]()
    for topic, envelope in requests(recorded):
        agent = town.bank if isinstance(topic, BankRequest) else town.shop
        answer = await agent.handle(Incoming(in_the_name_of(topic, name), envelope))
        if answer is not None and answer.topic.startswith("ecash/v1/reply/"):
            assert answer.topic.split("/")[3] == name
            said[envelope] = answer.payload
    return said


async def test_a_recorded_day_changes_nothing_when_it_is_sent_again_however_late(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    await a_day(town)
    recorded = list(network.published)
    asked = {topic.kind for topic, _ in requests(recorded)}
    assert asked == BANK_KINDS | topics.MERCHANT_KINDS, "a day has everything in it"
    books = await town.books.snapshot()
    told = {request_id_of(one.payload): one.payload for one in network.heard(f"ecash/v1/reply/+/{BANK}")}
    stored = 0
    for number, days in enumerate(AGES):
        clock.advance((days - (AGES[number - 1] if number else 0)) * DAY_MS)
        for sealed in (await answers(town, recorded, f"intruder{days}")).values():
            stored += told.get(request_id_of(sealed)) == sealed
        assert await town.books.snapshot() == books
        assert await town.faults() == []
    assert stored > len(AGES) * 10, "what was decided is said again, byte for byte"
    async with town.open_wallet("bob") as bob:
        had = (await states(bob))["free"]
        assert isinstance((await town.buy(bob, "card")).state, payment.Paid)
        assert (await states(bob))["free"] != had


async def test_nobody_but_who_asked_can_read_an_answer_that_was_sent_to_another(town: Town, network: Network) -> None:
    await a_day(town)
    intruder = Caller(town, "intruder")
    for sealed in (await answers(town, network.published, "intruder")).values():
        own = intruder.seal("account", b"", request_id=request_id_of(sealed))
        for signer in (town.keyset.identity, town.shop.desk.keys.public):
            try:
                intruder.open(own, sealed, signer)
            except PeerError:
                continue
            raise AssertionError("an answer opened under a key that was made up")


async def test_old_answers_are_dropped_by_a_wallet_that_asks_anew(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 200)
        await cash(alice, 40)
        await town.buy(alice)
        old = [one.payload for one in network.published if one.topic.startswith("ecash/v1/reply/")]
        async with alice.presence(town.address.broker) as requester:
            client_id = requester._link.client_id
            for sealed in old:
                for sender in (BANK, SHOP):
                    network.inject(f"ecash/v1/reply/{client_id}/{sender}", sealed)
            quote = await town.order(alice, requester, "card")
        assert quote.payreq.amount == 5
        assert isinstance((await town.buy(alice, "card")).state, payment.Paid)
    assert await town.faults() == []


async def test_a_last_will_that_repeats_or_forges_a_request_is_as_any_message(town: Town, network: Network) -> None:
    alice = await client(town)
    request_id, _, body = alice.order_coins(4)
    asking = alice.seal("withdraw", body, request_id=request_id)
    first = await alice.send(asking)
    before = await town.books.snapshot()
    topic = topics.bank_request(BANK, 0, "withdraw", "dying")
    for payload in (asking.envelope[:-1] + b"\0", b"rubbish", asking.envelope):
        async with network.link("dying", persistent=False, will=Outgoing(topic, payload)) as link:
            await link.subscribe(topics.replies("dying"))
    (said,) = await network.wait_for(1, f"ecash/v1/reply/dying/{BANK}")
    assert said.payload == first
    assert town.bank.dropped.total() == 2
    assert await town.books.snapshot() == before
