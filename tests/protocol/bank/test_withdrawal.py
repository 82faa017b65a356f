from itertools import combinations
from typing import Any

import msgspec
import pytest

from protocol.bank.coins import check_minting
from protocol.bank.desk import (
    Committed,
    Contradicted,
    New,
    Post,
    Refused,
    SignBlinded,
    Signed,
    SignerRefused,
)
from protocol.bank.ledger import Conflict, Generation, Withdrawal, withdrawal_entries
from protocol.bank.withdrawal import (
    TRANSITIONS,
    Asked,
    Effects,
    Granted,
    Posting,
    Signing,
    WithdrawalEvent,
    WithdrawalState,
    step,
)
from protocol.keyset import KeyRing, Limits
from protocol.machine import State
from protocol.messages import BlindedCoin, BlindSignature, WithdrawAnswer, WithdrawRequest
from protocol.refusals import Refusal
from tests.conformance.machine import MachineConformance
from tests.world import DAY, GENERATION, NOW, VALUES, World, alter, rsa_key
from tests.world import world as make_world

WORLD = make_world()
REQUEST_ID = b"w" * 16
DENOMINATIONS = [WORLD.ids["USD", 100], WORLD.ids["USD", 500], WORLD.ids["USD", 100]]
SETTLED = (b"e" * 16, b"f" * 16)
REQUEST = alter(WORLD.asking(DENOMINATIONS, REQUEST_ID), "settled", SETTLED)
ENOUGH = 700 + 7  # the amount and its commission of 1 %
ASKED = Asked(REQUEST, WORLD.client, ENOUGH, WORLD.ring, NOW, NOW + 5)
TOTALS = {WORLD.ids["USD", 100]: 200, WORLD.ids["USD", 500]: 500}
MINTING = check_minting(REQUEST.coins, "USD", WORLD.ring, NOW)
SIGNING = Signing(WORLD.client, REQUEST, MINTING, 7, NOW + 5)


class TestWithdrawalMachine(MachineConformance):
    table = TRANSITIONS
    state_union = WithdrawalState
    event_union = WithdrawalEvent
    states = (New(), SIGNING, Posting(), Granted(), Refused(Refusal.UNKNOWN_ACCOUNT, ""))
    events = (
        ASKED,
        alter(ASKED, "balance", 0),
        Signed((bytes(256),) * 3),
        SignerRefused(Refusal.BAD_BLINDED_VALUE, "shares a factor"),
        Committed(),
        Contradicted(Conflict(Refusal.INSUFFICIENT_FUNDS), NOW),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event)


def refusal_of(event: Asked) -> str:
    state, effects = step(New(), event)
    assert isinstance(state, Refused)
    assert effects == ()
    return state.refusal


def test_a_good_request_goes_to_the_signer() -> None:
    assert step(New(), ASKED) == (SIGNING, (SignBlinded(REQUEST.coins),))


def test_what_is_signed_is_debited_and_every_blinded_value_is_remembered() -> None:
    signatures = WORLD.sign_blinded(REQUEST.coins)
    named = tuple(BlindSignature(one, signed) for one, signed in zip(DENOMINATIONS, signatures, strict=True))
    state, effects = step(SIGNING, Signed(signatures))
    assert state == Posting()
    assert effects == (
        Post(
            body=WithdrawAnswer(named, 700, 7).encode(),
            entries=withdrawal_entries(WORLD.client.number, "USD", TOTALS, 7),
            issued=MINTING.issued,
            generation=Generation(WORLD.client.number, GENERATION),
            withdrawal=Withdrawal(WORLD.client.number, 700, SETTLED),
            not_after=NOW + 5,
        ),
    )
    assert step(Posting(), Committed()) == (Granted(), ())


def test_the_signer_and_the_books_may_refuse() -> None:
    refused, effects = step(SIGNING, SignerRefused(Refusal.BAD_BLINDED_VALUE, "shares a factor"))
    assert (refused, effects) == (Refused("bad_blinded_value", "shares a factor"), ())
    refused, effects = step(Posting(), Contradicted(Conflict(Refusal.INSUFFICIENT_FUNDS), NOW))
    assert (refused, effects) == (
        Refused("insufficient_funds", "the account does not hold the amount and its commission"),
        (),
    )


# ---------------------------------------------------------------- refusals, in order of precedence


def with_limit(limit: int) -> KeyRing:
    return KeyRing(alter(WORLD.keyset, "limits", Limits(limit, 1)))


def with_coins(*coins: BlindedCoin) -> WithdrawRequest:
    return WithdrawRequest(GENERATION, 7, coins, ())


