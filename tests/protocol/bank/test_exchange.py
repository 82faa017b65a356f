from itertools import pairwise
from typing import Any

import msgspec
import pytest

from protocol.bank.coins import Minting, Taken
from protocol.bank.desk import Committed, Contradicted, New, Post, Refused, SignBlinded, Signed, SignerRefused
from protocol.bank.exchange import (
    TRANSITIONS,
    CoinsBad,
    CoinsGood,
    CoinsSpent,
    Effects,
    Examined,
    ExchangeEvent,
    ExchangeState,
    Granted,
    Posting,
    Signing,
    examine,
    step,
)
from protocol.bank.ledger import Conflict, exchange_entries
from protocol.coins import Coin, Evidence, spend
from protocol.commission import Commission
from protocol.errors import PeerError
from protocol.exchange import EXCHANGE_AHEAD_MS, ExchangeRequest, Issue, exchange_digest
from protocol.keyset import KeyRing, Limits
from protocol.machine import State
from protocol.messages import BlindedCoin
from protocol.refusals import Refusal
from protocol.wallet.outputs import unblind_outputs
from tests.conformance.machine import MachineConformance
from tests.world import BANK, DAY, NOW, alter, rsa_key, seed
from tests.world import world as make_world

WORLD = make_world()
REQUEST_ID = b"x" * 16
DEADLINE = NOW + 5
ONE, TWO, FIVE = WORLD.purse.coins
EURO = WORLD.withdraw(100, currency="EUR").coins[0]
SEEDS = dict(zip((coin.serial for coin in WORLD.purse.coins), WORLD.purse.seeds, strict=True))
OUT = [WORLD.ids["USD", 500], WORLD.ids["USD", 200]]  # of 800 in, an exchange costs 100
OUTPUTS = WORLD.blind(OUT, REQUEST_ID)
TOTALS = {WORLD.ids["USD", value]: value for value in (100, 200, 500)}
MINTED = {WORLD.ids["USD", 500]: 500, WORLD.ids["USD", 200]: 200}


def asking(
    *coins: Coin, commission: int = 100, outputs: tuple[BlindedCoin, ...] = OUTPUTS, request_id: bytes = REQUEST_ID
) -> ExchangeRequest:
    """A request whose coins, by default all of the purse, are spent on it."""
    digest = exchange_digest(BANK, request_id, commission, outputs)
    shown = coins or WORLD.purse.coins
    spent = tuple(spend(coin, SEEDS.get(coin.serial, seed("no key")), digest) for coin in shown)
    return ExchangeRequest(commission, spent, outputs)


REQUEST = asking()
DIGEST = exchange_digest(BANK, REQUEST_ID, 100, OUTPUTS)
EXAMINED = Examined(REQUEST, DIGEST, "USD", Taken(REQUEST.coins, TOTALS))
GOOD = CoinsGood(EXAMINED, WORLD.ring, NOW, DEADLINE)
SIGNING = Signing(EXAMINED, Minting(OUTPUTS, MINTED), DEADLINE)
EARLIER = WORLD.purse.spend(seed("an earlier payment"))[0]
EVIDENCE = Evidence(EARLIER.coin.denomination, EARLIER.coin.serial, seed("an earlier payment"), EARLIER.spend)
SPENT = Contradicted(Conflict(Refusal.ALREADY_SPENT, (EVIDENCE,)), NOW)


