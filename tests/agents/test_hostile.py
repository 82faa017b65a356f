"""Whatever arrives on whatever topic: a refusal or a counted drop, and then an honest request is served."""

import logging
from typing import Final

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.port import Incoming
from protocol import topics
from protocol.errors import PeerError
from protocol.wallet import payment
from tests.agents.byhand import Caller, client
from tests.agents.world import BANK, SHOP, Town, cash
from tests.shapes import _UNTYPED
from tests.simulation.network import Network

CORPUS: Final = {
    "nothing": b"",
    "a zero": b"\0",
    "another version": b"\2\2" + bytes(600),
    "another suite": b"\1\7" + bytes(600),
    "for nobody": b"\1\2" + bytes(2000),
    "as long as an answer may be": b"\1" + bytes(524_287),
    "too long": b"\1\2" + bytes(600_000),
    "deeply nested": b"\x91" * 100_000,
    "a promise of four gigabytes": b"\xdd\xff\xff\xff\xff",
    "a map": msgpack.packb({"a": 1}),
    "an extension": msgpack.packb(msgpack.ExtType(5, b"x" * 16)),
    "no text": b"\xd9\x02\xff\xfe",
}
TOPICS: Final = (
    *(topics.bank_request(BANK, 0, kind, "intruder") for kind in sorted(topics.BANK_KINDS)),
    *(topics.merchant_request(SHOP, kind, "intruder") for kind in sorted(topics.MERCHANT_KINDS)),
    "ecash/v1/reply/bookshop-presence/north",
    "ecash/v1/reply/north-presence/bookshop",
)
BODIES: Final = (
    b"",
    b"\xc1",
    b"\x90",
    b"\x91" * 5000,
    b"\x92\xc4\x00",
    b"\xdc\xff\xff",
    *map(msgpack.packb, ([None] * 4, [[]], [-1, "x"], ["", b"x" * 40], list(range(300)), {"a": 1}, [1.5, True])),
)


async def serve_an_honest_customer(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        assert isinstance((await town.buy(alice)).state, payment.Paid)
    assert await town.faults() == []


async def test_hostile_bytes_on_every_topic_are_dropped_counted_and_logged(
    town: Town, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for topic in TOPICS:
        for data in CORPUS.values():
            network.inject(topic, data)
    await serve_an_honest_customer(town)
    at_bank = sum(topic.startswith(f"ecash/v1/{BANK}/") for topic in TOPICS)
    at_shop = sum(topic.startswith(f"ecash/v1/{SHOP}/") for topic in TOPICS)
    assert town.bank.dropped.total() == at_bank * len(CORPUS)
    assert town.shop.dropped.total() >= at_shop * len(CORPUS)
    assert town.shop._link.counters.failed == 0
    dropped = [record for record in caplog.records if record.getMessage().startswith("dropped")]
    assert len(dropped) == town.bank.dropped.total() + town.shop.dropped.total()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", sorted(topics.BANK_KINDS))
async def test_nonsense_inside_a_good_envelope_is_refused_by_the_bank(founded: Town, kind: str) -> None:
    alice, nobody = await client(founded), Caller(founded, "nobody")
    for body in BODIES:
        for caller in (alice, nobody):
            assert await caller.refusal(kind, body)
    request_id, _, honest = alice.order_coins(1)
    assert await alice.refusal("withdraw", honest, request_id=request_id) == ""


@pytest.mark.parametrize("kind", sorted(topics.MERCHANT_KINDS))
async def test_nonsense_inside_a_good_envelope_is_refused_by_the_shop(town: Town, kind: str) -> None:
    nobody = Caller(town, "nobody")
    for body in BODIES:
        asking = nobody.seal(kind, body, to=town.shop.desk.keys.envelope.public)
        sealed = await nobody.send_to_shop(asking)
        assert sealed is not None
        assert nobody.open(asking, sealed, town.shop.desk.keys.public).refusal
    await serve_an_honest_customer(town)


async def test_a_letter_of_one_kind_on_the_topic_of_another_is_dropped(founded: Town) -> None:
    alice = await client(founded)
    asking = alice.seal("account", b"")
    assert await founded.bank.handle(Incoming(topics.bank_request(BANK, 0, "withdraw", "x"), asking.envelope)) is None
    assert founded.bank.dropped.total() == 1


@pytest.mark.parametrize("topic", [topics.keys(BANK), topics.catalog(SHOP)])
async def test_hostile_announcements_stop_the_wallet_loudly_and_only_as_long_as_they_stand(
    town: Town, network: Network, topic: str
) -> None:
    true = network.heard(topic)[-1].payload
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        for data in CORPUS.values():
            if data:
                network.inject(topic, data, retain=True)
                with pytest.raises(PeerError):
                    await town.buy(alice)
        network.inject(topic, true, retain=True)
        assert isinstance((await town.buy(alice)).state, payment.Paid)


async def test_hostile_replies_to_a_wallet_are_dropped_while_it_waits(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        async with alice.presence(town.address.broker) as requester:
            client_id = requester._link.client_id
            for data in CORPUS.values():
                network.inject(f"ecash/v1/reply/{client_id}/{SHOP}", data)
            await town.order(alice, requester)
            assert requester._link.counters.failed == 0


nested = st.recursive(
    st.sampled_from([one for one in _UNTYPED if one is not None]) | st.integers(-(2**63), 2**64 - 1) | st.binary(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(kind=st.sampled_from(sorted(topics.BANK_KINDS)), body=nested.map(msgpack.packb) | st.binary(max_size=200))
async def test_no_body_whatever_makes_the_bank_fail(founded: Town, kind: str, body: bytes) -> None:
    nobody = Caller(founded, "nobody")
    assert await nobody.refusal(kind, body)
