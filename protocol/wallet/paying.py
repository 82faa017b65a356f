"""What a wallet writes and reads when it pays: from a merchant's payment request to coins in a sealed parcel.

All checks of what merchant and bank say stand here; the machine (`payment`) only sees what has passed them.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from ..answer import open_secret
from ..codec import Message
from ..coins import Coin, SpentCoin, spend
from ..envelope import EnvelopeKey, Letter, seal, seal_letter
from ..errors import PeerError
from ..keyset import Keyset
from ..messages import (
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
    commit_to_coins,
    open_verdict,
    order_digest,
    payer_digest,
)
from ..refusals import Refusal
from ..signatures import Domain, sign
from .payment import INQUIRE, PAY, Payment, ReceiptArrived, RefusalByBank

LONGEST_BINDING_MS: Final = 7 * 86_400_000
"""For how long a merchant may keep coins in flight, at the most."""
ORDER_FUNCTION: Final = "sha-256"


class Shop(NamedTuple):
    """A merchant whom the bank has certified: what the wallet knows of whom it pays."""

    certificate: Certificate
    envelope_key: EnvelopeKey
    catalog: Catalog


def open_catalog(merchant: str, data: bytes, keyset: Keyset) -> Shop:
    """Check a merchant's announced catalogue and its certificate by the bank of this keyset.

    Raises:
        PeerError: `MALFORMED`; `WRONG_MERCHANT` if it is another merchant's; `WRONG_BANK` if this bank has not
            certified the merchant; `BAD_SIGNATURE`.
    """
    signed = Signed.decode(data)
    catalog = Catalog.decode(signed.statement)
    if catalog.merchant != merchant:
        raise PeerError(Refusal.WRONG_MERCHANT, f"the catalogue is that of {catalog.merchant}")
    signed.check(catalog.key, Domain.CATALOG)
    for data_of_one in catalog.certificates:
        signed_certificate = Signed.decode(data_of_one)
        certificate = Certificate.decode(signed_certificate.statement)
        if certificate.bank != keyset.bank:
            continue
        signed_certificate.check(keyset.identity, Domain.CERTIFICATE)
        if (certificate.merchant, certificate.key) != (merchant, catalog.key):
            raise PeerError(Refusal.WRONG_MERCHANT, "the certificate is for another merchant or key")
        return Shop(certificate, catalog.envelope_key, catalog)
    raise PeerError(Refusal.WRONG_BANK, f"{merchant} is not certified by bank {keyset.bank}")


def open_payreq(signed: Signed, shop: Shop, keyset: Keyset, now: int) -> Payreq:
    """Check a payment request before a coin is touched.

    Raises:
        PeerError: `MALFORMED`, `BAD_SIGNATURE`, `WRONG_BANK`, `WRONG_MERCHANT`, `WRONG_CURRENCY`; `SALE_EXPIRED`;
            `FOREIGN_KEYSET` if the merchant sees a keyset of the bank that is neither the wallet's nor in its chain:
            one of them is shown keys that others are not. (An older one is no sign of that; a newer one is for the
            caller to fetch first.)
    """
    payreq = Payreq.decode(signed.check(shop.certificate.key, Domain.PAYREQ))
    if payreq.bank != keyset.bank:
        raise PeerError(Refusal.WRONG_BANK, f"the payment request asks for coins of {payreq.bank}")
    if payreq.account != shop.certificate.account:
        raise PeerError(Refusal.WRONG_MERCHANT, "the payment request names another account than the certificate")
    if payreq.currency != shop.certificate.currency:
        raise PeerError(Refusal.WRONG_CURRENCY, "the payment request names another currency than the certificate")
    if payreq.keyset not in (keyset.hash, *keyset.chain):
        raise PeerError(Refusal.FOREIGN_KEYSET, "the merchant sees another keyset of the bank than this wallet")
    if not now < payreq.expires <= payreq.deposit_before:
        raise PeerError(Refusal.SALE_EXPIRED, "the payment request has expired")
    if payreq.deposit_before > now + LONGEST_BINDING_MS:
        raise PeerError(Refusal.MALFORMED, "the merchant wants to bind the coins for more than a week")
    return payreq


class Payer(NamedTuple):
    """What a payer keeps to itself: hash function, salt (16 bytes) and word of its payer code."""

    function: str
    salt: bytes
    code: str


def payment_info(payreq: Payreq, payer: Payer, parcel: bytes) -> PaymentInfo:
    """Return the payment information for a payment request: of order, payer and coins, hashes only.

    Raises:
        PeerError: `MALFORMED`, if the payer's hash function is not on the list.
    """
    return PaymentInfo(
        payreq.currency,
        payreq.amount,
        payreq.timestamp,
        payreq.bank,
        payreq.account,
        ORDER_FUNCTION,
        order_digest(payreq.salt, payreq.order),
        payer.function,
        payer_digest(payer.function, payer.salt, payreq.payment_id, payer.code),
        payreq.payment_id,
        parcel,
        payreq.deposit_before,
    )


class Ids(NamedTuple):
    """The ids and one-time keys of the two requests of a payment, each 16 and 32 bytes."""

    pay_id: bytes
    pay_key: bytes
    inquiry_id: bytes
    inquiry_key: bytes
    evidence_key: bytes


def write_payment(
    payreq: Payreq, payer: Payer, shop: Shop, keyset: Keyset, coins: Sequence[tuple[Coin, bytes]], ids: Ids
) -> tuple[PaymentInfo, Payment]:
    """Spend coins on a payment and seal everything that may have to be sent for it.

    Args:
        payreq: what is asked for.
        payer: the payer's secrets.
        shop: whom to pay.
        keyset: the bank's.
        coins: coins that make the amount, each with the 32-byte seed of its key.
        ids: the requests' ids and one-time keys.

    Raises:
        PeerError: `MALFORMED`, if the payer's hash function is not on the list.
    """
    info = payment_info(payreq, payer, commit_to_coins(ids.evidence_key, (coin for coin, _ in coins)))
    digest, bank_key = info.digest, keyset.envelope_key
    spent = tuple(spend(coin, seed, digest) for coin, seed in coins)
    parcel = seal(bank_key, PARCEL, Parcel(digest, ids.evidence_key, _shuffled(spent)).encode())
    pay = _letter(PAY, ids.pay_id, ids.pay_key, info.deposit_before, PayRequest(info.encode(), parcel, payreq.salt))
    coin, seed = coins[0]
    proof = sign(seed, Domain.INQUIRY, digest, ids.inquiry_id)
    asked = InquiryRequest(info.encode(), coin.denomination, coin.serial, proof)
    inquiry = _letter(INQUIRE, ids.inquiry_id, ids.inquiry_key, _NEVER, asked)
    payment = Payment(
        digest=digest,
        merchant=shop.certificate.merchant,
        bank=keyset.bank,
        serials=tuple(coin.serial for coin, _ in coins),
        deposit_before=info.deposit_before,
        pay_id=ids.pay_id,
        pay=seal_letter(shop.envelope_key, pay, None),
        inquiry_id=ids.inquiry_id,
        inquiry=seal_letter(bank_key, inquiry, None),
    )
    return info, payment


_NEVER: Final = 2**53 - 1


def _letter(kind: str, request_id: bytes, answer_key: bytes, deadline: int, body: Message) -> Letter:
    return Letter(kind, request_id, deadline, answer_key, b"", body.encode())


def _shuffled(spent: tuple[SpentCoin, ...]) -> tuple[SpentCoin, ...]:
    """Order coins by serial number, which is random: the order in which they were withdrawn tells the bank nothing."""
    return tuple(sorted(spent, key=lambda one: one.coin.serial))


def read_verdict(
    signed: Signed, identity: bytes, payment: Payment, evidence_key: bytes, refused: Collection[bytes]
) -> ReceiptArrived | RefusalByBank:
    """Turn the bank's verdict into what the machine sees, its evidence checked.

    Args:
        signed: the verdict.
        identity: the bank's key.
        payment: what it must be about.
        evidence_key: opens the evidence.
        refused: digests of payments that the bank has refused under its signature. That a coin was spent on one of
            them is no evidence: the bank has said itself that it was not.

    Raises:
        PeerError: as `open_verdict`.
    """
    verdict = open_verdict(signed, identity, payment.digest)
    data = signed.encode()
    if not verdict.refusal:
        return ReceiptArrived(data, b"")
    if verdict.refusal != Refusal.ALREADY_SPENT:
        return RefusalByBank(data, verdict.refusal, (), proven=True)
    spent = _proven_spent(verdict, payment, evidence_key, refused)
    return RefusalByBank(data, verdict.refusal, spent, proven=bool(spent))


def _proven_spent(
    verdict: Verdict, payment: Payment, evidence_key: bytes, refused: Collection[bytes]
) -> tuple[bytes, ...]:
    try:
        exhibits = Exhibits.decode(open_secret(evidence_key, verdict.digest, verdict.evidence)).exhibits
        for evidence in exhibits:
            evidence.check()
    except PeerError:
        return ()  # evidence that does not verify is none
    if any(evidence.digest in refused for evidence in exhibits):
        return ()
    elsewhere = {evidence.serial for evidence in exhibits if evidence.digest != payment.digest}
    return tuple(serial for serial in payment.serials if serial in elsewhere)


def read_receipt(signed: Signed, shop_key: bytes, identity: bytes, digest: bytes) -> tuple[Receipt, ReceiptArrived]:
    """Check a merchant's receipt and the bank's verdict in it.

    Raises:
        PeerError: `MALFORMED`, `BAD_SIGNATURE`, or `PAYMENT_ALTERED` if receipt or verdict are about another payment
            or the verdict does not accept.
    """
    receipt = Receipt.decode(signed.check(shop_key, Domain.RECEIPT))
    verdict = open_verdict(Signed.decode(receipt.verdict), identity, digest)
    if receipt.digest != digest or verdict.refusal:
        raise PeerError(Refusal.PAYMENT_ALTERED, "the receipt is not for this payment")
    return receipt, ReceiptArrived(receipt.verdict, signed.encode())
