"""What is said: the bodies of requests and answers, and the statements that parties sign.

A *statement* (certificate, catalogue, payment request, verdict, receipt) travels as the bytes that were signed and a
signature over them; nothing is encoded again to be verified.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final, Self

import msgspec

from .codec import (
    AccountNumber,
    Blob,
    Bytes16,
    Bytes32,
    Bytes64,
    Bytes256,
    Counter,
    Currency,
    Label,
    Message,
    Minor,
    Name,
    Small,
    Text,
    Time,
)
from .coins import MAX_COINS, Coin, Evidence, SpentCoin
from .envelope import EnvelopeKey
from .errors import PeerError
from .order import digest_of_lines, line_hash, line_salt
from .refusals import Refusal
from .signatures import Domain, sign, verify

CLIENT: Final = "client"
MERCHANT: Final = "merchant"
AccountKind = Annotated[str, msgspec.Meta(pattern=r"^(client|merchant)\Z")]
HashFunction = Annotated[str, msgspec.Meta(max_length=16)]
HASH_FUNCTIONS: Final = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512", "sha3-256": "sha3_256"}
"""The hash functions that a payment may name, and their names in `hashlib`."""
MAX_EVIDENCE: Final = 65_536 + 28
"""`Exhibits` of `MAX_COINS` coins, padded to 65,536 bytes, and what sealing adds (`answer.seal_secret`)."""


class Signed(Message, frozen=True):
    """A statement as it travels: the signed bytes and the Ed25519 signature over them."""

    statement: Blob
    signature: Bytes64

    @classmethod
    def make(cls, seed: bytes, domain: Domain, statement: Message) -> Self:
        """Sign a statement."""
        encoded = statement.encode()
        return cls(encoded, sign(seed, domain, encoded))

    def check(self, key: bytes, domain: Domain) -> bytes:
        """Return the signed bytes; raise PeerError (`BAD_SIGNATURE`) unless the 32-byte `key` signed them."""
        verify(key, self.signature, domain, self.statement)
        return self.statement


# ---------------------------------------------------------------- accounts


class AccountRequest(Message, frozen=True):
    """Kind `account`: open an account for the sender's key with a one-time invitation, or (empty) look at it.

    `generation` is 0, or the number under which a device takes the account over: one more than the last one. From
    then on the bank serves this device alone, so that two with the same seed never fork unnoticed.
    """

    invitation: Annotated[bytes, msgspec.Meta(max_length=32)]
    generation: Counter


class AccountAnswer(Message, frozen=True):
    """The sender's account. `certificate` is a `Signed` `Certificate` for a merchant, else empty.

    `generation` counts the devices that have used the account: 1 when it was claimed, one more with each take-over.
    """

    account: AccountNumber
    kind: AccountKind
    name: Label
    currency: Currency
    balance: Minor
    certificate: Small
    generation: Counter


class Certificate(Message, frozen=True):
    """Signed by a bank: the merchant on the topics under `merchant`, known as `name`, holds `account` and `key`."""

    bank: Name
    account: AccountNumber
    currency: Currency
    merchant: Name
    name: Label
    key: Bytes32
    issued_at: Time


# ---------------------------------------------------------------- withdrawal


class BlindedCoin(Message, frozen=True):
    """A blinded message (RFC 9474) and the denomination that shall sign it."""

    denomination: Bytes32
    blinded: Bytes256


BlindedCoins = Annotated[tuple[BlindedCoin, ...], msgspec.Meta(min_length=1, max_length=MAX_COINS)]


class BlindSignature(Message, frozen=True):
    """A blind signature (RFC 9474) and the denomination whose key made it."""

    denomination: Bytes32
    signature: Bytes256


BlindSignatures = Annotated[tuple[BlindSignature, ...], msgspec.Meta(max_length=MAX_COINS)]

MAX_SETTLED: Final = 32


class WithdrawRequest(Message, frozen=True):
    """Kind `withdraw`: debit the sender's account by their value and this commission, and sign these, in this order.

    `settled` are the request ids of earlier withdrawals of which the wallet has no coin left to lose: of the others,
    the bank keeps what recovery needs, however old they are.
    """

    generation: Counter
    commission: Minor
    coins: BlindedCoins
    settled: Annotated[tuple[Bytes16, ...], msgspec.Meta(max_length=MAX_SETTLED)]


class WithdrawAnswer(Message, frozen=True):
    """Blind signatures in the order of the request; what was debited is `amount` + `commission`."""

    coins: BlindSignatures
    amount: Minor
    commission: Minor


# ---------------------------------------------------------------- order and payment request


class Item(Message, frozen=True):
    """One article of a catalogue; the price is in minor units."""

    sku: Name
    title: Label
    price: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    currency: Currency


class Catalog(Message, frozen=True):
    """Signed by a merchant, retained on a topic. Each certificate is a `Signed` `Certificate` of one bank."""

    merchant: Name
    key: Bytes32
    issued_at: Time
    envelope_key: EnvelopeKey
    certificates: Annotated[tuple[Small, ...], msgspec.Meta(max_length=16)]
    items: Annotated[tuple[Item, ...], msgspec.Meta(max_length=500)]


class OrderLine(Message, frozen=True):
    """So many of one article."""

    sku: Name
    quantity: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class OrderRequest(Message, frozen=True):
    """Kind `order`: an order at a merchant, to be paid with coins of this bank. The answer is a `Signed` `Payreq`."""

    bank: Name
    lines: Annotated[tuple[OrderLine, ...], msgspec.Meta(min_length=1, max_length=50)]


class Payreq(Message, frozen=True):
    """The payment request, signed by the merchant, and what closes its holes.

    `order` is the order description, line by line; `salt` hides it in the payment information. The coins must be
    with the bank before `deposit_before`; the offer stands until `expires`. `keyset` is the hash of the bank's
    keyset that the merchant sees: a wallet that sees another one pays nothing.
    """

    currency: Currency
    amount: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    timestamp: Time
    bank: Name
    account: AccountNumber
    order: Annotated[tuple[Label, ...], msgspec.Meta(min_length=1, max_length=50)]
    payment_id: Bytes16
    salt: Bytes16
    expires: Time
    deposit_before: Time
    keyset: Bytes32


def order_line_hash(salt: bytes, index: int, line: str) -> bytes:
    """Return the salted commitment to one line of an order, so that a payer can open that line alone."""
    return line_hash(line_salt(salt, index), line)


def order_digest(salt: bytes, order: tuple[str, ...]) -> bytes:
    """Return the 32-byte commitment to a whole order: SHA-256 over the commitments to its lines."""
    return digest_of_lines(order_line_hash(salt, index, line) for index, line in enumerate(order))


def payer_digest(function: str, salt: bytes, payment_id: bytes, code: str) -> bytes:
    """Return the digest of a payer code, salted and bound to its payment.

    Raises:
        PeerError: `MALFORMED`, if the function is not on the list.
    """
    if function not in HASH_FUNCTIONS:
        raise PeerError(Refusal.MALFORMED, f"hash function {function!r} is none of {', '.join(HASH_FUNCTIONS)}")
    hashed = hashlib.new(HASH_FUNCTIONS[function])
    hashed.update(b"ecash/v1 payer code\0" + function.encode() + b"\0" + salt + payment_id + code.encode())
    return hashed.digest()


# ---------------------------------------------------------------- payment


class PaymentInfo(Message, frozen=True):
    """The payment information, which merchant and bank see. Of order and payer it holds hashes only.

    `parcel` is the payer's commitment to its coins (`commit_to_coins`): nobody can put others in their place.
    """

    currency: Currency
    amount: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    timestamp: Time
    bank: Name
    account: AccountNumber
    order_function: HashFunction
    order_digest: Annotated[bytes, msgspec.Meta(min_length=32, max_length=64)]
    payer_function: HashFunction
    payer_digest: Annotated[bytes, msgspec.Meta(min_length=32, max_length=64)]
    payment_id: Bytes16
    parcel: Bytes32
    deposit_before: Time

    def check_functions(self) -> None:
        """Raise PeerError (`MALFORMED`) unless both hash functions are on the list and fit their digests."""
        for function, digest in ((self.order_function, self.order_digest), (self.payer_function, self.payer_digest)):
            known = HASH_FUNCTIONS.get(function)
            if known is None or hashlib.new(known).digest_size != len(digest):
                raise PeerError(Refusal.MALFORMED, f"{len(digest)} bytes are no digest by {function!r}")

    @property
    def digest(self) -> bytes:
        """The 32 bytes that each coin signs when it is spent on this payment."""
        return hashlib.sha256(b"ecash/v1 payment\0" + self.encode()).digest()


PARCEL: Final = "parcel"
"""The kind of the envelope that holds a `Parcel`."""


def commit_to_coins(evidence_key: bytes, coins: Iterable[Coin]) -> bytes:
    """Return the 32-byte commitment to a parcel's coins, in any order; the 32-byte evidence key hides them."""
    encoded = b"".join(sorted(coin.encode() for coin in coins))
    return hashlib.sha256(b"ecash/v1 parcel\0" + evidence_key + encoded).digest()


