"""Proving a payment: what the wallet knows of it that nobody else does, and the bank's statement for it."""

from collections.abc import Collection
from typing import NamedTuple

from protocol.answer import open_secret
from protocol.errors import PeerError
from protocol.messages import PaymentInfo, Signed
from protocol.proof import PROOF, ProofAnswer, ProofRequest, open_proof
from protocol.refusals import Refusal
from protocol.wallet import payment

from ..proof import Payer, ProofFile, open_lines
from .store import ExchangeRow
from .wallet import Wallet, WalletError


class Secrets(NamedTuple):
    """What proves a payment: payment id, and the salt and code of its payer's digest."""

    payment_id: bytes
    function: str
    salt: bytes
    code: str


def secrets_of(wallet: Wallet, row: ExchangeRow) -> Secrets:
    """Return what proves a payment, also one that came to nothing.

    Raises:
        WalletError: if this is no payment.
    """
    if row.kind != payment.PAY:
        raise WalletError(f"{row.id.hex()[:8]} is no payment: `ecash wallet history` lists them")
    root, note = wallet.root, row.note
    code = root.payer_code(row.id)
    if note.code:
        code = open_secret(root.note_key(row.id), b"payer code", note.code).decode()
    return Secrets(PaymentInfo.decode(note.info).payment_id, note.payer_function, root.payer_salt(row.id), code)


async def prove(wallet: Wallet, row: ExchangeRow, shown: Collection[int]) -> ProofFile:
    """Ask the bank, anonymously, for its statement on a payment, and return the proof with the order opened.

    Args:
        wallet: the payer's.
        row: the payment.
        shown: the numbers (from 0) of the order's lines to open.

    Raises:
        WalletError: if this is no payment.
        PeerError: `NOT_PROVEN` if the bank has accepted no such payment, or what is wrong with its statement.
        NobodyAnswers: if the bank does not answer.
    """
    secrets, bank = secrets_of(wallet, row), wallet.bank(row.bank)
    answer = await wallet.ask_anonymously(bank, PROOF, ProofRequest(secrets.payment_id, secrets.salt, secrets.code))
    statement = ProofAnswer.decode(answer.check()).proof
    identity = bank.keyset.identity
    _, info, _ = open_proof(Signed.decode(statement), identity, bank.row.name)
    if info.encode() != row.note.info:
        raise PeerError(Refusal.PAYMENT_ALTERED, "the bank's statement is about another payment")
    return ProofFile(
        bank=bank.row.name,
        identity=identity.hex(),
        proof=statement.hex(),
        address=str(bank.address),
        payer=Payer(secrets.function, secrets.salt.hex(), secrets.code),
        order=open_lines(row.note.salt, row.note.order, shown),
    )
