import hashlib
from itertools import pairwise
from typing import Any

import pytest

from protocol.bank.coins import Minting, Taken, check_minting, check_number, check_taken, currency_of, value_of
from protocol.bank.ledger import Spending
from protocol.coins import SpentCoin, spend
from protocol.errors import PeerError
from protocol.keyset import Denomination, KeyRing, Limits
from protocol.messages import BlindedCoin, BlindSignature
from protocol.refusals import Refusal
from tests.world import DAY, NOW, alter, rsa_key, seed
from tests.world import world as make_world

WORLD = make_world()
DIGEST = seed("what coins are spent on")
CENTS, TWOS, FIVES, EURO = (WORLD.ids[pair] for pair in (("USD", 100), ("USD", 200), ("USD", 500), ("EUR", 100)))
ASKED = (CENTS, FIVES, CENTS)
BLINDED = WORLD.blind(ASKED, b"blinded coins" + bytes(3))
N = WORLD.ring.key(FIVES).n


def limited(count: int) -> KeyRing:
    return KeyRing(alter(WORLD.keyset, "limits", Limits(count, 1)))


def revoking(*denominations: bytes) -> KeyRing:
    return KeyRing(alter(WORLD.keyset, "revoked", denominations))


# ---------------------------------------------------------------- blinded coins


def test_blinded_coins_that_may_be_signed_are_counted_and_remembered_by_their_hash() -> None:
    minting = check_minting(BLINDED, "USD", WORLD.ring, NOW)
    assert minting == Minting(BLINDED, {CENTS: 200, FIVES: 500})
    assert minting.amount == 700
    assert minting.issued == tuple((coin.denomination, hashlib.sha256(coin.blinded).digest()) for coin in BLINDED)


def test_each_signature_is_named_after_the_denomination_that_was_asked() -> None:
    signatures = (b"1" * 256, b"2" * 256, b"3" * 256)
    signed = check_minting(BLINDED, "USD", WORLD.ring, NOW).signed(signatures)
    assert signed == tuple(BlindSignature(one, signature) for one, signature in zip(ASKED, signatures, strict=True))


def test_as_many_coins_are_signed_as_the_bank_announces() -> None:
    assert check_minting(BLINDED, "USD", limited(3), NOW).amount == 700


def with_blinded(value: bytes) -> tuple[BlindedCoin, ...]:
    first, second, third = BLINDED
    return first, alter(second, "blinded", value), third


def with_denomination(denomination: bytes) -> tuple[BlindedCoin, ...]:
    return (*BLINDED[:2], alter(BLINDED[2], "denomination", denomination))


MINTING_FAULTS: dict[str, tuple[dict[str, Any], Refusal]] = {
    "too many": ({"ring": limited(2)}, Refusal.MALFORMED),
    "unknown": ({"coins": with_denomination(bytes(32))}, Refusal.UNKNOWN_DENOMINATION),
    "revoked": ({"ring": revoking(FIVES)}, Refusal.KEY_REVOKED),
    "too early": ({"now": NOW - DAY - 1}, Refusal.DENOMINATION_CLOSED),
    "too late": ({"now": NOW + DAY}, Refusal.DENOMINATION_CLOSED),
    "another currency": ({"coins": with_denomination(EURO)}, Refusal.WRONG_CURRENCY),
    "all in another currency": ({"currency": "EUR"}, Refusal.WRONG_CURRENCY),
    "0": ({"coins": with_blinded(bytes(256))}, Refusal.BAD_BLINDED_VALUE),
    "n - 1": ({"coins": with_blinded((N - 1).to_bytes(256))}, Refusal.BAD_BLINDED_VALUE),
    "a factor": (
        {"coins": with_blinded(rsa_key("USD 500").private_numbers().p.to_bytes(256))},
        Refusal.BAD_BLINDED_VALUE,
    ),
    "twice": (
        {"coins": (*BLINDED[:2], alter(BLINDED[2], "blinded", BLINDED[0].blinded))},
        Refusal.BLINDED_VALUE_REUSED,
    ),
    # of two faults
    "too many, unknown": ({"ring": limited(2), "coins": with_denomination(bytes(32))}, Refusal.MALFORMED),
    "revoked, too late": ({"ring": revoking(CENTS), "now": NOW + DAY}, Refusal.KEY_REVOKED),
    "revoked, another currency": ({"ring": revoking(CENTS), "currency": "EUR"}, Refusal.KEY_REVOKED),
    "too late, another currency": ({"now": NOW + DAY, "currency": "EUR"}, Refusal.DENOMINATION_CLOSED),
    "another currency, 0": ({"currency": "EUR", "coins": with_blinded(bytes(256))}, Refusal.WRONG_CURRENCY),
    "0, twice": (
        {"coins": (*with_blinded(bytes(256))[:2], alter(BLINDED[2], "blinded", BLINDED[0].blinded))},
        Refusal.BAD_BLINDED_VALUE,
    ),
    "the first coin's fault": (
        {"coins": (alter(BLINDED[0], "denomination", EURO), alter(BLINDED[1], "denomination", bytes(32)))},
        Refusal.WRONG_CURRENCY,
    ),
}


@pytest.mark.parametrize(("fields", "refusal"), MINTING_FAULTS.values(), ids=MINTING_FAULTS)
def test_a_blinded_coin_with_a_fault_is_not_signed(fields: dict[str, Any], refusal: Refusal) -> None:
    asked: dict[str, Any] = {"coins": BLINDED, "currency": "USD", "ring": WORLD.ring, "now": NOW}
    with pytest.raises(PeerError) as caught:
        check_minting(**(asked | fields))
    assert caught.value.refusal is refusal