class Parcel(Message, frozen=True):
    """Sealed for the bank (kind `parcel`), so that the merchant never sees a coin.

    `evidence_key` is the payer's: the bank seals under it what only the payer should see.
    """

    digest: Bytes32
    evidence_key: Bytes32
    coins: Annotated[tuple[SpentCoin, ...], msgspec.Meta(min_length=1, max_length=MAX_COINS)]

    @property
    def commitment(self) -> bytes:
        """What the payment information must hold in `parcel`."""
        return commit_to_coins(self.evidence_key, (spent.coin for spent in self.coins))


ParcelEnvelope = Annotated[bytes, msgspec.Meta(max_length=160 * 1024)]
"""An envelope with a `Parcel`: room for `MAX_COINS` coins, padded."""


class PayRequest(Message, frozen=True):
    """Kind `pay`: an encoded `PaymentInfo` and an envelope with a `Parcel`. The answer is a `PayAnswer`."""

    info: Small
    parcel: ParcelEnvelope
    salt: Bytes16


class Receipt(Message, frozen=True):
    """Signed by the merchant: paid. `verdict` is the bank's `Signed` `Verdict`; `goods` what was bought, if text."""

    digest: Bytes32
    verdict: Blob
    goods: Text
    at: Time


class PayAnswer(Message, frozen=True):
    """The answer to `pay`: a `Signed` `Receipt`, or, if the bank refused, its `Signed` `Verdict`. One is empty."""

    receipt: Blob
    verdict: Blob


