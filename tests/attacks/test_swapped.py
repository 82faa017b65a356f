"""Envelopes and answers in wrong places: swapped, reflected, addressed anew, on other topics."""

from itertools import permutations

import pytest

from broker.port import Incoming, Outgoing
from protocol import topics
from protocol.envelope import Letter, seal_letter
from protocol.errors import PeerError
from protocol.messages import DepositRequest
from protocol.refusals import Refusal
from tests.agents.byhand import Asking, Caller, Purse, client, shopkeeper
from tests.agents.world import BANK, SHOP, Town
from tests.world import seed

HEADER = 18


class Asked:
    """Requests of two customers and a merchant, and the bank's answers to them."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.said: list[tuple[Caller, Asking, bytes]] = []

    async def ask(self, caller: Caller, asking: Asking) -> None:
        self.said.append((caller, asking, await caller.send(asking)))


@pytest.fixture
async def asked(founded: Town) -> Asked:
    everything = Asked(founded)
    alice, keeper = await client(founded), await shopkeeper(founded)
    bob = Caller(founded, "bob", seed("bob's key"))
    await bob.open_account("client", 100)
    purses = list[Purse]()
    for caller in (alice, bob):
        for _ in range(2):
            request_id, _, body = caller.order_coins(4)
            await everything.ask(caller, caller.seal("withdraw", body, request_id=request_id))
        purses.append(await caller.withdraw(4, 4))
    for purse in purses:
        await everything.ask(keeper, keeper.seal("deposit", keeper.paying(8, purse)))
    return everything


async def test_an_answer_opens_for_its_own_request_and_no_other(asked: Asked) -> None:
    assert len(asked.said) == 6
    for caller, asking, sealed in asked.said:
        caller.open(asking, sealed).check()
    for (caller, asking, mine), (_, _, other) in permutations(asked.said, 2):
        for swapped in (other, mine[:17] + other[17:], mine[:29] + other[29:]):
            with pytest.raises(PeerError) as caught:
                caller.open(asking, swapped)
            assert caught.value.refusal is Refusal.MALFORMED


async def test_an_answer_under_the_key_of_another_opens_for_nobody(asked: Asked) -> None:
    """Even who knows the answer key of a request cannot pass the bank's answer to another one off as its own."""
    for (caller, asking, _), (_, other, sealed) in permutations(asked.said, 2):
        with pytest.raises(PeerError):
            caller.open(asking._replace(answer_key=other.answer_key), sealed)


async def test_what_is_reflected_is_dropped_on_both_sides(asked: Asked) -> None:
    bank = asked.town.bank
    for caller, asking, sealed in asked.said:
        assert await bank.handle(Incoming(topics.bank_request(BANK, 0, asking.kind, caller.name), sealed)) is None
        with pytest.raises(PeerError):
            caller.open(asking, asking.envelope)
    assert bank.dropped.total() == len(asked.said)


@pytest.mark.parametrize("kind", sorted(topics.BANK_KINDS))
async def test_an_envelope_on_the_topic_of_another_kind_is_dropped(asked: Asked, kind: str) -> None:
    bank = asked.town.bank
    wrong = [asking for _, asking, _ in asked.said if asking.kind != kind]
    for asking in wrong:
        assert await bank.handle(Incoming(topics.bank_request(BANK, 0, kind, "x"), asking.envelope)) is None
    assert bank.dropped == {Refusal.MALFORMED: len(wrong)}


async def test_an_envelope_with_any_part_of_its_header_changed_is_dropped(asked: Asked) -> None:
    bank, (_, asking, _) = asked.town.bank, asked.said[0]
    topic = topics.bank_request(BANK, 0, asking.kind, "x")
    for place in range(HEADER):
        for bit in (1, 128):
            envelope = asking.envelope[:place] + bytes([asking.envelope[place] ^ bit]) + asking.envelope[place + 1 :]
            assert await bank.handle(Incoming(topic, envelope)) is None
    assert bank.dropped.total() == 2 * HEADER
    assert set(bank.dropped) == {Refusal.MALFORMED, Refusal.UNKNOWN_VERSION}


async def test_a_letter_to_the_shop_is_none_to_the_bank_and_the_other_way_round(town: Town) -> None:
    anna = Caller(town, "anna")
    for_shop = anna.seal("refund", b"", to=town.shop.desk.keys.envelope.public)
    for_bank = anna.seal("refund", b"")
    assert await town.bank.handle(Incoming(topics.bank_request(BANK, 0, "refund", "x"), for_shop.envelope)) is None
    assert await town.shop.handle(Incoming(topics.merchant_request(SHOP, "refund", "x"), for_bank.envelope)) is None
    assert town.bank.dropped.total() == town.shop.dropped.total() == 1


async def test_a_request_that_a_thief_of_its_letter_seals_anew_is_another_request(founded: Town) -> None:
    """A bank's earlier envelope key leaks: letters can be read, and sealed again, but not carried out again."""
    alice = await client(founded)
    request_id, _, body = alice.order_coins(4)
    asking = alice.seal("withdraw", body, request_id=request_id)
    assert alice.open(asking, await alice.send(asking)).refusal == ""
    due = founded.clock.now() + 3_600_000
    letter = Letter("withdraw", request_id, due, asking.answer_key, alice.key, body.encode())
    again = asking._replace(envelope=seal_letter(founded.keyset.envelope_key, letter, alice.seed))
    assert alice.open(again, await alice.send(again)).refusal == Refusal.REQUEST_ID_REUSED
    assert await founded.faults() == []


async def test_a_merchant_that_forwards_a_parcel_of_another_payment_gets_nothing(founded: Town) -> None:
    alice, keeper = await client(founded), await shopkeeper(founded)
    purses = [await alice.withdraw(8) for _ in range(2)]
    payments = [keeper.paying(8, purse) for purse in purses]
    for (one, _), (_, other) in permutations([(pay.info, pay.parcel) for pay in payments], 2):
        assert (await keeper.verdict(DepositRequest(one, other))).refusal == Refusal.PAYMENT_ALTERED
    assert await founded.books.balance(founded.shop_number) == 0
    for purse in purses:
        assert (await keeper.verdict(keeper.paying(8, purse))).refusal == "", "the payers' coins are still good"


async def test_the_answer_goes_to_who_asked_whatever_response_topic_a_request_names(town: Town) -> None:
    """Nothing of a message but topic and payload reaches the bank: there is no field for a response topic."""
    assert set(Incoming.__dataclass_fields__) & {"response_topic", "user_properties"} == set()
    alice = await client(town)
    asking = alice.seal("account", b"")
    topic = topics.bank_request(BANK, 0, "account", "alice")
    answer = await town.bank.handle(Incoming(topic, asking.envelope, correlation=b"ecash/v1/reply/mallory/north"))
    assert isinstance(answer, Outgoing)
    assert answer.topic == f"ecash/v1/reply/alice/{BANK}"
    assert answer.correlation == asking.request_id
