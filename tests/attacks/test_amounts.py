"""Every amount field of every message, and every amount that somebody has ever smuggled through one."""

import math
from typing import Any, Final

import msgpack
import pytest

from protocol.codec import Message
from protocol.errors import PeerError
from protocol.messages import DepositAnswer, PaymentInfo, WithdrawRequest
from protocol.money import MAX_AMOUNT
from protocol.refusals import Refusal
from tests.agents.byhand import client, shopkeeper
from tests.agents.world import Town
from tests.shapes import fields, message_types, smallest

AMOUNTS: Final = frozenset({"amount", "balance", "commission", "price", "value"})
SMUGGLED: Final[dict[str, Any]] = {
    "0": 0,
    "-0.0": -0.0,
    "-1": -1,
    "1": 1,
    "2^31": 2**31,
    "2^53 - 1": 2**53 - 1,
    "2^53": 2**53,
    "2^53 + 1": 2**53 + 1,
    "2^63 - 1": 2**63 - 1,
    "2^63": 2**63,
    "2^64 - 1": 2**64 - 1,
    "-2^63": -(2**63),
    "1.0": 1.0,
    "0.1": 0.1,
    "1e400": math.inf,
    "-1e400": -math.inf,
    "NaN": math.nan,
    "text": "1",
    "bytes": b"\1",
    "true": True,
    "null": None,
    "a list": [1],
}
FIELDS: Final = [(kind, field.name) for kind in message_types() for field in fields(kind) if field.name in AMOUNTS]


def wire(kind: type[Message], name: str, value: Any) -> bytes:
    """The smallest message of a type, with a value in one field."""
    packed: bytes = msgpack.packb([value if field.name == name else smallest(field.type) for field in fields(kind)])
    return packed


def test_every_amount_field_is_tried() -> None:
    assert len(SMUGGLED) == 22
    assert len(FIELDS) >= 20
    assert {name for _, name in FIELDS} == AMOUNTS


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_an_amount_is_a_whole_number_in_bounds_or_the_message_is_refused(kind: type[Message], name: str) -> None:
    refusals = set[Refusal]()
    for what, value in SMUGGLED.items():
        data = wire(kind, name, value)
        try:
            message = kind.decode(data)
        except PeerError as error:
            refusals.add(error.refusal)
            continue
        told = getattr(message, name)
        assert type(told) is int, what
        assert 0 <= told <= MAX_AMOUNT, what
        assert message.encode() == data, what
    assert refusals == {Refusal.MALFORMED}


async def test_what_is_refused_in_a_field_changes_no_account(founded: Town) -> None:
    alice, keeper = await client(founded), await shopkeeper(founded)
    _, _, honest = alice.order_coins(4)
    purse = await alice.withdraw(8)
    before = await founded.books.balance(1002)
    raw = msgpack.unpackb(honest.encode(), raw=False)
    place = WithdrawRequest.__struct_fields__.index("commission")
    info = keeper.info(8, purse)
    paid = msgpack.unpackb(info.encode(), raw=False)
    for value in SMUGGLED.values():
        told = await alice.refusal("withdraw", msgpack.packb([*raw[:place], value, *raw[place + 1 :]]))
        if value != founded.keyset.tariff.withdrawal.charge(4) or type(value) is not int:
            assert told in {Refusal.MALFORMED, Refusal.COMMISSION_CHANGED}, value
            assert await founded.books.balance(1002) == before
        paid[PaymentInfo.__struct_fields__.index("amount")] = value
        body = msgpack.packb([msgpack.packb(paid), keeper.parcel(info, purse)])
        answer = await keeper.ask("deposit", body)
        if answer.refusal:
            assert answer.refusal == Refusal.MALFORMED
        else:
            verdict = keeper.read(DepositAnswer.decode(answer.body).verdict)
            assert verdict.refusal == Refusal.PAYMENT_ALTERED
        before = await founded.books.balance(1002)
    assert await founded.books.balance(founded.shop_number) == 0
    assert (await keeper.verdict(keeper.deposit(info, purse))).refusal == "", "the coins are as good as before"
    assert await founded.faults() == []


async def test_many_coins_do_not_overflow_a_sum(founded: Town) -> None:
    alice, keeper = await client(founded, 1000), await shopkeeper(founded)
    purse = await alice.withdraw(*[16] * 12)
    for amount in (1, 191, 193, 2**53 - 1):
        told = await keeper.verdict(keeper.paying(amount, purse))
        assert told.refusal == Refusal.AMOUNT_MISMATCH
    assert (await keeper.verdict(keeper.paying(192, purse))).refusal == ""