# ---------------------------------------------------------------- coins that come back


PURSE = WORLD.withdraw(100, 500, 100, request_id=b"coins taken back")
SPENT = PURSE.spend(DIGEST)
TAKEN = Taken(SPENT, {CENTS: 200, FIVES: 500})
OTHER = WORLD.withdraw(100, currency="EUR", request_id=b"euros taken back").spend(DIGEST)


def spendable(key: bytes) -> Denomination:
    return WORLD.ring.spendable(key, NOW)


def test_coins_are_counted_by_denomination() -> None:
    assert value_of(SPENT, "USD", spendable) == TAKEN
    assert TAKEN.amount == 700
    assert TAKEN.spendings == tuple(Spending(one.coin.denomination, one.coin.serial, one.spend) for one in SPENT)


def test_a_denomination_is_looked_up_once() -> None:
    asked = list[bytes]()

    def lookup(key: bytes) -> Denomination:
        asked.append(key)
        return WORLD.ring.denomination(key)

    value_of(SPENT, "USD", lookup)
    assert asked == [CENTS, FIVES]


def named(index: int, denomination: bytes) -> tuple[SpentCoin, ...]:
    coins = list(SPENT)
    coins[index] = alter(coins[index], "coin", alter(coins[index].coin, "denomination", denomination))
    return tuple(coins)


@pytest.mark.parametrize(
    ("coins", "refusal"),
    [
        (named(1, bytes(32)), Refusal.UNKNOWN_DENOMINATION),
        ((SPENT[0], *OTHER), Refusal.WRONG_CURRENCY),
        ((*SPENT, SPENT[0]), Refusal.DUPLICATE_COIN),
        ((SPENT[0], named(0, FIVES)[0]), Refusal.DUPLICATE_COIN),
        ((SPENT[0], SPENT[0], *OTHER), Refusal.WRONG_CURRENCY),
        ((*OTHER, *named(0, bytes(32))), Refusal.WRONG_CURRENCY),
    ],
    ids=["unknown", "euro", "twice", "twice by number", "euro before twice", "the first coin's fault"],
)
def test_coins_of_the_wrong_kind_are_not_taken(coins: tuple[SpentCoin, ...], refusal: Refusal) -> None:
    with pytest.raises(PeerError) as caught:
        value_of(coins, "USD", spendable)
    assert caught.value.refusal is refusal


def test_what_the_lookup_refuses_is_refused() -> None:
    ring = revoking(FIVES)
    with pytest.raises(PeerError) as caught:
        value_of(SPENT, "USD", lambda key: ring.exchangeable(key, NOW))
    assert caught.value.refusal is Refusal.KEY_REVOKED
    assert value_of(SPENT, "USD", lambda key: ring.redeemable(key, NOW)) == TAKEN


def test_good_signatures_pass() -> None:
    check_taken(TAKEN, DIGEST, WORLD.ring)
    check_taken(Taken((), {}), DIGEST, WORLD.ring)


def replaced(index: int, coin: SpentCoin) -> tuple[SpentCoin, ...]:
    return tuple(coin if place == index else one for place, one in enumerate(SPENT))


FORGED = alter(SPENT[2], "coin", alter(SPENT[2].coin, "signature"))
STOLEN = spend(SPENT[1].coin, seed("a thief"), DIGEST)
TAKEN_FAULTS: dict[str, tuple[tuple[SpentCoin, ...], bytes, Refusal]] = {
    "the last coin forged": (replaced(2, FORGED), DIGEST, Refusal.BAD_COIN),
    "worth more than it is": (named(0, FIVES), DIGEST, Refusal.BAD_COIN),
    "by a thief": (replaced(1, STOLEN), DIGEST, Refusal.BAD_SPEND_SIGNATURE),
    "on something else": (SPENT, seed("something else"), Refusal.BAD_SPEND_SIGNATURE),
    "forged, and the first by a thief": (
        (alter(SPENT[0], "spend"), SPENT[1], FORGED),
        DIGEST,
        Refusal.BAD_COIN,
    ),
}


@pytest.mark.parametrize(("coins", "digest", "refusal"), TAKEN_FAULTS.values(), ids=TAKEN_FAULTS)
def test_a_bad_signature_is_refused(coins: tuple[SpentCoin, ...], digest: bytes, refusal: Refusal) -> None:
    with pytest.raises(PeerError) as caught:
        check_taken(Taken(coins, {}), digest, WORLD.ring)
    assert caught.value.refusal is refusal


def test_the_checks_stand_in_the_order_of_the_table() -> None:
    order = [
        list(Refusal).index(one) for one in (Refusal.DUPLICATE_COIN, Refusal.BAD_COIN, Refusal.BAD_SPEND_SIGNATURE)
    ]
    assert all(one < other for one, other in pairwise(order))


@pytest.mark.parametrize(("count", "good"), [(0, True), (2, True), (3, False)])
def test_the_bank_takes_so_many_coins_at_once(count: int, good: bool) -> None:
    if good:
        check_number(range(count), limited(2))
        return
    with pytest.raises(PeerError) as caught:
        check_number(range(count), limited(2))
    assert caught.value.refusal is Refusal.MALFORMED


def test_the_currency_is_that_of_the_first_coin() -> None:
    assert currency_of(SPENT, WORLD.ring) == "USD"
    assert currency_of((*OTHER, *SPENT), WORLD.ring) == "EUR"
    with pytest.raises(PeerError) as caught:
        currency_of(named(0, bytes(32)), WORLD.ring)
    assert caught.value.refusal is Refusal.UNKNOWN_DENOMINATION