# ---------------------------------------------------------------- deposit


class DepositRequest(Message, frozen=True):
    """Kind `deposit`: the payment as the merchant received it, for the sender's account."""

    info: Small
    parcel: ParcelEnvelope


class DepositAnswer(Message, frozen=True):
    """The bank's `Signed` `Verdict`, and the commission taken from the amount (0 when refused)."""

    verdict: Blob
    commission: Minor


class Verdict(Message, frozen=True):
    """Signed by the bank, and final: what became of a payment.

    `refusal` is "" when the coins were accepted and the merchant credited. `evidence` is empty but for
    `already_spent`: then it is an encoded `Exhibits`, sealed under the payer's evidence key.
    """

    bank: Name
    digest: Bytes32
    payment_id: Bytes16
    account: AccountNumber
    currency: Currency
    amount: Minor
    refusal: Annotated[str, msgspec.Meta(max_length=40)]
    at: Time
    evidence: Annotated[bytes, msgspec.Meta(max_length=MAX_EVIDENCE)]


class Exhibits(Message, frozen=True):
    """For each coin that was spent before: the signature that spent it."""

    exhibits: Annotated[tuple[Evidence, ...], msgspec.Meta(max_length=MAX_COINS)]


def open_verdict(signed: Signed, identity: bytes, digest: bytes) -> Verdict:
    """Check a verdict: the bank's, and on the payment with this digest.

    Raises:
        PeerError: `MALFORMED`, `BAD_SIGNATURE`, or `PAYMENT_ALTERED` if it is about another payment.
    """
    verdict = Verdict.decode(signed.check(identity, Domain.VERDICT))
    if verdict.digest != digest:
        raise PeerError(Refusal.PAYMENT_ALTERED, "the verdict is on another payment")
    return verdict


class InquiryRequest(Message, frozen=True):
    """Kind `verdict`, anonymous: what became of this payment? Asked with the key of one of its coins.

    `proof` signs the payment's digest and the request id under the domain `inquiry`.
    """

    info: Small
    denomination: Bytes32
    serial: Bytes32
    proof: Bytes64


class InquiryAnswer(Message, frozen=True):
    """The bank's `Signed` `Verdict`."""

    verdict: Blob


class Status(Message, frozen=True):
    """Retained on an agent's `status` topic, and its last will: a hint for people and observers, never trusted."""

    open: bool
    lanes: Counter
