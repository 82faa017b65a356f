from collections.abc import Callable
from itertools import combinations
from typing import Any

import msgspec
import pytest

from protocol.answer import open_answer
from protocol.bank.coins import Minting
from protocol.bank.desk import Committed, Contradicted, New, Post, Refused, SignBlinded, Signed, SignerRefused
from protocol.bank.ledger import Conflict, Reply, withdrawal_entries
from protocol.bank.refund import (
    TRANSITIONS,
    Effects,
    Examined,
    Granted,
    OrderBad,
    OrderGood,
    Posting,
    RefundEvent,
    RefundState,
    Signing,
    examine,
    step,
)
from protocol.envelope import Letter, open_letter, request_hash, seal, seal_letter
from protocol.errors import PeerError
from protocol.exchange import TICKET, Issue, RefundOrder, RefundOrderAnswer, Ticket
from protocol.keyset import KeyRing, Limits
from protocol.machine import State
from protocol.messages import PARCEL, BlindedCoin
from protocol.refusals import Refusal
from protocol.signatures import public_key
from protocol.wallet.outputs import unblind_outputs
from tests.conformance.machine import MachineConformance
from tests.world import DAY, NOW, alter, altered, rsa_key, seed
from tests.world import world as make_world

WORLD = make_world()
SEED, KEY = WORLD.identity_seed, WORLD.bank_envelope
TICKET_ID, ORDER_ID, ANSWER_KEY = b"t" * 16, b"o" * 16, seed("ticket answer")
OUT = [WORLD.ids["USD", 500], WORLD.ids["USD", 100]]
OUTPUTS = WORLD.blind(OUT, TICKET_ID)
TOTALS = {WORLD.ids["USD", 500]: 500, WORLD.ids["USD", 100]: 100}
ENOUGH = 603  # the amount and its commission of 3


def letter(outputs: tuple[BlindedCoin, ...] = OUTPUTS, **fields: Any) -> Letter:
    ticket = Letter(TICKET, TICKET_ID, NOW + 9, ANSWER_KEY, b"", Ticket(outputs).encode())
    return msgspec.structs.replace(ticket, **fields)


SEALED = seal_letter(KEY.public, letter(), None)
ORDER = RefundOrder(600, 3, SEALED)
EXAMINED = Examined(WORLD.account, 3, letter(), request_hash(SEALED), Minting(OUTPUTS, TOTALS))
GOOD = OrderGood(EXAMINED, ENOUGH, NOW + 5)
SIGNING = Signing(EXAMINED, NOW + 5)


def run(state: RefundState, event: RefundEvent) -> tuple[RefundState, Effects]:
    return step(state, event, SEED, NOW)


