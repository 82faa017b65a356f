"""What the bank examines of a payment's coins before it opens its books."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from protocol.bank.coins import Taken
from protocol.bank.deposit import CoinsBad, Examined, examine, sign_verdict, step
from protocol.bank.desk import New
from protocol.coins import Coin, SpentCoin, spend
from protocol.commission import Commission
from protocol.envelope import seal
from protocol.errors import PeerError
from protocol.keyset import KeyRing, Limits
from protocol.messages import PARCEL, DepositAnswer, Parcel, PaymentInfo, Signed, commit_to_coins, open_verdict
from protocol.refusals import Refusal
from protocol.wallet.paying import read_verdict, write_payment
from protocol.wallet.payment import PAY, Paying, RefusalByBank, Refused
from protocol.wallet.payment import step as pay_step
from protocol.wallet.purse import ReleaseCoins, SpendCoins, VoidDigest
from tests.world import DAY, EVIDENCE_KEY, IDS, NOW, PAYER, World, alter, altered, seed
from tests.world import world as make_world

WORLD = make_world()
INFO, PARCEL_OF = WORLD.info, WORLD.parcel()
TOTALS = {WORLD.ids["USD", value]: value for value in (100, 200, 500)}


def opens(parcel: Parcel) -> Callable[[], bytes]:
    return parcel.encode


def refusal_of(info: PaymentInfo, parcel: Parcel, now: int = NOW, ring: KeyRing = WORLD.ring) -> Refusal:
    with pytest.raises(PeerError) as caught:
        examine(info, opens(parcel), ring, now)
    return caught.value.refusal


SEEDS = dict(zip((coin.serial for coin in WORLD.purse.coins), WORLD.purse.seeds, strict=True))


def paid_with(*coins: Coin, **fields: Any) -> tuple[PaymentInfo, Parcel]:
    """A payment whose payer commits to whatever coins these are, and spends them with the keys that it has."""
    info: PaymentInfo = msgspec.structs.replace(INFO, parcel=commit_to_coins(EVIDENCE_KEY, coins), **fields)
    spent = tuple(spend(coin, SEEDS.get(coin.serial, seed("no key")), info.digest) for coin in coins)
    return info, Parcel(info.digest, EVIDENCE_KEY, spent)


def forging(index: int, info: PaymentInfo, parcel: Parcel) -> tuple[PaymentInfo, Parcel]:
    """The payment, with a wrong signature by the coin at this index."""
    spent = list(parcel.coins)
    spent[index] = alter(spent[index], "spend")
    return info, alter(parcel, "coins", tuple(spent))


ONE, TWO, FIVE = WORLD.purse.coins
EURO = WORLD.withdraw(100, currency="EUR").coins[0]
UNKNOWN = alter(ONE, "denomination", bytes(32))
FORGED = alter(ONE, "signature")
FRESH = alter(FORGED, "serial", seed("a serial number of its own"))
CLOSED = NOW + 10 * DAY  # every denomination's spend-until
LASTING = CLOSED + 1
EXPIRED = INFO.deposit_before


def test_good_coins_pass() -> None:
    assert examine(INFO, opens(PARCEL_OF), WORLD.ring, NOW) == Examined(
        INFO, PARCEL_OF, Taken(PARCEL_OF.coins, TOTALS), 1
    )
    assert examine(INFO, opens(PARCEL_OF), WORLD.ring, EXPIRED - 1).commission == 1


def test_a_parcel_may_hold_its_coins_in_any_order() -> None:
    info, parcel = paid_with(FIVE, ONE, TWO)
    assert info == INFO
    assert examine(info, opens(parcel), WORLD.ring, NOW).taken.totals == TOTALS


FAULTS: list[tuple[str, tuple[PaymentInfo, Parcel], int, Refusal]] = [
    ("too late", (INFO, PARCEL_OF), EXPIRED, Refusal.PAYMENT_EXPIRED),
    ("another payment's coins", (INFO, alter(PARCEL_OF, "digest")), NOW, Refusal.PAYMENT_ALTERED),
    ("another evidence key", (INFO, alter(PARCEL_OF, "evidence_key")), NOW, Refusal.PAYMENT_ALTERED),
    ("unknown denomination", paid_with(UNKNOWN, TWO, FIVE), NOW, Refusal.UNKNOWN_DENOMINATION),
    ("closed", paid_with(ONE, TWO, FIVE, deposit_before=LASTING), CLOSED, Refusal.DENOMINATION_CLOSED),
    ("coin in another currency", paid_with(EURO, TWO, FIVE), NOW, Refusal.WRONG_CURRENCY),
    ("one coin twice", paid_with(ONE, ONE, ONE, FIVE), NOW, Refusal.DUPLICATE_COIN),
    ("too few coins", paid_with(TWO, FIVE), NOW, Refusal.AMOUNT_MISMATCH),
    ("forged coin", paid_with(FORGED, TWO, FIVE), NOW, Refusal.BAD_COIN),
    ("forged spending", forging(0, INFO, PARCEL_OF), NOW, Refusal.BAD_SPEND_SIGNATURE),
    ("last spending forged", forging(2, INFO, PARCEL_OF), NOW, Refusal.BAD_SPEND_SIGNATURE),
]


@pytest.mark.parametrize(("payment", "now", "refusal"), [one[1:] for one in FAULTS], ids=[one[0] for one in FAULTS])
def test_a_fault_is_refused(payment: tuple[PaymentInfo, Parcel], now: int, refusal: Refusal) -> None:
    assert refusal_of(*payment, now) is refusal


def test_the_refusals_of_an_examination_stand_in_the_order_of_the_table() -> None:
    told = [refusal for _, _, _, refusal in FAULTS if refusal is not Refusal.WRONG_CURRENCY]
    order = list(Refusal)
    assert all(order.index(one) <= order.index(other) for one, other in pairwise(told))


PRECEDENCE: list[tuple[str, tuple[PaymentInfo, Parcel], int, Refusal]] = [
    (
        "altered before unknown denomination",
        (INFO, paid_with(UNKNOWN, TWO, FIVE)[1]),
        NOW,
        Refusal.PAYMENT_ALTERED,
    ),
    (
        "unknown denomination before closed ones",
        paid_with(UNKNOWN, TWO, FIVE, deposit_before=LASTING),
        CLOSED,
        Refusal.UNKNOWN_DENOMINATION,
    ),
    (
        "closed before another currency",
        paid_with(EURO, TWO, FIVE, deposit_before=LASTING),
        CLOSED,
        Refusal.DENOMINATION_CLOSED,
    ),
    ("another currency before a coin twice", paid_with(EURO, EURO), NOW, Refusal.WRONG_CURRENCY),
    ("a coin twice before the amount", paid_with(ONE, ONE), NOW, Refusal.DUPLICATE_COIN),
    ("the amount before a forged coin", paid_with(FORGED), NOW, Refusal.AMOUNT_MISMATCH),
    ("expiry before everything", (INFO, alter(paid_with(FORGED)[1], "digest")), EXPIRED, Refusal.PAYMENT_EXPIRED),
    (
        "a forged coin before an earlier forged spending",
        forging(0, *paid_with(ONE, alter(TWO, "signature"), FIVE)),
        NOW,
        Refusal.BAD_COIN,
    ),
]


@pytest.mark.parametrize(
    ("payment", "now", "refusal"), [one[1:] for one in PRECEDENCE], ids=[one[0] for one in PRECEDENCE]
)
def test_of_several_faults_one_precedes(payment: tuple[PaymentInfo, Parcel], now: int, refusal: Refusal) -> None:
    assert refusal_of(*payment, now) is refusal


@pytest.mark.parametrize("field", PaymentInfo.__struct_fields__)
def test_a_merchant_that_alters_any_field_of_a_payment_gets_nothing(field: str) -> None:
    assert refusal_of(alter(INFO, field), PARCEL_OF) is Refusal.PAYMENT_ALTERED


@pytest.mark.parametrize("field", PaymentInfo.__struct_fields__)
def test_a_merchant_that_could_address_the_parcel_anew_would_still_get_nothing(field: str) -> None:
    """Even with the digest of the altered payment on the parcel, the coins themselves were spent on the true one."""
    info = alter(INFO, field)
    refusal = refusal_of(info, alter(PARCEL_OF, "digest", info.digest))
    expected = {
        "currency": Refusal.WRONG_CURRENCY,
        "amount": Refusal.AMOUNT_MISMATCH,
        "parcel": Refusal.PAYMENT_ALTERED,
    }
    assert refusal is expected.get(field, Refusal.BAD_SPEND_SIGNATURE)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("field", ["serial", "signature"])
def test_any_coin_altered_is_altered_and_one_committed_to_is_bad(index: int, field: str) -> None:
    coins = list(WORLD.purse.coins)
    coins[index] = alter(coins[index], field)
    info, parcel = paid_with(*coins)
    assert refusal_of(info, parcel) is Refusal.BAD_COIN
    assert refusal_of(INFO, alter(parcel, "digest", INFO.digest)) is Refusal.PAYMENT_ALTERED


def test_a_coin_is_not_worth_more_by_naming_another_denomination() -> None:
    cheap = WORLD.withdraw(100, 100, 100, request_id=b"c" * 16).coins
    inflated = [
        alter(coin, "denomination", WORLD.ids["USD", value]) for coin, value in zip(cheap, (100, 200, 500), strict=True)
    ]
    assert refusal_of(*paid_with(*inflated)) is Refusal.BAD_COIN


def test_a_commission_above_the_amount_is_refused_and_one_as_high_leaves_nothing() -> None:
    def ring(flat: int) -> KeyRing:
        tariff = alter(WORLD.keyset.tariff, "deposit", Commission(flat, 0, 0, 0))
        return KeyRing(alter(WORLD.keyset, "tariff", tariff))

    assert refusal_of(INFO, PARCEL_OF, ring=ring(801)) is Refusal.AMOUNT_MISMATCH
    assert examine(INFO, opens(PARCEL_OF), ring(800), NOW).commission == 800


def test_a_revoked_denomination_is_refused_before_the_coins_are_looked_at() -> None:
    ring = KeyRing(alter(WORLD.keyset, "revoked", (TWO.denomination,)))
    assert refusal_of(INFO, PARCEL_OF, ring=ring) is Refusal.KEY_REVOKED
    assert refusal_of(*paid_with(ONE, TWO, TWO, FORGED), ring=ring) is Refusal.KEY_REVOKED
    assert refusal_of(*paid_with(UNKNOWN, TWO, FIVE), ring=ring) is Refusal.UNKNOWN_DENOMINATION
    assert refusal_of(*paid_with(ONE, FIVE), ring=ring) is Refusal.AMOUNT_MISMATCH


@pytest.mark.parametrize("name", ["another key", "another kind", "altered", "no parcel"])
def test_a_parcel_that_does_not_open_is_bad(world: World, name: str) -> None:
    key, sealed = world.bank_envelope, seal(world.bank_envelope.public, PARCEL, PARCEL_OF.encode())
    envelopes = {
        "another key": seal(world.shop_envelope.public, PARCEL, PARCEL_OF.encode()),
        "another kind": seal(key.public, PAY, PARCEL_OF.encode()),
        "altered": altered(sealed),
        "no parcel": seal(key.public, PARCEL, b"x"),
    }
    with pytest.raises(PeerError) as caught:
        examine(INFO, lambda: key.open(envelopes[name], PARCEL), world.ring, NOW)
    assert caught.value.refusal is Refusal.BAD_PARCEL
    assert caught.value.detail


def test_more_coins_than_the_bank_takes_in_one_payment_are_refused(world: World) -> None:
    ring = KeyRing(alter(world.keyset, "limits", Limits(2, 1)))
    assert refusal_of(INFO, PARCEL_OF, ring=ring) is Refusal.BAD_PARCEL


# ---------------------------------------------------------------- a merchant that substitutes a parcel of its own


OWN_KEY = seed("the merchant's own evidence key")


def own_coins(*, key: bytes = OWN_KEY) -> Parcel:
    """A parcel for the payer's payment, with coins of the merchant's own, and its own evidence key."""
    purse = WORLD.withdraw(100, 200, 500, request_id=b"merchant" + bytes(8))
    return Parcel(INFO.digest, key, purse.spend(INFO.digest))


SUBSTITUTES = {
    "its own coins": own_coins(),
    "its own coins, the payer's key": own_coins(key=EVIDENCE_KEY),
    "coins of nobody": Parcel(INFO.digest, OWN_KEY, (SpentCoin(FRESH, bytes(64)),)),
    "the payer's coins, its own key": alter(PARCEL_OF, "evidence_key", OWN_KEY),
    "the payer's coins but one": alter(PARCEL_OF, "coins", PARCEL_OF.coins[1:]),
    "one coin exchanged": alter(PARCEL_OF, "coins", (own_coins().coins[0], *PARCEL_OF.coins[1:])),
    "one coin more": alter(PARCEL_OF, "coins", (*PARCEL_OF.coins, own_coins().coins[0])),
}


@pytest.mark.parametrize("name", SUBSTITUTES)
def test_a_merchant_that_substitutes_a_parcel_leaves_the_payers_coins_free(world: World, name: str) -> None:
    """Coins that the merchant has spent before would make a verdict whose evidence the payer cannot read.

    The payer, without evidence, would have to set its own coins aside; so the bank looks at the commitment first.
    """
    _, payment = write_payment(world.payreq, PAYER, world.shop, world.keyset, world.purse.pairs, IDS)
    assert payment.digest == INFO.digest

    refusal = refusal_of(INFO, SUBSTITUTES[name])
    assert refusal is Refusal.PAYMENT_ALTERED
    _, (post,) = step(New(), CoinsBad(INFO, refusal, NOW), sign_verdict(world.identity_seed))
    signed = Signed.decode(DepositAnswer.decode(post.body).verdict)
    verdict = open_verdict(signed, world.identity, payment.digest)
    assert (post.spent, verdict.evidence) == ((), b"")

    told = read_verdict(signed, world.identity, payment, EVIDENCE_KEY, ())
    assert told == RefusalByBank(signed.encode(), Refusal.PAYMENT_ALTERED, (), proven=True)
    ended, freed = pay_step(Paying(payment, 1), told)
    assert isinstance(ended, Refused)
    assert freed == (SpendCoins(()), ReleaseCoins(payment.serials), VoidDigest(payment.digest))
