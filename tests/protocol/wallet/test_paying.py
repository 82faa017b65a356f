from typing import Any

import msgspec
import pytest

from protocol.answer import seal_secret
from protocol.bank.inquiry import check_inquiry
from protocol.codec import MAX_MESSAGE
from protocol.coins import Evidence, check_coin, check_spend
from protocol.envelope import open_letter
from protocol.errors import PeerError
from protocol.messages import (
    PARCEL,
    Catalog,
    Certificate,
    Exhibits,
    InquiryRequest,
    Parcel,
    PaymentInfo,
    Payreq,
    PayRequest,
    Receipt,
    Signed,
    Verdict,
    open_verdict,
    order_digest,
    payer_digest,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.wallet.paying import (
    Payer,
    open_catalog,
    open_payreq,
    payment_info,
    read_receipt,
    read_verdict,
    write_payment,
)
from protocol.wallet.payment import INQUIRE, PAY, Payment, ReceiptArrived, RefusalByBank
from tests.world import BANK, DAY, EVIDENCE_KEY, HOUR, IDS, NOW, PAYER, SHOP, World, alter, altered, seed
from tests.world import world as make_world


def refusal_of(call: Any, *arguments: Any) -> Refusal:
    with pytest.raises(PeerError) as caught:
        call(*arguments)
    return caught.value.refusal


@pytest.fixture
def payment(world: World) -> Payment:
    return write_payment(world.payreq, PAYER, world.shop, world.keyset, world.purse.pairs, IDS)[1]


# ---------------------------------------------------------------- catalogue


def catalog(world: World, *certificates: bytes, **fields: Any) -> bytes:
    made = msgspec.structs.replace(world.catalog, **({"certificates": certificates} if certificates else {}), **fields)
    return Signed.make(world.shop_seed, Domain.CATALOG, made).encode()


def certificate(world: World, signer: str = "bank", **fields: Any) -> bytes:
    made: Certificate = msgspec.structs.replace(world.certificate, **fields)
    return Signed.make(seed(signer), Domain.CERTIFICATE, made).encode()


def test_a_certified_merchants_catalogue_opens(world: World) -> None:
    assert open_catalog(SHOP, catalog(world), world.keyset) == world.shop


def test_the_certificate_of_this_bank_is_found_among_others(world: World) -> None:
    other = certificate(world, "other bank", bank="south")
    shop = open_catalog(SHOP, catalog(world, other, certificate(world)), world.keyset)
    assert shop.certificate == world.certificate


def test_another_merchants_catalogue_is_refused(world: World) -> None:
    assert refusal_of(open_catalog, "shoes", catalog(world), world.keyset) is Refusal.WRONG_MERCHANT
    assert refusal_of(open_catalog, SHOP, catalog(world, merchant="shoes"), world.keyset) is Refusal.WRONG_MERCHANT


@pytest.mark.parametrize("field", Catalog.__struct_fields__)
def test_a_catalogue_altered_in_any_field_is_refused(world: World, field: str) -> None:
    good = Signed.decode(catalog(world))
    statement = alter(world.catalog, field).encode()
    expected = Refusal.WRONG_MERCHANT if field == "merchant" else Refusal.BAD_SIGNATURE
    assert refusal_of(open_catalog, SHOP, Signed(statement, good.signature).encode(), world.keyset) is expected


def test_a_catalogue_signed_by_another_key_than_the_certified_one_is_refused(world: World) -> None:
    thief = msgspec.structs.replace(world.catalog, key=world.client.key)
    data = Signed.make(world.client_seed, Domain.CATALOG, thief).encode()
    assert refusal_of(open_catalog, SHOP, data, world.keyset) is Refusal.WRONG_MERCHANT


def test_a_certificate_for_another_merchant_is_refused(world: World) -> None:
    data = catalog(world, certificate(world, merchant="shoes"))
    assert refusal_of(open_catalog, SHOP, data, world.keyset) is Refusal.WRONG_MERCHANT


@pytest.mark.parametrize("field", Certificate.__struct_fields__)
def test_a_certificate_altered_in_any_field_is_refused(world: World, field: str) -> None:
    altered_one = Signed(alter(world.certificate, field).encode(), world.signed_certificate.signature).encode()
    expected = Refusal.WRONG_BANK if field == "bank" else Refusal.BAD_SIGNATURE
    assert refusal_of(open_catalog, SHOP, catalog(world, altered_one), world.keyset) is expected


def test_a_certificate_by_another_bank_is_none(world: World) -> None:
    stolen = certificate(world, "other bank")
    assert refusal_of(open_catalog, SHOP, catalog(world, stolen), world.keyset) is Refusal.BAD_SIGNATURE
    foreign = certificate(world, "other bank", bank="south")
    assert refusal_of(open_catalog, SHOP, catalog(world, foreign), world.keyset) is Refusal.WRONG_BANK
    uncertified = catalog(world, certificates=())
    assert refusal_of(open_catalog, SHOP, uncertified, world.keyset) is Refusal.WRONG_BANK


@pytest.mark.parametrize("data", [b"", b"\xc1", Signed(b"x", bytes(64)).encode(), bytes(MAX_MESSAGE + 1)], ids=len)
def test_what_is_no_catalogue_or_certificate_is_malformed(world: World, data: bytes) -> None:
    assert refusal_of(open_catalog, SHOP, data, world.keyset) is Refusal.MALFORMED
    if data and len(data) < 4096:
        assert refusal_of(open_catalog, SHOP, catalog(world, data), world.keyset) is Refusal.MALFORMED


# ---------------------------------------------------------------- payment request


def payreq(world: World, **fields: Any) -> Signed:
    return Signed.make(world.shop_seed, Domain.PAYREQ, msgspec.structs.replace(world.payreq, **fields))


def test_a_good_payment_request_opens(world: World) -> None:
    assert open_payreq(payreq(world), world.shop, world.keyset, NOW) == world.payreq


@pytest.mark.parametrize("field", Payreq.__struct_fields__)
def test_a_payment_request_altered_in_any_field_is_refused(world: World, field: str) -> None:
    changed = Signed(alter(world.payreq, field).encode(), payreq(world).signature)
    assert refusal_of(open_payreq, changed, world.shop, world.keyset, NOW) is Refusal.BAD_SIGNATURE


WRONG_PAYREQS: list[tuple[dict[str, Any], Refusal]] = [
    ({"bank": "south"}, Refusal.WRONG_BANK),
    ({"account": 1002}, Refusal.WRONG_MERCHANT),
    ({"currency": "EUR"}, Refusal.WRONG_CURRENCY),
    ({"keyset": seed("another keyset")}, Refusal.FOREIGN_KEYSET),
    ({"deposit_before": NOW + 8 * DAY}, Refusal.MALFORMED),
    ({"expires": NOW}, Refusal.SALE_EXPIRED),
    ({"expires": NOW - 1}, Refusal.SALE_EXPIRED),
    ({"deposit_before": NOW + HOUR - 1}, Refusal.SALE_EXPIRED),
]


@pytest.mark.parametrize(("fields", "refusal"), WRONG_PAYREQS, ids=[str(fields) for fields, _ in WRONG_PAYREQS])
def test_a_payment_request_that_the_merchant_signed_wrong_is_refused(
    world: World, fields: dict[str, Any], refusal: Refusal
) -> None:
    assert refusal_of(open_payreq, payreq(world, **fields), world.shop, world.keyset, NOW) is refusal


def test_a_merchant_may_see_an_older_keyset_of_the_same_chain_but_no_newer_one(world: World) -> None:
    newer = msgspec.structs.replace(world.keyset, number=1, chain=(world.keyset.hash,))
    assert open_payreq(payreq(world), world.shop, newer, NOW) == world.payreq
    ahead = payreq(world, keyset=newer.hash)
    assert refusal_of(open_payreq, ahead, world.shop, world.keyset, NOW) is Refusal.FOREIGN_KEYSET


def test_a_payment_request_stands_until_it_expires(world: World) -> None:
    last = payreq(world, expires=NOW + 1, deposit_before=NOW + 1)
    assert open_payreq(last, world.shop, world.keyset, NOW).expires == NOW + 1


def test_a_payment_request_of_another_merchant_or_of_another_kind_is_refused(world: World) -> None:
    for signed in (
        Signed.make(seed("other"), Domain.PAYREQ, world.payreq),
        Signed.make(world.shop_seed, Domain.RECEIPT, world.payreq),
    ):
        assert refusal_of(open_payreq, signed, world.shop, world.keyset, NOW) is Refusal.BAD_SIGNATURE
    other = Signed.make(world.shop_seed, Domain.PAYREQ, world.catalog)
    assert refusal_of(open_payreq, other, world.shop, world.keyset, NOW) is Refusal.MALFORMED


# ---------------------------------------------------------------- what is written


def test_of_order_payer_and_coins_the_payment_information_holds_hashes_only(world: World) -> None:
    request, salt = world.payreq, seed("payer")[:16]
    info = payment_info(request, Payer("sha3-256", salt, "the payer's code"), seed("commitment"))
    assert info == PaymentInfo(
        currency=request.currency,
        amount=request.amount,
        timestamp=request.timestamp,
        bank=request.bank,
        account=request.account,
        order_function="sha-256",
        order_digest=order_digest(request.salt, request.order),
        payer_function="sha3-256",
        payer_digest=payer_digest("sha3-256", salt, request.payment_id, "the payer's code"),
        payment_id=request.payment_id,
        parcel=seed("commitment"),
        deposit_before=request.deposit_before,
    )
    for secret in ("the payer's code", *request.order):
        assert secret.encode() not in info.encode()


def test_a_payer_names_a_hash_function_on_the_list(world: World) -> None:
    payer = Payer("md5", bytes(16), "code")
    assert refusal_of(payment_info, world.payreq, payer, bytes(32)) is Refusal.MALFORMED
    arguments = world.payreq, payer, world.shop, world.keyset, world.purse.pairs, IDS
    assert refusal_of(write_payment, *arguments) is Refusal.MALFORMED


def test_a_payment_is_ready_to_be_sent(world: World, payment: Payment) -> None:
    info, again = write_payment(world.payreq, PAYER, world.shop, world.keyset, world.purse.pairs, IDS)
    assert (info, again.digest) == (world.info, payment.digest)
    assert payment.digest == world.info.digest
    assert (payment.merchant, payment.bank) == (SHOP, BANK)
    assert payment.serials == tuple(coin.serial for coin in world.purse.coins)
    assert payment.deposit_before == world.info.deposit_before


def test_the_merchant_reads_the_payment_information_and_no_coin(world: World, payment: Payment) -> None:
    letter = open_letter(world.shop_envelope, payment.pay, PAY)
    assert (letter.request_id, letter.answer_key) == (IDS.pay_id, IDS.pay_key)
    assert (letter.sender, letter.deadline) == (b"", world.info.deposit_before)
    request = PayRequest.decode(letter.body)
    assert PaymentInfo.decode(request.info) == world.info
    assert request.salt == world.payreq.salt
    assert refusal_of(world.shop_envelope.open, request.parcel, PARCEL) is Refusal.MALFORMED
    for coin in world.purse.coins:
        assert coin.serial not in letter.encode()


def test_the_bank_reads_the_coins_in_an_order_that_says_nothing(world: World, payment: Payment) -> None:
    sealed = PayRequest.decode(open_letter(world.shop_envelope, payment.pay, PAY).body).parcel
    parcel = Parcel.decode(world.bank_envelope.open(sealed, PARCEL))
    assert (parcel.digest, parcel.evidence_key) == (payment.digest, IDS.evidence_key)
    assert parcel.commitment == world.info.parcel
    serials = [spent.coin.serial for spent in parcel.coins]
    assert serials == sorted(payment.serials)
    for spent in parcel.coins:
        check_coin(world.ring.key(spent.coin.denomination), spent.coin)
        check_spend(spent, payment.digest)


def test_the_bank_is_asked_anonymously_by_one_of_the_coins(world: World, payment: Payment) -> None:
    letter = open_letter(world.bank_envelope, payment.inquiry, INQUIRE)
    assert (letter.request_id, letter.answer_key, letter.sender) == (IDS.inquiry_id, IDS.inquiry_key, b"")
    request = InquiryRequest.decode(letter.body)
    assert request.serial in payment.serials
    assert check_inquiry(request, letter.request_id, BANK) == world.info


def test_only_buyer_and_merchant_know_the_salt_that_fetches_the_goods(world: World, payment: Payment) -> None:
    paid = PayRequest.decode(open_letter(world.shop_envelope, payment.pay, PAY).body)
    seen_by_the_bank = [
        paid.info,
        world.bank_envelope.open(paid.parcel, PARCEL),
        world.bank_envelope.open(payment.inquiry, INQUIRE),
    ]
    for plaintext in seen_by_the_bank:
        assert world.payreq.salt not in plaintext


# ---------------------------------------------------------------- verdict


def test_the_banks_verdict_on_this_payment_opens(world: World) -> None:
    signed = world.sign_verdict(world.verdict())
    assert open_verdict(signed, world.identity, world.info.digest) == world.verdict()


@pytest.mark.parametrize("field", Verdict.__struct_fields__)
def test_a_verdict_altered_in_any_field_is_refused(world: World, field: str) -> None:
    changed = Signed(alter(world.verdict(), field).encode(), world.sign_verdict(world.verdict()).signature)
    assert refusal_of(open_verdict, changed, world.identity, world.info.digest) is Refusal.BAD_SIGNATURE


def test_a_verdict_of_another_signer_kind_or_payment_is_refused(world: World) -> None:
    verdict, digest = world.verdict(), world.info.digest
    forged = Signed.make(seed("other"), Domain.VERDICT, verdict)
    misused = Signed.make(world.identity_seed, Domain.CERTIFICATE, verdict)
    for signed in (forged, misused):
        assert refusal_of(open_verdict, signed, world.identity, digest) is Refusal.BAD_SIGNATURE
    other = world.sign_verdict(verdict)
    assert refusal_of(open_verdict, other, world.identity, altered(digest)) is Refusal.PAYMENT_ALTERED
    no_verdict = Signed.make(world.identity_seed, Domain.VERDICT, world.payreq)
    assert refusal_of(open_verdict, no_verdict, world.identity, digest) is Refusal.MALFORMED


def read(
    world: World, payment: Payment, verdict: Verdict, refused: frozenset[bytes] = frozenset()
) -> ReceiptArrived | RefusalByBank:
    return read_verdict(world.sign_verdict(verdict), world.identity, payment, EVIDENCE_KEY, refused)


def test_an_accepting_verdict_is_as_good_as_a_receipt(world: World, payment: Payment) -> None:
    signed = world.sign_verdict(world.verdict())
    assert read(world, payment, world.verdict()) == ReceiptArrived(signed.encode(), b"")


@pytest.mark.parametrize("refusal", [Refusal.PAYMENT_EXPIRED, Refusal.BAD_COIN, "a_code_of_tomorrow"])
def test_a_refusal_that_needs_no_evidence_is_believed(world: World, payment: Payment, refusal: str) -> None:
    event = read(world, payment, world.verdict(refusal))
    assert isinstance(event, RefusalByBank)
    assert (event.refusal, event.spent, event.proven) == (refusal, (), True)


def exhibits(world: World, *shown: Evidence, key: bytes = EVIDENCE_KEY) -> bytes:
    return seal_secret(key, world.info.digest, Exhibits(shown).encode())


def evidence(world: World, index: int, digest: bytes | None = None) -> Evidence:
    digest = seed("an earlier payment") if digest is None else digest
    spent = world.purse.spend(digest)[index]
    return Evidence(spent.coin.denomination, spent.coin.serial, digest, spent.spend)


def test_evidence_tells_which_coins_were_spent_before(world: World, payment: Payment) -> None:
    shown = (evidence(world, 2), evidence(world, 0), evidence(world, 2))
    event = read(world, payment, world.verdict(Refusal.ALREADY_SPENT, exhibits(world, *shown)))
    assert isinstance(event, RefusalByBank)
    assert event.spent == (payment.serials[0], payment.serials[2])
    assert event.proven


def worthless_evidence(world: World) -> dict[str, bytes]:
    good = evidence(world, 0)
    foreign = world.withdraw(100, request_id=b"x" * 16).spend(seed("an earlier payment"))[0]
    return {
        "none": b"",
        "no exhibits": exhibits(world),
        "a wrong signature": exhibits(world, alter(good, "spend")),
        "a wrong signature among good ones": exhibits(world, evidence(world, 1), alter(good, "spend")),
        "this very payment": exhibits(world, evidence(world, 0, world.info.digest)),
        "a coin of somebody else": exhibits(
            world,
            Evidence(foreign.coin.denomination, foreign.coin.serial, seed("an earlier payment"), foreign.spend),
        ),
        "sealed under another key": exhibits(world, good, key=seed("other")),
        "sealed for another payment": seal_secret(EVIDENCE_KEY, seed("other"), Exhibits((good,)).encode()),
        "not exhibits": seal_secret(EVIDENCE_KEY, world.info.digest, b"x"),
        "cut": exhibits(world, good)[:-1],
        "altered": altered(exhibits(world, good)),
    }


@pytest.mark.parametrize("name", worthless_evidence(make_world()))
def test_a_bank_that_shows_no_valid_evidence_has_proven_nothing(world: World, payment: Payment, name: str) -> None:
    shown = worthless_evidence(world)[name]
    event = read(world, payment, world.verdict(Refusal.ALREADY_SPENT, shown))
    assert isinstance(event, RefusalByBank)
    assert (event.refusal, event.spent, event.proven) == (Refusal.ALREADY_SPENT, (), False)


def test_a_spending_on_a_payment_that_the_bank_itself_has_refused_is_no_evidence(
    world: World, payment: Payment
) -> None:
    refused = frozenset({seed("an earlier payment")})
    for shown in ((evidence(world, 0),), (evidence(world, 1, seed("a third payment")), evidence(world, 0))):
        verdict = world.verdict(Refusal.ALREADY_SPENT, exhibits(world, *shown))
        believed = read(world, payment, verdict)
        assert isinstance(believed, RefusalByBank)
        assert believed.proven
        data = world.sign_verdict(verdict).encode()
        assert read(world, payment, verdict, refused) == RefusalByBank(data, "already_spent", (), proven=False)


def test_refused_payments_do_not_weaken_evidence_of_others(world: World, payment: Payment) -> None:
    verdict = world.verdict(Refusal.ALREADY_SPENT, exhibits(world, evidence(world, 0)))
    event = read(world, payment, verdict, frozenset({seed("a third payment"), payment.digest}))
    assert isinstance(event, RefusalByBank)
    assert (event.spent, event.proven) == ((payment.serials[0],), True)


# ---------------------------------------------------------------- receipt


def receipt(world: World, **fields: Any) -> Receipt:
    made = Receipt(world.info.digest, world.sign_verdict(world.verdict()).encode(), "A novel", NOW)
    return msgspec.structs.replace(made, **fields)


def sign_receipt(world: World, made: Receipt) -> Signed:
    return Signed.make(world.shop_seed, Domain.RECEIPT, made)


def read_signed(world: World, signed: Signed) -> tuple[Receipt, ReceiptArrived]:
    return read_receipt(signed, world.shop_key, world.identity, world.info.digest)


def test_a_receipt_with_the_banks_verdict_ends_the_payment(world: World) -> None:
    made = receipt(world)
    signed = sign_receipt(world, made)
    assert read_signed(world, signed) == (made, ReceiptArrived(made.verdict, signed.encode()))


@pytest.mark.parametrize("field", Receipt.__struct_fields__)
def test_a_receipt_altered_in_any_field_is_refused(world: World, field: str) -> None:
    changed = Signed(alter(receipt(world), field).encode(), sign_receipt(world, receipt(world)).signature)
    assert refusal_of(read_signed, world, changed) is Refusal.BAD_SIGNATURE


def test_a_receipt_that_the_merchant_signed_wrong_is_refused(world: World) -> None:
    refusing = world.sign_verdict(world.verdict(Refusal.BAD_COIN)).encode()
    other_info = alter(world.info, "timestamp")
    elsewhere = world.sign_verdict(world.verdict(info=other_info)).encode()
    forged = Signed.make(world.shop_seed, Domain.VERDICT, world.verdict()).encode()
    wrong = [
        (receipt(world, digest=other_info.digest), Refusal.PAYMENT_ALTERED),
        (receipt(world, verdict=refusing), Refusal.PAYMENT_ALTERED),
        (receipt(world, verdict=elsewhere), Refusal.PAYMENT_ALTERED),
        (receipt(world, digest=other_info.digest, verdict=elsewhere), Refusal.PAYMENT_ALTERED),
        (receipt(world, verdict=forged), Refusal.BAD_SIGNATURE),
        (receipt(world, verdict=b""), Refusal.MALFORMED),
    ]
    for made, expected in wrong:
        assert refusal_of(read_signed, world, sign_receipt(world, made)) is expected


def test_a_receipt_of_another_merchant_is_refused(world: World) -> None:
    assert refusal_of(read_signed, world, Signed.make(seed("other"), Domain.RECEIPT, receipt(world))) is (
        Refusal.BAD_SIGNATURE
    )