class TestRefundMachine(MachineConformance):
    table = TRANSITIONS
    state_union = RefundState
    event_union = RefundEvent
    states = (New(), SIGNING, Posting(), Granted(), Refused(Refusal.BAD_TICKET, ""))
    events = (
        GOOD,
        alter(GOOD, "balance", 0),
        OrderBad(Refusal.BAD_TICKET, "does not open"),
        Signed((bytes(256),) * 2),
        SignerRefused(Refusal.BAD_BLINDED_VALUE, "shares a factor"),
        Committed(),
        Contradicted(Conflict(Refusal.INSUFFICIENT_FUNDS), NOW),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return run(state, event)


def opens(ticket: Letter) -> Callable[[], Letter]:
    return lambda: ticket


# ---------------------------------------------------------------- what is granted


def test_a_good_order_goes_to_the_signer() -> None:
    examined = examine(ORDER, WORLD.account, ORDER_ID, lambda: open_letter(KEY, SEALED, TICKET), WORLD.ring, NOW)
    assert examined == EXAMINED
    assert run(New(), GOOD) == (SIGNING, (SignBlinded(OUTPUTS),))


@pytest.mark.parametrize(("order", "ticket", "not_after"), [(5, 9, 5), (9, 5, 5), (5, 5, 5)])
def test_order_and_ticket_both_bound_the_commit(order: int, ticket: int, not_after: int) -> None:
    examined = alter(EXAMINED, "ticket", letter(deadline=NOW + ticket))
    state, _ = run(New(), OrderGood(examined, ENOUGH, NOW + order))
    assert state == Signing(examined, NOW + not_after)
    _, (post,) = run(state, Signed(WORLD.sign_blinded(OUTPUTS)))
    assert isinstance(post, Post)
    assert post.not_after == NOW + not_after


def test_what_is_signed_is_debited_and_the_answer_to_the_ticket_goes_to_merchant_and_books_alike() -> None:
    state, (post,) = run(SIGNING, Signed(WORLD.sign_blinded(OUTPUTS)))
    assert state == Posting()
    assert isinstance(post, Post)
    sealed = RefundOrderAnswer.decode(post.body).issue
    assert post == Post(
        body=post.body,
        entries=withdrawal_entries(WORLD.account.number, "USD", TOTALS, 3),
        issued=SIGNING.examined.minting.issued,
        reply=Reply(TICKET_ID, request_hash(SEALED), sealed),
        not_after=NOW + 5,
    )
    assert run(Posting(), Committed()) == (Granted(), ())


def test_the_tickets_writer_alone_reads_its_coins_in_the_answer() -> None:
    _, (post,) = run(SIGNING, Signed(WORLD.sign_blinded(OUTPUTS)))
    assert isinstance(post, Post)
    sealed = RefundOrderAnswer.decode(post.body).issue
    answer = open_answer(WORLD.identity, ANSWER_KEY, request_hash(SEALED), sealed)
    issued = Issue.decode(answer.check()).coins
    assert answer.at == NOW
    coins, wrong = unblind_outputs(WORLD.root, WORLD.ring, TICKET_ID, OUT, issued)
    assert ([coin.denomination for _, coin in coins], wrong) == (OUT, "")
    assert not any(one.signature in post.body for one in issued)
    with pytest.raises(PeerError):
        open_answer(WORLD.identity, seed("the merchant's"), request_hash(SEALED), sealed)


def test_an_account_may_be_emptied_to_the_last_unit_and_no_further() -> None:
    assert isinstance(run(New(), GOOD)[0], Signing)
    state, effects = run(New(), alter(GOOD, "balance", ENOUGH - 1))
    assert isinstance(state, Refused)
    assert (state.refusal, state.detail, effects) == (
        "insufficient_funds",
        "the account does not hold the amount and its commission",
        (),
    )


def test_an_order_that_is_bad_and_signer_and_books_that_refuse_change_nothing() -> None:
    bad = Refused("bad_ticket", "does not open")
    assert run(New(), OrderBad(Refusal.BAD_TICKET, "does not open")) == (bad, ())
    unsigned = Refused("bad_blinded_value", "shares a factor")
    assert run(SIGNING, SignerRefused(Refusal.BAD_BLINDED_VALUE, "shares a factor")) == (unsigned, ())
    reused = Refused("request_id_reused", "another request with this id was answered")
    assert run(Posting(), Contradicted(Conflict(Refusal.REQUEST_ID_REUSED), NOW)) == (reused, ())


# ---------------------------------------------------------------- refusals, in order of precedence


def with_blinded(value: int) -> tuple[BlindedCoin, ...]:
    return (alter(OUTPUTS[0], "blinded", value.to_bytes(256)), OUTPUTS[1])


def with_denomination(denomination: bytes) -> tuple[BlindedCoin, ...]:
    return (OUTPUTS[0], alter(OUTPUTS[1], "denomination", denomination))


def shows(ticket: Letter) -> dict[str, Any]:
    return {"open_ticket": opens(ticket)}


def failing() -> Letter:
    raise PeerError(Refusal.MALFORMED, "it does not open")


RIGHT: dict[str, Any] = {
    "amount": 600,
    "commission": 3,
    "account": WORLD.account,
    "open_ticket": opens(letter()),
    "ring": WORLD.ring,
    "now": NOW,
}
FAULTS: dict[str, tuple[dict[str, Any], Refusal]] = {
    "no account": ({"account": None}, Refusal.UNKNOWN_ACCOUNT),
    "a client": ({"account": WORLD.client}, Refusal.WRONG_MERCHANT),
    "no letter": ({"open_ticket": failing}, Refusal.BAD_TICKET),
    "no ticket": (shows(letter(body=b"x")), Refusal.BAD_TICKET),
    "signed": (shows(letter(sender=public_key(SEED))), Refusal.BAD_TICKET),
    "the order's own id": (shows(letter(request_id=ORDER_ID)), Refusal.BAD_TICKET),
    "too many coins": ({"ring": KeyRing(alter(WORLD.keyset, "limits", Limits(1, 1)))}, Refusal.BAD_TICKET),
    "in another currency": ({"account": alter(WORLD.account, "currency", "EUR")}, Refusal.WRONG_CURRENCY),
    "a coin in another currency": (shows(letter(with_denomination(WORLD.ids["EUR", 100]))), Refusal.WRONG_CURRENCY),
    "unknown denomination": (shows(letter(with_denomination(bytes(32)))), Refusal.UNKNOWN_DENOMINATION),
    "not yet minted": ({"now": NOW - DAY - 1}, Refusal.DENOMINATION_CLOSED),
    "no longer minted": ({"now": NOW + DAY}, Refusal.DENOMINATION_CLOSED),
    "revoked": ({"ring": KeyRing(alter(WORLD.keyset, "revoked", (OUT[0],)))}, Refusal.KEY_REVOKED),
    "blinded 0": (shows(letter(with_blinded(0))), Refusal.BAD_BLINDED_VALUE),
    "blinded factor of n": (
        shows(letter(with_blinded(rsa_key("USD 500").private_numbers().q))),
        Refusal.BAD_BLINDED_VALUE,
    ),
    "blinded twice": (shows(letter(OUTPUTS[:1] * 2)), Refusal.BLINDED_VALUE_REUSED),
    "ticket worth more": (shows(letter(WORLD.blind([*OUT, OUT[1]], TICKET_ID))), Refusal.AMOUNT_MISMATCH),
    "amount too high": ({"amount": 601}, Refusal.AMOUNT_MISMATCH),
    "amount too low": ({"amount": 599}, Refusal.AMOUNT_MISMATCH),
    "another commission": ({"commission": 2}, Refusal.COMMISSION_CHANGED),
    "no commission": ({"commission": 0}, Refusal.COMMISSION_CHANGED),
}


def test_a_ticket_binds_the_bank_for_no_more_than_eight_days() -> None:
    last = letter(deadline=NOW + 8 * DAY)
    assert examine(ORDER, WORLD.account, ORDER_ID, opens(last), WORLD.ring, NOW).ticket == last
    assert refusal_of(shows(letter(deadline=NOW + 8 * DAY + 1))) is Refusal.BAD_TICKET


def refusal_of(changes: dict[str, Any]) -> Refusal:
    asked = RIGHT | changes
    order = RefundOrder(asked["amount"], asked["commission"], SEALED)
    with pytest.raises(PeerError) as caught:
        examine(order, asked["account"], ORDER_ID, asked["open_ticket"], asked["ring"], asked["now"])
    assert caught.value.detail
    return caught.value.refusal


@pytest.mark.parametrize(("changes", "refusal"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_refused(changes: dict[str, Any], refusal: Refusal) -> None:
    assert refusal_of(changes) is refusal


LOOKED_UP = {Refusal.UNKNOWN_DENOMINATION, Refusal.DENOMINATION_CLOSED, Refusal.KEY_REVOKED}
PAIRS = [
    (first, second)
    for first, second in combinations(FAULTS, 2)
    if not FAULTS[first][0].keys() & FAULTS[second][0].keys()
    and Refusal.WRONG_CURRENCY not in (told := {FAULTS[first][1], FAULTS[second][1]})  # a fault of a coin here
    and not told <= LOOKED_UP
]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{first}, {second}" for first, second in PAIRS])
def test_of_two_faults_the_one_that_precedes_in_the_table_is_told(first: str, second: str) -> None:
    order = list(Refusal)
    told = refusal_of(FAULTS[first][0] | FAULTS[second][0])
    assert told is min(FAULTS[first][1], FAULTS[second][1], key=order.index)


@pytest.mark.parametrize(
    "ticket",
    [
        seal_letter(WORLD.shop_envelope.public, letter(), None),
        seal_letter(KEY.public, letter(kind="exchange"), None),
        seal_letter(KEY.public, letter(sender=public_key(SEED)), SEED),
        seal(KEY.public, PARCEL, letter().encode()),
        seal(KEY.public, TICKET, letter().encode()),
        altered(SEALED),
        b"",
    ],
    ids=["another key", "another kind", "signed", "parcel", "no letter", "altered", "nothing"],
)
def test_an_envelope_that_is_no_anonymous_letter_of_kind_ticket_is_bad(ticket: bytes) -> None:
    assert refusal_of({"open_ticket": lambda: open_letter(KEY, ticket, TICKET)}) is Refusal.BAD_TICKET
