"""Proof of a payment: who knows its payer code has the bank's signed statement that it was paid.

The hash of the code, and the name of the hash function, came to the bank with the payment. In a dispute the payer sends
payment id, salt and code, and the bank applies the function.
"""

import hmac
from typing import Annotated, Final

import msgspec

from .codec import Blob, Bytes16, Message, Name, Small, Time
from .errors import PeerError
from .messages import PaymentInfo, Signed, Verdict, open_verdict, payer_digest
from .refusals import Refusal
from .signatures import Domain

PROOF: Final = "proof"
PayerCode = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class ProofRequest(Message, frozen=True):
    """Kind `proof`, anonymous: state that the payment of this id was paid by who knows this code."""

    payment_id: Bytes16
    salt: Bytes16
    code: PayerCode


class ProofAnswer(Message, frozen=True):
    """A `Signed` `PaymentProof`."""

    proof: Blob


class PaymentProof(Message, frozen=True):
    """Signed by the bank: this payment was accepted, and at this time somebody showed its payer code.

    `info` is the encoded `PaymentInfo`, `verdict` the bank's `Signed` accepting `Verdict`.
    """

    bank: Name
    info: Small
    verdict: Blob
    at: Time


def proves(info: PaymentInfo, request: ProofRequest) -> bool:
    """Tell whether salt and code are those of this payment."""
    digest = payer_digest(info.payer_function, request.salt, request.payment_id, request.code)
    return info.payment_id == request.payment_id and hmac.compare_digest(digest, info.payer_digest)


def open_proof(signed: Signed, identity: bytes, bank: str) -> tuple[PaymentProof, PaymentInfo, Verdict]:
    """Check a bank's statement, by the bank's 32-byte identity key; needs nobody's help.

    Raises:
        PeerError: `MALFORMED`, `BAD_SIGNATURE`, `WRONG_BANK`, or `NOT_PROVEN` if the verdict in it does not accept.
    """
    proof = PaymentProof.decode(signed.check(identity, Domain.PROOF))
    info = PaymentInfo.decode(proof.info)
    if not proof.bank == info.bank == bank:
        raise PeerError(Refusal.WRONG_BANK, f"the statement is about a payment at bank {info.bank}")
    verdict = open_verdict(Signed.decode(proof.verdict), identity, info.digest)
    if verdict.refusal:
        raise PeerError(Refusal.NOT_PROVEN, "the payment was refused")
    return proof, info, verdict
