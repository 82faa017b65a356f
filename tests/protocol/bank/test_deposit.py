from typing import Any

import msgspec
import pytest

from protocol.answer import open_secret
from protocol.bank.coins import Taken
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
from protocol.envelope import open_letter
from protocol.errors import PeerError
from protocol.machine import State
from protocol.messages import (
    PARCEL,
    DepositAnswer,
    DepositRequest,
    Exhibits,
    PayRequest,
    Receipt,
    Signed,
    Verdict,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.wallet.paying import read_receipt, read_verdict, write_payment
from protocol.wallet.payment import PAY, ReceiptArrived, RefusalByBank
from tests.conformance.machine import MachineConformance
from tests.world import BANK, DAY, IDS, NOW, PAYER, World, alter, seed
from tests.world import world as make_world

WORLD = make_world()
INFO, PARCEL_OF, SIGN = WORLD.info, WORLD.parcel(), sign_verdict(WORLD.identity_seed)
TOTALS = {WORLD.ids["USD", value]: value for value in (100, 200, 500)}
EXAMINED = Examined(INFO, PARCEL_OF, Taken(PARCEL_OF.coins, TOTALS), 1)
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
        entries=deposit_entries(INFO.account, "USD", TOTALS, 1),
        spent=tuple(Spending(one.coin.denomination, one.coin.serial, one.spend) for one in PARCEL_OF.coins),
        spent_on=INFO.digest,
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


@pytest.mark.parametrize(
    "fields", [{"payer_function": "md5"}, {"payer_digest": bytes(48)}, {"order_digest": bytes(64)}]
)
def test_hash_functions_off_the_list_or_with_digests_of_another_size_are_refused(fields: dict[str, Any]) -> None:
    info = msgspec.structs.replace(INFO, **fields)
    with pytest.raises(PeerError) as caught:
        own_payment(DepositRequest(info.encode(), b""), WORLD.account, BANK)
    assert caught.value.refusal is Refusal.MALFORMED


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
