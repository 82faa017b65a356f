from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from protocol.answer import open_secret
from protocol.bank.deposit import (
    TRANSITIONS,
    Accepted,
    CoinsBad,
    CoinsGood,
    DepositEvent,
    DepositState,
    Effects,
    Examined,
    NotTheirs,
    Posting,
    Refusing,
    Settled,
    examine,
    own_payment,
    sign_verdict,
    step,
)
from protocol.bank.desk import Account, Committed, Contradicted, New, Post, Refused
from protocol.bank.ledger import Conflict, Payment, Spending, deposit_entries
from protocol.coins import Coin, Evidence, SpentCoin, spend
from protocol.commission import Commission
from protocol.envelope import open_letter, seal
from protocol.errors import PeerError
from protocol.keyset import KeyRing, Limits
from protocol.machine import State
from protocol.messages import (
    PARCEL,
    DepositAnswer,
    DepositRequest,
    Exhibits,
    Parcel,
    PaymentInfo,
    PayRequest,
    Receipt,
    Signed,
    Verdict,
    commit_to_coins,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.wallet.paying import read_receipt, read_verdict, write_payment
from protocol.wallet.payment import PAY, Paying, ReceiptArrived, RefusalByBank, ReleaseCoins, SpendCoins
from protocol.wallet.payment import Refused as PaymentRefused
from protocol.wallet.payment import step as pay_step
from tests.conformance.machine import MachineConformance
from tests.world import BANK, DAY, EVIDENCE_KEY, IDS, NOW, PAYER, World, alter, altered, seed
from tests.world import world as make_world

WORLD = make_world()
INFO, PARCEL_OF, SIGN = WORLD.info, WORLD.parcel(), sign_verdict(WORLD.identity_seed)
TOTALS = tuple(sorted({WORLD.ids["USD", value]: value for value in (100, 200, 500)}.items()))
EXAMINED = Examined(INFO, PARCEL_OF, TOTALS, 1)
EARLIER = WORLD.purse.spend(seed("an earlier payment"))[1]
EVIDENCE = Evidence(EARLIER.coin.denomination, EARLIER.coin.serial, seed("an earlier payment"), EARLIER.spend)
SPENT = Contradicted(Conflict(Refusal.ALREADY_SPENT, (EVIDENCE,)), NOW)


def run(state: DepositState, event: DepositEvent) -> tuple[DepositState, Effects]:
    return step(state, event, SIGN)


class TestDepositMachine(MachineConformance):
    table = TRANSITIONS
    state_union = DepositState
    event_union = DepositEvent
    states = (
        New(),
        Posting(EXAMINED),
        Refusing(INFO, b"refusing"),
        Accepted(),
        Settled(b"verdict", 3),
        Refused(Refusal.WRONG_MERCHANT, ""),
    )
    events = (
        CoinsGood(EXAMINED, NOW),
        CoinsBad(INFO, Refusal.BAD_COIN, NOW),
        NotTheirs(Refusal.WRONG_MERCHANT, "not yours"),
        Committed(),
        SPENT,
        Contradicted(Conflict(Refusal.PAYMENT_EXPIRED), NOW),
        Contradicted(Conflict(Refusal.ALREADY_PAID, verdict=b"verdict"), NOW),
        Contradicted(Conflict(Refusal.REQUEST_ID_REUSED), NOW),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return run(state, event)


def verdict_of(effects: Effects) -> tuple[Post, Verdict, int]:
    (post,) = effects
    assert isinstance(post, Post)
    answer = DepositAnswer.decode(post.body)
    assert post.payment is not None
    assert post.payment.verdict == answer.verdict
    statement = Signed.decode(answer.verdict).check(WORLD.identity, Domain.VERDICT)
    return post, Verdict.decode(statement), answer.commission


def test_good_coins_are_entered_as_spent_and_credited_before_the_payment_expires() -> None:
    state, effects = run(New(), CoinsGood(EXAMINED, NOW))
    post, verdict, commission = verdict_of(effects)
    assert state == Posting(EXAMINED)
    assert (verdict, commission) == (WORLD.verdict(), 1)
    assert post == Post(
        body=post.body,
        entries=deposit_entries(INFO.account, "USD", dict(TOTALS), 1),
        spent=tuple(Spending(one.coin.denomination, one.coin.serial, one.spend) for one in PARCEL_OF.coins),
        payment=Payment(
            INFO.digest,
            INFO.account,
            INFO.payment_id,
            accepted=True,
            verdict=DepositAnswer.decode(post.body).verdict,
            info=INFO.encode(),
            commission=1,
        ),
        not_after=INFO.deposit_before,
    )
    assert run(state, Committed()) == (Accepted(), ())


def test_bad_coins_get_a_refusing_verdict_that_is_entered_too() -> None:
    state, effects = run(New(), CoinsBad(INFO, Refusal.BAD_COIN, NOW))
    post, verdict, commission = verdict_of(effects)
    assert post.payment is not None
    assert state == Refusing(INFO, post.payment.verdict)
    assert (verdict, commission) == (WORLD.verdict(Refusal.BAD_COIN), 0)
    assert post == Post(body=post.body, payment=post.payment, not_after=INFO.deposit_before)
    assert (post.payment.accepted, post.payment.info, post.payment.commission) == (False, INFO.encode(), 0)
    assert run(state, Committed()) == (Settled(post.payment.verdict, 0), ())


def test_a_refusal_that_comes_too_late_becomes_expired_as_the_payer_was_told() -> None:
    state, effects = run(Refusing(INFO, b"refusing"), Contradicted(Conflict(Refusal.PAYMENT_EXPIRED), NOW))
    post, verdict, _ = verdict_of(effects)
    assert (verdict.refusal, verdict.at, post.not_after) == ("payment_expired", INFO.deposit_before, 0)
    assert isinstance(state, Refusing)


def test_what_was_spent_before_is_proven_to_the_payer_alone() -> None:
    state, effects = run(Posting(EXAMINED), SPENT)
    post, verdict, _ = verdict_of(effects)
    assert isinstance(state, Refusing)
    assert post == Post(body=post.body, payment=post.payment, not_after=INFO.deposit_before)
    shown = open_secret(PARCEL_OF.evidence_key, INFO.digest, verdict.evidence)
    assert Exhibits.decode(shown) == Exhibits((EVIDENCE,))
    assert EVIDENCE.serial not in post.body


def test_a_refusal_without_evidence_shows_none() -> None:
    _, effects = run(Posting(EXAMINED), Contradicted(Conflict(Refusal.ALREADY_PAID), NOW))
    assert verdict_of(effects)[1] == WORLD.verdict(Refusal.ALREADY_PAID)


def test_a_verdict_of_expiry_is_the_same_whoever_finds_it_and_when() -> None:
    found = [
        run(New(), CoinsBad(INFO, Refusal.PAYMENT_EXPIRED, now))[1] for now in (INFO.deposit_before, NOW + 9 * DAY)
    ]
    found.append(run(Posting(EXAMINED), Contradicted(Conflict(Refusal.PAYMENT_EXPIRED), NOW))[1])
    verdicts = [verdict_of(effects)[1] for effects in found]
    assert verdicts == [msgspec.structs.replace(WORLD.verdict("payment_expired"), at=INFO.deposit_before)] * 3


@pytest.mark.parametrize("state", [Posting(EXAMINED), Refusing(INFO, b"refusing")], ids=["posting", "refusing"])
def test_a_verdict_that_was_given_stands(state: DepositState) -> None:
    event = Contradicted(Conflict(Refusal.ALREADY_PAID, (EVIDENCE,), b"the first verdict", 4), NOW)
    assert run(state, event) == (Settled(b"the first verdict", 4), ())


@pytest.mark.parametrize("state", [Posting(EXAMINED), Refusing(INFO, b"refusing")], ids=["posting", "refusing"])
def test_a_fault_of_the_request_is_no_verdict_on_the_payment(state: DepositState) -> None:
    event = Contradicted(Conflict(Refusal.REQUEST_ID_REUSED), NOW)
    assert run(state, event) == (Refused("request_id_reused", "another request with this id was answered"), ())


def test_what_is_not_the_depositors_gets_no_verdict() -> None:
    assert run(New(), NotTheirs(Refusal.WRONG_MERCHANT, "why")) == (Refused("wrong_merchant", "why"), ())


# ---------------------------------------------------------------- whose payment it is


NOT_THEIRS: dict[str, tuple[Account | None, bytes, Refusal]] = {
    "no account": (None, b"x", Refusal.UNKNOWN_ACCOUNT),
    "no payment": (WORLD.account, b"x", Refusal.MALFORMED),
    "another bank": (alter(WORLD.account, "currency"), alter(INFO, "bank").encode(), Refusal.WRONG_BANK),
    "another currency": (alter(WORLD.account, "number"), alter(INFO, "currency").encode(), Refusal.WRONG_CURRENCY),
    "another account": (WORLD.account, alter(INFO, "account").encode(), Refusal.WRONG_MERCHANT),
    "another merchant": (alter(WORLD.account, "number"), INFO.encode(), Refusal.WRONG_MERCHANT),
    "a client": (alter(WORLD.account, "kind", "client"), INFO.encode(), Refusal.WRONG_MERCHANT),
}


@pytest.mark.parametrize(("account", "info", "refusal"), NOT_THEIRS.values(), ids=NOT_THEIRS)
def test_a_merchant_deposits_its_own_payments_only(account: Account | None, info: bytes, refusal: Refusal) -> None:
    with pytest.raises(PeerError) as caught:
        own_payment(DepositRequest(info, b""), account, BANK)
    assert caught.value.refusal is refusal


def test_a_merchants_own_payment_is_read() -> None:
    assert own_payment(DepositRequest(INFO.encode(), b""), WORLD.account, BANK) == INFO


# ---------------------------------------------------------------- the examination, in order of precedence


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
    assert examine(INFO, opens(PARCEL_OF), WORLD.ring, NOW) == EXAMINED
    assert examine(INFO, opens(PARCEL_OF), WORLD.ring, EXPIRED - 1) == EXAMINED


def test_a_parcel_may_hold_its_coins_in_any_order() -> None:
    info, parcel = paid_with(FIVE, ONE, TWO)
    assert info == INFO
    assert examine(info, opens(parcel), WORLD.ring, NOW).totals == TOTALS


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
    _, effects = run(New(), CoinsBad(INFO, refusal, NOW))
    post, verdict, _ = verdict_of(effects)
    assert (post.spent, verdict.evidence) == ((), b"")

    signed = Signed.decode(DepositAnswer.decode(post.body).verdict)
    told = read_verdict(signed, world.identity, payment, EVIDENCE_KEY, ())
    assert told == RefusalByBank(signed.encode(), Refusal.PAYMENT_ALTERED, (), proven=True)
    ended, freed = pay_step(Paying(payment, 1), told)
    assert isinstance(ended, PaymentRefused)
    assert freed == (SpendCoins(()), ReleaseCoins(payment.serials))


def test_a_commission_above_the_amount_is_refused_and_one_as_high_leaves_nothing() -> None:
    def ring(flat: int) -> KeyRing:
        return KeyRing(alter(WORLD.keyset, "deposit_commission", Commission(flat, 0, 0, 0)))

    assert refusal_of(INFO, PARCEL_OF, ring=ring(801)) is Refusal.AMOUNT_MISMATCH
    assert examine(INFO, opens(PARCEL_OF), ring(800), NOW).commission == 800


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


# ---------------------------------------------------------------- the whole way


def test_coins_travel_from_withdrawal_to_receipt(world: World) -> None:
    purse = world.withdraw(500, 200, 100, request_id=b"journey" + bytes(9))
    _, payment = write_payment(world.payreq, PAYER, world.shop, world.keyset, purse.pairs, IDS)

    paid = PayRequest.decode(open_letter(world.shop_envelope, payment.pay, PAY).body)
    deposit = DepositRequest(paid.info, paid.parcel)

    info = own_payment(deposit, world.account, BANK)
    examined = examine(info, lambda: world.bank_envelope.open(deposit.parcel, PARCEL), world.ring, NOW)
    posting, (accepting,) = run(New(), CoinsGood(examined, NOW))
    assert isinstance(accepting, Post)
    answer = DepositAnswer.decode(accepting.body)
    assert run(posting, Committed()) == (Accepted(), ())

    receipt = Receipt(info.digest, answer.verdict, "A novel", NOW)
    signed = Signed.make(world.shop_seed, Domain.RECEIPT, receipt)
    read, event = read_receipt(signed, world.shop_key, world.identity, payment.digest)
    assert read.goods == "A novel"
    assert event == ReceiptArrived(answer.verdict, signed.encode())

    conflict = Conflict(Refusal.ALREADY_SPENT, (evidence_of(purse.spend(seed("an earlier payment"))[0]),))
    _, (refusing,) = run(posting, Contradicted(conflict, NOW))
    assert isinstance(refusing, Post)
    verdict = Signed.decode(DepositAnswer.decode(refusing.body).verdict)
    told = read_verdict(verdict, world.identity, payment, IDS.evidence_key, ())
    assert told == RefusalByBank(verdict.encode(), Refusal.ALREADY_SPENT, (purse.coins[0].serial,), proven=True)


def evidence_of(spent: SpentCoin) -> Evidence:
    return Evidence(spent.coin.denomination, spent.coin.serial, seed("an earlier payment"), spent.spend)


def test_more_coins_than_the_bank_takes_in_one_payment_are_refused(world: World) -> None:
    ring = KeyRing(alter(world.keyset, "limits", Limits(2, 1)))
    assert refusal_of(INFO, PARCEL_OF, ring=ring) is Refusal.BAD_PARCEL


@pytest.mark.parametrize(
    "fields", [{"payer_function": "md5"}, {"payer_digest": bytes(48)}, {"order_digest": bytes(64)}]
)
def test_hash_functions_off_the_list_or_with_digests_of_another_size_are_refused(fields: dict[str, Any]) -> None:
    info = msgspec.structs.replace(INFO, **fields)
    with pytest.raises(PeerError) as caught:
        own_payment(DepositRequest(info.encode(), b""), WORLD.account, BANK)
    assert caught.value.refusal is Refusal.MALFORMED