class TestExchangeMachine(MachineConformance):
    table = TRANSITIONS
    state_union = ExchangeState
    event_union = ExchangeEvent
    states = (New(), SIGNING, Posting(), Granted(), Refused(Refusal.BAD_COIN, ""))
    events = (
        GOOD,
        alter(GOOD, "now", NOW + DAY),
        CoinsBad(Refusal.BAD_COIN, "forged"),
        CoinsSpent((EVIDENCE,)),
        Signed((bytes(256),) * 2),
        SignerRefused(Refusal.BAD_BLINDED_VALUE, "shares a factor"),
        Committed(),
        SPENT,
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


# ---------------------------------------------------------------- what is granted


def test_good_coins_are_examined_and_the_outputs_go_to_the_signer() -> None:
    assert examine(REQUEST, REQUEST_ID, WORLD.ring, NOW) == EXAMINED
    assert step(New(), GOOD) == (SIGNING, (SignBlinded(OUTPUTS),))


def test_what_is_signed_is_issued_and_the_coins_are_spent_on_the_exchange_in_one_posting() -> None:
    signatures = WORLD.sign_blinded(OUTPUTS)
    state, effects = step(SIGNING, Signed(signatures))
    assert state == Posting()
    assert effects == (
        Post(
            body=Issue(WORLD.issue(OUTPUTS)).encode(),
            entries=exchange_entries("USD", TOTALS, MINTED, 100),
            issued=SIGNING.minting.issued,
            spent=EXAMINED.taken.spendings,
            spent_on=DIGEST,
            not_after=DEADLINE,
        ),
    )
    assert step(Posting(), Committed()) == (Granted(), ())


def test_the_answer_alone_and_the_seed_give_the_new_coins() -> None:
    _, (post,) = step(SIGNING, Signed(WORLD.sign_blinded(OUTPUTS)))
    assert isinstance(post, Post)
    issued = Issue.decode(post.body).coins
    coins, wrong = unblind_outputs(WORLD.root, WORLD.ring, REQUEST_ID, OUT, issued)
    assert (len(coins), wrong) == (2, "")


def test_a_posting_names_no_account() -> None:
    _, (post,) = step(SIGNING, Signed(WORLD.sign_blinded(OUTPUTS)))
    assert isinstance(post, Post)
    assert not any(entry.ledger.startswith("account/") for entry in post.entries)
    assert (post.generation, post.withdrawal, post.redemption, post.claim) == (None,) * 4


def test_coins_are_exchanged_after_they_can_no_longer_be_spent_and_until_they_can_be_redeemed() -> None:
    spendable = NOW + 10 * DAY
    assert examine(REQUEST, REQUEST_ID, WORLD.ring, spendable) == EXAMINED
    assert examine(REQUEST, REQUEST_ID, WORLD.ring, NOW + 20 * DAY - 1) == EXAMINED


# ---------------------------------------------------------------- faults of the coins: refused, and not for ever


def ring_with(**fields: Any) -> KeyRing:
    return KeyRing(msgspec.structs.replace(WORLD.keyset, **fields))


def forging(index: int, request: ExchangeRequest) -> ExchangeRequest:
    spent = list(request.coins)
    spent[index] = alter(spent[index], "spend")
    return msgspec.structs.replace(request, coins=tuple(spent))


UNKNOWN = alter(ONE, "denomination", bytes(32))
FORGED = alter(ONE, "signature")
REVOKED = ring_with(revoked=(ONE.denomination,))
CLOSED = NOW + 20 * DAY  # every denomination's redeem-until
FAULTS: dict[str, tuple[ExchangeRequest, KeyRing, int, Refusal]] = {
    "first unknown": (asking(UNKNOWN, TWO, FIVE), WORLD.ring, NOW, Refusal.UNKNOWN_DENOMINATION),
    "last unknown": (asking(TWO, FIVE, UNKNOWN), WORLD.ring, NOW, Refusal.UNKNOWN_DENOMINATION),
    "closed": (REQUEST, WORLD.ring, CLOSED, Refusal.DENOMINATION_CLOSED),
    "revoked": (REQUEST, REVOKED, NOW, Refusal.KEY_REVOKED),
    "two currencies": (asking(ONE, EURO), WORLD.ring, NOW, Refusal.WRONG_CURRENCY),
    "one coin twice": (asking(ONE, TWO, ONE), WORLD.ring, NOW, Refusal.DUPLICATE_COIN),
    "forged coin": (asking(FORGED, TWO, FIVE), WORLD.ring, NOW, Refusal.BAD_COIN),
    "forged spending": (forging(2, REQUEST), WORLD.ring, NOW, Refusal.BAD_SPEND_SIGNATURE),
}
PRECEDENCE: dict[str, tuple[ExchangeRequest, KeyRing, int, Refusal]] = {
    "unknown before closed": (asking(UNKNOWN), WORLD.ring, CLOSED, Refusal.UNKNOWN_DENOMINATION),
    "revoked before closed": (asking(ONE), REVOKED, CLOSED, Refusal.KEY_REVOKED),
    "closed before another currency": (asking(ONE, EURO), WORLD.ring, CLOSED, Refusal.DENOMINATION_CLOSED),
    "another currency before a coin twice": (asking(ONE, ONE, EURO), WORLD.ring, NOW, Refusal.WRONG_CURRENCY),
    "a coin twice before a forged one": (asking(FORGED, FORGED), WORLD.ring, NOW, Refusal.DUPLICATE_COIN),
    "a forged coin before a forged spending": (
        forging(0, asking(ONE, alter(TWO, "signature"))),
        WORLD.ring,
        NOW,
        Refusal.BAD_COIN,
    ),
    "the coins before the outputs": (asking(FORGED, outputs=OUTPUTS[:1] * 2), WORLD.ring, NOW, Refusal.BAD_COIN),
    "the coins before the commission": (asking(FORGED, commission=0), WORLD.ring, NOW, Refusal.BAD_COIN),
}


def refusal_of(request: ExchangeRequest, ring: KeyRing, now: int) -> Refusal:
    with pytest.raises(PeerError) as caught:
        examine(request, REQUEST_ID, ring, now)
    return caught.value.refusal


@pytest.mark.parametrize(("request_", "ring", "now", "refusal"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_coins_is_refused(request_: ExchangeRequest, ring: KeyRing, now: int, refusal: Refusal) -> None:
    assert refusal_of(request_, ring, now) is refusal


@pytest.mark.parametrize(("request_", "ring", "now", "refusal"), PRECEDENCE.values(), ids=PRECEDENCE)
def test_of_several_faults_one_precedes(request_: ExchangeRequest, ring: KeyRing, now: int, refusal: Refusal) -> None:
    assert refusal_of(request_, ring, now) is refusal


@pytest.mark.parametrize("field", ["commission", "outputs"])
def test_nobody_alters_an_exchange_on_its_way(field: str) -> None:
    assert refusal_of(alter(REQUEST, field), WORLD.ring, NOW) is Refusal.BAD_SPEND_SIGNATURE


def test_coins_spent_on_one_request_serve_no_other() -> None:
    with pytest.raises(PeerError) as caught:
        examine(REQUEST, b"y" * 16, WORLD.ring, NOW)
    assert caught.value.refusal is Refusal.BAD_SPEND_SIGNATURE
    at_another_bank = ring_with(bank="south")
    assert refusal_of(REQUEST, at_another_bank, NOW) is Refusal.BAD_SPEND_SIGNATURE


def test_bad_coins_leave_nothing_in_the_books() -> None:
    assert step(New(), CoinsBad(Refusal.BAD_COIN, "forged")) == (Refused("bad_coin", "forged"), ())


# ---------------------------------------------------------------- all other faults: refused for ever


def out(*values: int, currency: str = "USD") -> tuple[BlindedCoin, ...]:
    return WORLD.blind([WORLD.ids[currency, value] for value in values], REQUEST_ID)


def with_blinded(value: int) -> tuple[BlindedCoin, ...]:
    return (alter(OUTPUTS[0], "blinded", value.to_bytes(256)), OUTPUTS[1])


N = WORLD.ring.key(OUT[0]).n
LATER: dict[str, tuple[dict[str, Any], KeyRing, int, Refusal]] = {
    "too many in": ({"outputs": OUTPUTS[:1]}, ring_with(limits=Limits(1, 1)), NOW, Refusal.MALFORMED),
    "too many out": ({"outputs": OUTPUTS * 2}, ring_with(limits=Limits(3, 1)), NOW, Refusal.MALFORMED),
    "unknown output": (
        {"outputs": (OUTPUTS[0], alter(OUTPUTS[1], "denomination", bytes(32)))},
        WORLD.ring,
        NOW,
        Refusal.UNKNOWN_DENOMINATION,
    ),
    "not yet minted": ({}, WORLD.ring, NOW - DAY - 1, Refusal.DENOMINATION_CLOSED),
    "no longer minted": ({}, WORLD.ring, NOW + DAY, Refusal.DENOMINATION_CLOSED),
    "output revoked meanwhile": ({}, ring_with(revoked=(OUT[0],)), NOW, Refusal.KEY_REVOKED),
    "output in another currency": ({"outputs": out(100, currency="EUR")}, WORLD.ring, NOW, Refusal.WRONG_CURRENCY),
    "blinded 0": ({"outputs": with_blinded(0)}, WORLD.ring, NOW, Refusal.BAD_BLINDED_VALUE),
    "blinded n": ({"outputs": with_blinded(N)}, WORLD.ring, NOW, Refusal.BAD_BLINDED_VALUE),
    "blinded factor of n": (
        {"outputs": with_blinded(rsa_key("USD 500").private_numbers().p)},
        WORLD.ring,
        NOW,
        Refusal.BAD_BLINDED_VALUE,
    ),
    "blinded twice": ({"outputs": OUTPUTS[:1] * 2}, WORLD.ring, NOW, Refusal.BLINDED_VALUE_REUSED),
    "too much out": ({"outputs": out(500, 200, 100)}, WORLD.ring, NOW, Refusal.AMOUNT_MISMATCH),
    "too little out": ({"outputs": out(500, 100)}, WORLD.ring, NOW, Refusal.AMOUNT_MISMATCH),
    "commission that does not fit the sum": ({"commission": 99}, WORLD.ring, NOW, Refusal.AMOUNT_MISMATCH),
    "no commission": (
        {"commission": 0, "outputs": out(500, 200, 100)},
        WORLD.ring,
        NOW,
        Refusal.COMMISSION_CHANGED,
    ),
    "commission too high": (
        {"commission": 200, "outputs": out(500, 100)},
        WORLD.ring,
        NOW,
        Refusal.COMMISSION_CHANGED,
    ),
    "commission changed meanwhile": (
        {},
        ring_with(tariff=alter(WORLD.keyset.tariff, "exchange", Commission(99, 0, 0, 0))),
        NOW,
        Refusal.COMMISSION_CHANGED,
    ),
}


def good(fields: dict[str, Any], ring: KeyRing, now: int) -> CoinsGood:
    examined = examine(asking(**fields), REQUEST_ID, WORLD.ring, NOW)
    return CoinsGood(examined, ring, now, DEADLINE)


def lasting_refusal_of(event: CoinsGood) -> str:
    state, effects = step(New(), event)
    assert isinstance(state, Refused)
    assert (state.lasting, effects) == (True, ())
    assert state.detail
    return state.refusal


@pytest.mark.parametrize(("fields", "ring", "now", "refusal"), LATER.values(), ids=LATER)
def test_once_the_coins_are_good_a_refusal_lasts(
    fields: dict[str, Any], ring: KeyRing, now: int, refusal: Refusal
) -> None:
    assert lasting_refusal_of(good(fields, ring, now)) == refusal


def test_a_deadline_too_far_ahead_is_malformed_and_that_lasts_for_it_comes_nearer() -> None:
    last = NOW + EXCHANGE_AHEAD_MS
    assert isinstance(step(New(), CoinsGood(EXAMINED, WORLD.ring, NOW, last))[0], Signing)
    assert lasting_refusal_of(CoinsGood(EXAMINED, WORLD.ring, NOW, last + 1)) == Refusal.MALFORMED


def test_the_refusals_of_the_outputs_stand_in_the_order_of_the_table() -> None:
    looked_up = {Refusal.WRONG_CURRENCY, Refusal.KEY_REVOKED}
    told = [refusal for *_, refusal in LATER.values() if refusal not in looked_up]
    order = list(Refusal)
    assert all(order.index(one) <= order.index(other) for one, other in pairwise(told))


@pytest.mark.parametrize(
    ("fields", "now", "refusal"),
    [
        ({"outputs": with_blinded(0)}, NOW + DAY, Refusal.DENOMINATION_CLOSED),
        ({"outputs": with_blinded(0)[:1] * 2}, NOW, Refusal.BAD_BLINDED_VALUE),
        ({"outputs": OUTPUTS[:1] * 2, "commission": 7}, NOW, Refusal.BLINDED_VALUE_REUSED),
        ({"outputs": out(500), "commission": 7}, NOW, Refusal.AMOUNT_MISMATCH),
    ],
)
def test_of_two_faults_of_the_outputs_one_precedes(fields: dict[str, Any], now: int, refusal: Refusal) -> None:
    assert lasting_refusal_of(good(fields, WORLD.ring, now)) == refusal


def test_the_signer_and_the_books_may_refuse_and_it_lasts() -> None:
    state, effects = step(SIGNING, SignerRefused(Refusal.BAD_BLINDED_VALUE, "shares a factor"))
    assert (state, effects) == (Refused("bad_blinded_value", "shares a factor", lasting=True), ())
    for refusal in (Refusal.BLINDED_VALUE_REUSED, Refusal.REQUEST_EXPIRED, Refusal.REQUEST_ID_REUSED):
        state, effects = step(Posting(), Contradicted(Conflict(refusal), NOW))
        assert isinstance(state, Refused)
        assert (state.refusal, state.evidence, state.lasting, effects) == (refusal, (), True, ())


@pytest.mark.parametrize(("state", "event"), [(New(), CoinsSpent((EVIDENCE,))), (Posting(), SPENT)])
def test_spent_coins_are_refused_with_evidence_and_buy_no_place_in_the_books(
    state: ExchangeState, event: ExchangeEvent
) -> None:
    after, effects = step(state, event)
    assert isinstance(after, Refused)
    assert (after.refusal, after.evidence, after.lasting, effects) == ("already_spent", (EVIDENCE,), False, ())
    assert after.detail