def with_blinded(value: int, index: int = 1) -> WithdrawRequest:
    coins = list(REQUEST.coins)
    coins[index] = alter(coins[index], "blinded", value.to_bytes(256))
    return with_coins(*coins)


def with_denomination(denomination: bytes) -> WithdrawRequest:
    return with_coins(*REQUEST.coins[:2], alter(REQUEST.coins[2], "denomination", denomination))


def with_revoked(denomination: bytes) -> KeyRing:
    return KeyRing(alter(WORLD.keyset, "revoked", (denomination,)))


N = WORLD.ring.key(DENOMINATIONS[1]).n
TWICE = with_coins(*REQUEST.coins[:2], alter(REQUEST.coins[2], "blinded", REQUEST.coins[0].blinded))
FAULTS: dict[str, tuple[dict[str, Any], Refusal]] = {
    "more coins than the bank takes": ({"ring": with_limit(2)}, Refusal.MALFORMED),
    "no account": ({"account": None}, Refusal.UNKNOWN_ACCOUNT),
    "a device that was superseded": ({"account": alter(WORLD.client, "generation")}, Refusal.SUPERSEDED),
    "account in another currency": ({"account": alter(WORLD.client, "currency", "EUR")}, Refusal.WRONG_CURRENCY),
    "coin in another currency": ({"request": with_denomination(WORLD.ids["EUR", 100])}, Refusal.WRONG_CURRENCY),
    "unknown denomination": ({"request": with_denomination(bytes(32))}, Refusal.UNKNOWN_DENOMINATION),
    "revoked": ({"ring": with_revoked(DENOMINATIONS[0])}, Refusal.KEY_REVOKED),
    "not yet minted": ({"now": NOW - DAY - 1}, Refusal.DENOMINATION_CLOSED),
    "no longer minted": ({"now": NOW + DAY}, Refusal.DENOMINATION_CLOSED),
    "blinded 0": ({"request": with_blinded(0)}, Refusal.BAD_BLINDED_VALUE),
    "blinded 1": ({"request": with_blinded(1)}, Refusal.BAD_BLINDED_VALUE),
    "blinded n - 1": ({"request": with_blinded(N - 1)}, Refusal.BAD_BLINDED_VALUE),
    "blinded n": ({"request": with_blinded(N)}, Refusal.BAD_BLINDED_VALUE),
    "blinded factor of n": (
        {"request": with_blinded(rsa_key("USD 500").private_numbers().p)},
        Refusal.BAD_BLINDED_VALUE,
    ),
    "blinded twice": ({"request": TWICE}, Refusal.BLINDED_VALUE_REUSED),
    "another commission": ({"request": alter(REQUEST, "commission", 6)}, Refusal.COMMISSION_CHANGED),
    "one minor unit too little": ({"balance": ENOUGH - 1}, Refusal.INSUFFICIENT_FUNDS),
    "nothing": ({"balance": 0}, Refusal.INSUFFICIENT_FUNDS),
}


@pytest.mark.parametrize(("fields", "refusal"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_refused(fields: dict[str, Any], refusal: Refusal) -> None:
    assert refusal_of(msgspec.structs.replace(ASKED, **fields)) == refusal


LOOKED_UP = {
    Refusal.WRONG_CURRENCY,
    Refusal.UNKNOWN_DENOMINATION,
    Refusal.DENOMINATION_CLOSED,
    Refusal.KEY_REVOKED,
}
PAIRS = [
    (first, second)
    for first, second in combinations(FAULTS, 2)
    if not FAULTS[first][0].keys() & FAULTS[second][0].keys() and not {FAULTS[first][1], FAULTS[second][1]} <= LOOKED_UP
]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{first}, {second}" for first, second in PAIRS])
def test_of_two_faults_the_one_that_precedes_in_the_table_is_told(first: str, second: str) -> None:
    both = msgspec.structs.replace(ASKED, **FAULTS[first][0], **FAULTS[second][0])
    order = list(Refusal)
    assert refusal_of(both) == min(FAULTS[first][1], FAULTS[second][1], key=order.index)


def test_an_account_may_be_emptied_to_the_last_unit() -> None:
    assert isinstance(step(New(), ASKED)[0], Signing)


def test_as_many_coins_are_taken_as_the_bank_announces() -> None:
    assert isinstance(step(New(), msgspec.structs.replace(ASKED, ring=with_limit(3)))[0], Signing)


@pytest.mark.parametrize("pair", VALUES, ids=str)
def test_every_denomination_can_be_withdrawn(world: World, pair: tuple[str, int]) -> None:
    currency, value = pair
    (coin,) = world.withdraw(value, currency=currency).coins
    assert coin.denomination == world.ids[pair]
