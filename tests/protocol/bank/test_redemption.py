from itertools import pairwise
from typing import Any

import msgspec
import pytest

from protocol.bank.coins import Taken
from protocol.bank.desk import Account, Committed, Contradicted, New, Post, Refused
from protocol.bank.ledger import Conflict, Generation, Redemption, deposit_entries
from protocol.bank.redemption import (
    TRANSITIONS,
    CoinsBad,
    CoinsGood,
    Credited,
    Effects,
    Examined,
    Posting,
    RedemptionEvent,
    RedemptionState,
    examine,
    revoked_from,
    step,
)
from protocol.coins import Coin, Evidence, spend
from protocol.commission import Commission
from protocol.errors import PeerError
from protocol.keyset import KeyRing, Limits
from protocol.machine import State
from protocol.recovery import RedeemAnswer, RedeemRequest, redeem_digest
from protocol.refusals import Refusal
from tests.conformance.machine import MachineConformance
from tests.world import BANK, DAY, GENERATION, NOW, alter, seed
from tests.world import world as make_world

WORLD = make_world()
CLIENT = WORLD.client
REQUEST_ID = b"r" * 16
DEADLINE = NOW + 5
ONE, TWO, FIVE = WORLD.purse.coins
EURO = WORLD.withdraw(100, currency="EUR").coins[0]
SEEDS = dict(zip((coin.serial for coin in WORLD.purse.coins), WORLD.purse.seeds, strict=True))
TOTALS = {WORLD.ids["USD", value]: value for value in (100, 200, 500)}
DIGEST = redeem_digest(BANK, REQUEST_ID, CLIENT.key)


def asking(*coins: Coin, commission: int = 4) -> RedeemRequest:
    """A request whose coins, by default all of the purse, are spent on it."""
    shown = coins or WORLD.purse.coins
    spent = tuple(spend(coin, SEEDS.get(coin.serial, seed("no key")), DIGEST) for coin in shown)
    return RedeemRequest(GENERATION, commission, spent)


REQUEST = asking()
EXAMINED = Examined(REQUEST, CLIENT, DIGEST, Taken(REQUEST.coins, TOTALS), 4)
GOOD = CoinsGood(EXAMINED, DEADLINE)
EARLIER = WORLD.purse.spend(seed("an earlier payment"))[0]
EVIDENCE = Evidence(EARLIER.coin.denomination, EARLIER.coin.serial, seed("an earlier payment"), EARLIER.spend)
SPENT = Contradicted(Conflict(Refusal.ALREADY_SPENT, (EVIDENCE,)), NOW)


