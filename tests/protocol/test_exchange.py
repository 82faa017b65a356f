import hashlib

import pytest

from protocol.coins import MAX_COINS
from protocol.envelope import EnvelopePrivateKey, Letter, Suite, open_letter, seal_letter
from protocol.exchange import (
    EXCHANGE,
    REFUND,
    TICKET,
    ExchangeRequest,
    Issue,
    RefundOrder,
    RefundRequest,
    Ticket,
    exchange_digest,
)
from protocol.messages import BlindedCoin, BlindSignature
from protocol.topics import BANK_KINDS, MERCHANT_KINDS
from tests.world import NOW, alter, seed
from tests.world import world as make_world

WORLD = make_world()
REQUEST_ID = b"x" * 16
OUTPUTS = (BlindedCoin(seed("one"), b"1" * 256), BlindedCoin(seed("two"), b"2" * 256))
DIGEST = exchange_digest("north", REQUEST_ID, 5, OUTPUTS)


def framed(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def test_the_digest_is_over_bank_request_commission_and_blinded_coins() -> None:
    coins = b"".join(
        b"\x92\xc4\x20" + denomination + b"\xc5\x01\x00" + blinded
        for denomination, blinded in ((seed("one"), b"1" * 256), (seed("two"), b"2" * 256))
    )
    parts = (b"north", REQUEST_ID, (5).to_bytes(8, "big"), coins)
    expected = hashlib.sha256(b"ecash/v1 exchange\0" + b"".join(map(framed, parts))).digest()
    assert expected == DIGEST


def test_whatever_else_coins_are_exchanged_for_has_another_digest() -> None:
    one, two = OUTPUTS
    digests = [
        DIGEST,
        exchange_digest("south", REQUEST_ID, 5, OUTPUTS),
        exchange_digest("north", b"y" * 16, 5, OUTPUTS),
        exchange_digest("north", REQUEST_ID, 6, OUTPUTS),
        exchange_digest("north", REQUEST_ID, 5, (two, one)),
        exchange_digest("north", REQUEST_ID, 5, (one,)),
        exchange_digest("north", REQUEST_ID, 5, (one, two, two)),
        exchange_digest("north", REQUEST_ID, 5, ()),
        exchange_digest("north", REQUEST_ID, 5, (one, alter(two, "denomination"))),
        exchange_digest("north", REQUEST_ID, 5, (one, alter(two, "blinded"))),
    ]
    assert len(set(digests)) == len(digests)


def test_the_outputs_may_come_from_anywhere() -> None:
    assert exchange_digest("north", REQUEST_ID, 5, iter(OUTPUTS)) == DIGEST


def test_the_kinds_are_those_of_the_topics() -> None:
    assert {EXCHANGE, REFUND} <= BANK_KINDS
    assert REFUND in MERCHANT_KINDS
    assert TICKET not in BANK_KINDS | MERCHANT_KINDS


@pytest.mark.parametrize("suite", Suite)
def test_as_many_coins_as_a_request_may_have_fit_into_their_envelopes(suite: Suite) -> None:
    size = {Suite.X25519: 32, Suite.MLKEM768_X25519: 96}[suite]
    bank = EnvelopePrivateKey(suite, (seed("one") + seed("two") + seed("three"))[:size])
    outputs = (BlindedCoin(b"d" * 32, b"b" * 256),) * MAX_COINS
    spent = WORLD.purse.spend(DIGEST)[:1] * MAX_COINS
    exchange = ExchangeRequest(5, spent, outputs)
    assert ExchangeRequest.decode(exchange.encode()) == exchange

    ticket = Letter(TICKET, REQUEST_ID, NOW, seed("answer"), b"", Ticket(outputs).encode())
    sealed = seal_letter(bank.public, ticket, None)
    for kind, body in (
        (REFUND, RefundOrder(800, 3, sealed)),
        (REFUND, RefundRequest(DIGEST, b"s" * 16, sealed)),
        (EXCHANGE, exchange),
    ):
        assert type(body).decode(body.encode()) == body
        letter = Letter(kind, b"r" * 16, NOW, seed("answer"), b"", body.encode())
        assert open_letter(bank, seal_letter(bank.public, letter, None), kind) == letter
    assert Ticket.decode(open_letter(bank, sealed, TICKET).body) == Ticket(outputs)


def test_an_issue_holds_the_signatures_on_as_many_coins() -> None:
    issue = Issue((BlindSignature(b"d" * 32, b"s" * 256),) * MAX_COINS)
    assert Issue.decode(issue.encode()) == issue
