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
from protocol.coins import Evidence, SpentCoin
from protocol.commission import Commission
from protocol.envelope import open_letter, seal
from protocol.errors import PeerError
from protocol.keyset import KeyRing, Limits
from protocol.machine import State
from protocol.messages import (
    DepositAnswer,
    DepositRequest,
    Exhibits,
    Parcel,
    PaymentInfo,
    PayRequest,
    Receipt,
    Signed,
    Verdict,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.wallet.paying import PARCEL, read_receipt, read_verdict, write_payment
from protocol.wallet.payment import PAY, ReceiptArrived, RefusalByBank
from tests.conformance.machine import MachineConformance
from tests.world import BANK, DAY, IDS, NOW, World, alter, altered, seed
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


def with_coins(*coins: SpentCoin) -> Parcel:
    return Parcel(INFO.digest, PARCEL_OF.evidence_key, coins)


def with_coin(coin: SpentCoin) -> Parcel:
    """The parcel with another first coin."""
    return with_coins(coin, *PARCEL_OF.coins[1:])


FIRST = PARCEL_OF.coins[0]
EURO = WORLD.withdraw(100, currency="EUR").spend(INFO.digest)[0]
UNKNOWN = with_coin(SpentCoin(alter(FIRST.coin, "denomination", bytes(32)), FIRST.spend))
BAD_COIN = with_coin(SpentCoin(alter(FIRST.coin, "signature"), FIRST.spend))
BAD_SPEND = with_coin(alter(FIRST, "spend"))
CLOSED = NOW + 10 * DAY  # every denomination's spend-until
LASTING = msgspec.structs.replace(INFO, deposit_before=CLOSED + 1)
EXPIRED = INFO.deposit_before


def test_good_coins_pass() -> None:
    assert examine(INFO, opens(PARCEL_OF), WORLD.ring, NOW) == EXAMINED
    assert examine(INFO, opens(PARCEL_OF), WORLD.ring, EXPIRED - 1) == EXAMINED


FAULTS: list[tuple[str, Parcel, int, Refusal]] = [
    ("too late", PARCEL_OF, EXPIRED, Refusal.PAYMENT_EXPIRED),
    ("another payment's coins", alter(PARCEL_OF, "digest"), NOW, Refusal.PAYMENT_ALTERED),
    ("unknown denomination", UNKNOWN, NOW, Refusal.UNKNOWN_DENOMINATION),
    ("closed denominations", PARCEL_OF, CLOSED, Refusal.DENOMINATION_CLOSED),
    ("coin in another currency", with_coin(EURO), NOW, Refusal.WRONG_CURRENCY),
    ("one coin twice", with_coins(FIRST, FIRST, *PARCEL_OF.coins), NOW, Refusal.DUPLICATE_COIN),
    ("too few coins", with_coins(*PARCEL_OF.coins[1:]), NOW, Refusal.AMOUNT_MISMATCH),
    ("forged coin", BAD_COIN, NOW, Refusal.BAD_COIN),
    ("forged spending", BAD_SPEND, NOW, Refusal.BAD_SPEND_SIGNATURE),
]


@pytest.mark.parametrize(("parcel", "now", "refusal"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_is_refused(parcel: Parcel, now: int, refusal: Refusal) -> None:
    assert refusal_at(parcel, now) is refusal


def refusal_at(parcel: Parcel, now: int) -> Refusal:
    """What is refused at this time; when the denominations are closed, of a payment that may still be deposited."""
    if now < CLOSED:
        return refusal_of(INFO, parcel, now)
    digest = LASTING.digest if parcel.digest == INFO.digest else parcel.digest
    return refusal_of(LASTING, alter(parcel, "digest", digest), now)


def test_the_refusals_of_an_examination_stand_in_the_order_of_the_table() -> None:
    told = [refusal for _, _, _, refusal in FAULTS if refusal is not Refusal.WRONG_CURRENCY]
    order = list(Refusal)
    assert all(order.index(one) < order.index(other) for one, other in pairwise(told))


PRECEDENCE: list[tuple[str, Parcel, int, Refusal]] = [
    (
        "altered before unknown denomination",
        alter(UNKNOWN, "digest"),
        CLOSED,
        Refusal.PAYMENT_ALTERED,
    ),
    ("unknown denomination before closed ones", UNKNOWN, CLOSED, Refusal.UNKNOWN_DENOMINATION),
    ("closed before another currency", with_coin(EURO), CLOSED, Refusal.DENOMINATION_CLOSED),
    ("another currency before a coin twice", with_coins(EURO, EURO), NOW, Refusal.WRONG_CURRENCY),
    ("a coin twice before the amount", with_coins(FIRST, FIRST), NOW, Refusal.DUPLICATE_COIN),
    ("the amount before a forged coin", with_coins(BAD_COIN.coins[0]), NOW, Refusal.AMOUNT_MISMATCH),
    ("expiry before everything", alter(BAD_COIN, "digest"), EXPIRED, Refusal.PAYMENT_EXPIRED),
    (
        "a forged coin before an earlier forged spending",
        with_coins(
            alter(FIRST, "spend"),
            alter(PARCEL_OF.coins[1], "coin", alter(PARCEL_OF.coins[1].coin, "signature")),
            PARCEL_OF.coins[2],
        ),
        NOW,
        Refusal.BAD_COIN,
    ),
]


@pytest.mark.parametrize(
    ("parcel", "now", "refusal"), [one[1:] for one in PRECEDENCE], ids=[one[0] for one in PRECEDENCE]
)
def test_of_several_faults_one_precedes(parcel: Parcel, now: int, refusal: Refusal) -> None:
    assert refusal_at(parcel, now) is refusal


@pytest.mark.parametrize("field", PaymentInfo.__struct_fields__)
def test_a_merchant_that_alters_any_field_of_a_payment_gets_nothing(field: str) -> None:
    assert refusal_of(alter(INFO, field), PARCEL_OF) is Refusal.PAYMENT_ALTERED


@pytest.mark.parametrize("field", PaymentInfo.__struct_fields__)
def test_a_merchant_that_could_address_the_parcel_anew_would_still_get_nothing(field: str) -> None:
    """Even with the digest of the altered payment on the parcel, the coins themselves were spent on the true one."""
    info = alter(INFO, field)
    refusal = refusal_of(info, alter(PARCEL_OF, "digest", info.digest))
    expected = {"currency": Refusal.WRONG_CURRENCY, "amount": Refusal.AMOUNT_MISMATCH}
    assert refusal is expected.get(field, Refusal.BAD_SPEND_SIGNATURE)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("field", ["serial", "signature"])
def test_any_coin_altered_is_bad(index: int, field: str) -> None:
    coins = list(PARCEL_OF.coins)
    coins[index] = alter(coins[index], "coin", alter(coins[index].coin, field))
    assert refusal_of(INFO, with_coins(*coins)) is Refusal.BAD_COIN


def test_a_coin_is_not_worth_more_by_naming_another_denomination() -> None:
    cheap = WORLD.withdraw(100, 100, 100, request_id=b"c" * 16).spend(INFO.digest)
    inflated = [
        SpentCoin(alter(spent.coin, "denomination", WORLD.ids["USD", value]), spent.spend)
        for spent, value in zip(cheap, (100, 200, 500), strict=True)
    ]
    assert refusal_of(INFO, with_coins(*inflated)) is Refusal.BAD_COIN


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
    payment = write_payment(world.info, world.shop, world.keyset, purse.by_serial, purse.seeds, IDS)

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
    told = read_verdict(verdict, world.identity, payment, IDS.evidence_key)
    assert told == RefusalByBank(verdict.encode(), Refusal.ALREADY_SPENT, (purse.coins[0].serial,), proven=True)


def evidence_of(spent: SpentCoin) -> Evidence:
    return Evidence(spent.coin.denomination, spent.coin.serial, seed("an earlier payment"), spent.spend)


def test_more_coins_than_the_bank_takes_in_one_payment_are_refused(world: World) -> None:
    ring = KeyRing(alter(world.keyset, "limits", Limits(2, 1)))
    assert refusal_of(INFO, PARCEL_OF, ring=ring) is Refusal.BAD_PARCEL


@pytest.mark.parametrize("fields", [{"payer_function": "md5"}, {"payer_digest": bytes(48)}, {"order_digest": bytes(64)}])
def test_hash_functions_off_the_list_or_with_digests_of_another_size_are_refused(fields: dict[str, Any]) -> None:
    info = msgspec.structs.replace(INFO, **fields)
    with pytest.raises(PeerError) as caught:
        own_payment(DepositRequest(info.encode(), b""), WORLD.account, BANK)
    assert caught.value.refusal is Refusal.MALFORMED