class TestRedemptionMachine(MachineConformance):
    table = TRANSITIONS
    state_union = RedemptionState
    event_union = RedemptionEvent
    states = (New(), Posting(), Credited(), Refused(Refusal.BAD_COIN, ""))
    events = (
        GOOD,
        alter(GOOD, "examined", alter(EXAMINED, "commission", 5)),
        CoinsBad(Refusal.BAD_COIN, "forged"),
        Committed(),
        SPENT,
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def test_good_coins_are_spent_on_the_redemption_and_credited_less_the_commission() -> None:
    assert examine(REQUEST, CLIENT, REQUEST_ID, WORLD.ring, NOW) == EXAMINED
    assert step(New(), GOOD) == (
        Posting(),
        (
            Post(
                body=RedeemAnswer(800, 4).encode(),
                entries=deposit_entries(CLIENT.number, "USD", TOTALS, 4),
                spent=EXAMINED.taken.spendings,
                spent_on=DIGEST,
                generation=Generation(CLIENT.number, GENERATION),
                redemption=Redemption(CLIENT.number, 800),
                not_after=DEADLINE,
            ),
        ),
    )
    assert step(Posting(), Committed()) == (Credited(), ())


def ring_with(**fields: Any) -> KeyRing:
    return KeyRing(msgspec.structs.replace(WORLD.keyset, **fields))


def charging(flat: int) -> KeyRing:
    return ring_with(tariff=alter(WORLD.keyset.tariff, "redemption", Commission(flat, 0, 0, 0)))


def test_coins_of_revoked_keys_and_of_keys_past_spending_have_their_value_back() -> None:
    revoked = ring_with(revoked=tuple(TOTALS))
    examined = msgspec.structs.replace(EXAMINED, revoked=800, before=NOW - 1)
    assert examine(REQUEST, CLIENT, REQUEST_ID, revoked, NOW, NOW - 1) == examined
    assert examine(REQUEST, CLIENT, REQUEST_ID, revoked, NOW + 20 * DAY - 1, NOW - 1) == examined


def test_the_books_are_told_what_is_revoked_and_since_when() -> None:
    ring = ring_with(revoked=(WORLD.ids["USD", 200],))
    _, (post,) = step(New(), CoinsGood(examine(REQUEST, CLIENT, REQUEST_ID, ring, NOW, 7), DEADLINE))
    assert post.redemption == Redemption(CLIENT.number, 800, revoked=200, before=7)


def test_denominations_are_revoked_from_the_first_keyset_that_says_so_of_one() -> None:
    one, two, three = (WORLD.ids["USD", value] for value in (100, 200, 500))
    keysets = [
        msgspec.structs.replace(WORLD.keyset, issued_at=at, revoked=revoked)
        for at, revoked in ((1, ()), (2, (two,)), (3, (two, one)))
    ]
    assert [revoked_from(ids, keysets) for ids in ([one], [one, two], [three], [])] == [3, 2, 0, 0]


def test_a_commission_may_eat_up_the_coins_and_no_more() -> None:
    assert examine(REQUEST, CLIENT, REQUEST_ID, charging(800), NOW).commission == 800
    assert refusal_of(REQUEST, CLIENT, charging(801), NOW) is Refusal.AMOUNT_MISMATCH


def test_every_kind_of_account_may_redeem_what_it_has_withdrawn() -> None:
    merchant = alter(CLIENT, "kind", "merchant")
    _, (post,) = step(New(), CoinsGood(examine(REQUEST, merchant, REQUEST_ID, WORLD.ring, NOW), DEADLINE))
    assert post.redemption == Redemption(CLIENT.number, 800), "so the books hold it to its withdrawals"


# ---------------------------------------------------------------- refusals, in order of precedence


def forging(index: int, request: RedeemRequest) -> RedeemRequest:
    spent = list(request.coins)
    spent[index] = alter(spent[index], "spend")
    return msgspec.structs.replace(request, coins=tuple(spent))


UNKNOWN = alter(ONE, "denomination", bytes(32))
FORGED = alter(ONE, "signature")
CLOSED = NOW + 20 * DAY  # every denomination's redeem-until
FEW = ring_with(limits=Limits(2, 1))
NEWER = alter(CLIENT, "generation", GENERATION + 1)
EUROPEAN = alter(CLIENT, "currency", "EUR")
Fault = tuple[RedeemRequest, Account | None, KeyRing, int, Refusal]
FAULTS: dict[str, Fault] = {
    "too many": (REQUEST, CLIENT, FEW, NOW, Refusal.MALFORMED),
    "no account": (REQUEST, None, WORLD.ring, NOW, Refusal.UNKNOWN_ACCOUNT),
    "an older device": (REQUEST, NEWER, WORLD.ring, NOW, Refusal.SUPERSEDED),
    "a device to come": (alter(REQUEST, "generation"), CLIENT, WORLD.ring, NOW, Refusal.SUPERSEDED),
    "another currency": (REQUEST, EUROPEAN, WORLD.ring, NOW, Refusal.WRONG_CURRENCY),
    "one coin in another currency": (asking(ONE, EURO), CLIENT, WORLD.ring, NOW, Refusal.WRONG_CURRENCY),
    "unknown denomination": (asking(ONE, UNKNOWN), CLIENT, WORLD.ring, NOW, Refusal.UNKNOWN_DENOMINATION),
    "closed": (REQUEST, CLIENT, WORLD.ring, CLOSED, Refusal.DENOMINATION_CLOSED),
    "one coin twice": (asking(ONE, ONE), CLIENT, WORLD.ring, NOW, Refusal.DUPLICATE_COIN),
    "commission above the worth": (asking(ONE), CLIENT, charging(101), NOW, Refusal.AMOUNT_MISMATCH),
    "forged coin": (asking(FORGED, TWO), CLIENT, WORLD.ring, NOW, Refusal.BAD_COIN),
    "forged spending": (forging(2, REQUEST), CLIENT, WORLD.ring, NOW, Refusal.BAD_SPEND_SIGNATURE),
    "somebody else's coins": (REQUEST, alter(CLIENT, "key"), WORLD.ring, NOW, Refusal.BAD_SPEND_SIGNATURE),
    "at another bank": (REQUEST, CLIENT, ring_with(bank="south"), NOW, Refusal.BAD_SPEND_SIGNATURE),
}
PRECEDENCE: dict[str, Fault] = {
    "the number before the account": (REQUEST, None, FEW, NOW, Refusal.MALFORMED),
    "the device before the currency": (REQUEST, alter(NEWER, "currency", "EUR"), WORLD.ring, NOW, Refusal.SUPERSEDED),
    "unknown before closed": (asking(UNKNOWN), CLIENT, WORLD.ring, CLOSED, Refusal.UNKNOWN_DENOMINATION),
    "closed before another currency": (REQUEST, EUROPEAN, WORLD.ring, CLOSED, Refusal.DENOMINATION_CLOSED),
    "another currency before twice": (asking(ONE, ONE), EUROPEAN, WORLD.ring, NOW, Refusal.WRONG_CURRENCY),
    "twice before the commission": (asking(ONE, ONE), CLIENT, charging(201), NOW, Refusal.DUPLICATE_COIN),
    "the commission before a forgery": (asking(FORGED), CLIENT, charging(101), NOW, Refusal.AMOUNT_MISMATCH),
    "a forged coin before a forged spending": (
        forging(0, asking(ONE, alter(TWO, "signature"))),
        CLIENT,
        WORLD.ring,
        NOW,
        Refusal.BAD_COIN,
    ),
    "a forgery before a changed commission": (asking(FORGED, commission=5), CLIENT, WORLD.ring, NOW, Refusal.BAD_COIN),
}


def refusal_of(request: RedeemRequest, account: Account | None, ring: KeyRing, now: int) -> Refusal:
    with pytest.raises(PeerError) as caught:
        examine(request, account, REQUEST_ID, ring, now)
    return caught.value.refusal


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_refused(fault: Fault) -> None:
    request, account, ring, now, refusal = fault
    assert refusal_of(request, account, ring, now) is refusal


@pytest.mark.parametrize("fault", PRECEDENCE.values(), ids=PRECEDENCE)
def test_of_several_faults_one_precedes(fault: Fault) -> None:
    request, account, ring, now, refusal = fault
    assert refusal_of(request, account, ring, now) is refusal


def test_the_refusals_of_an_examination_stand_in_the_order_of_the_table() -> None:
    told = [refusal for *_, refusal in FAULTS.values()]
    order = list(Refusal)
    assert all(order.index(one) <= order.index(other) for one, other in pairwise(told))


def test_coins_spent_on_one_request_serve_no_other() -> None:
    with pytest.raises(PeerError) as caught:
        examine(REQUEST, CLIENT, b"s" * 16, WORLD.ring, NOW)
    assert caught.value.refusal is Refusal.BAD_SPEND_SIGNATURE


def test_bad_coins_leave_nothing_in_the_books() -> None:
    assert step(New(), CoinsBad(Refusal.BAD_COIN, "forged")) == (Refused("bad_coin", "forged"), ())


@pytest.mark.parametrize("commission", [0, 3, 5])
def test_a_commission_that_has_changed_is_refused_and_it_lasts(commission: int) -> None:
    examined = examine(asking(commission=commission), CLIENT, REQUEST_ID, WORLD.ring, NOW)
    detail = f"the commission is 4, not {commission}"
    assert step(New(), CoinsGood(examined, DEADLINE)) == (Refused("commission_changed", detail, lasting=True), ())


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal.REQUEST_EXPIRED,
        Refusal.SUPERSEDED,
        Refusal.REDEMPTION_CAPPED,
        Refusal.KEY_OVERDRAWN,
        Refusal.REQUEST_ID_REUSED,
    ],
)
def test_the_books_may_refuse_and_it_lasts(refusal: Refusal) -> None:
    state, effects = step(Posting(), Contradicted(Conflict(refusal), NOW))
    assert isinstance(state, Refused)
    assert (state.refusal, state.evidence, state.lasting, effects) == (refusal, (), True, ())


def test_what_was_spent_before_is_refused_with_evidence() -> None:
    state, effects = step(Posting(), SPENT)
    assert isinstance(state, Refused)
    assert (state.refusal, state.evidence, state.lasting, effects) == ("already_spent", (EVIDENCE,), False, ())
