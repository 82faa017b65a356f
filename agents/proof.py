"""Proofs of payment as files, which anybody can check without asking anybody: `ecash verify FILE`."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from protocol.errors import PeerError
from protocol.keyset import fingerprint
from protocol.messages import PaymentInfo, Signed
from protocol.order import digest_of_lines, line_hash, line_salt
from protocol.proof import ProofRequest, open_proof, proves

from .address import BankAddress

_LONGEST: Final = 1 << 20
_MOST_LINES: Final = 50
"""As many as an order has (`Payreq.order`)."""


class Payer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the payer discloses: the hash function, the salt and the code of its payment."""

    function: str
    salt: str
    code: str


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the order: opened by its `salt` and `text`, or kept back behind its `hash`."""

    hash: str = ""
    salt: str = ""
    text: str = ""


class ProofFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A proof of payment; all bytes in hexadecimal.

    Attributes:
        bank: the bank's name.
        identity: its public key, 32 bytes.
        proof: the bank's `Signed` `PaymentProof`.
        address: the bank's address as the payer has it.
        payer: what the payer discloses of its code.
        order: the lines of the order.
    """

    bank: str
    identity: str
    proof: str
    address: str = ""
    payer: Payer | None = None
    order: Annotated[tuple[Line, ...], msgspec.Meta(max_length=_MOST_LINES)] = ()


class Checked(NamedTuple):
    """What a proof says: the payment, who signs for it, when it was accepted and stated, and what was opened.

    `order` are its lines, None for each that is kept back; `pinned` tells whether the key is the one that was known.
    """

    info: PaymentInfo
    fingerprint: str
    pinned: bool
    accepted_at: int
    stated_at: int
    code: str
    order: tuple[str | None, ...]


def open_lines(salt: bytes, order: Sequence[str], shown: Collection[int]) -> tuple[Line, ...]:
    """Return the lines of an order for a proof; those whose numbers (from 0) are not `shown` are kept back."""
    lines = []
    for index, text in enumerate(order):
        salt_of_line = line_salt(salt, index)
        hidden = Line(hash=line_hash(salt_of_line, text).hex())
        lines.append(Line(salt=salt_of_line.hex(), text=text) if index in shown else hidden)
    return tuple(lines)


def proof_text(proof: ProofFile) -> str:
    """Return what stands in the file of a proof."""
    return json.dumps(msgspec.to_builtins(proof), indent=2, ensure_ascii=False) + "\n"


def write_proof(path: Path, proof: ProofFile) -> None:
    """Write a proof to a new file that only its owner can read: it holds the payer code.

    Raises:
        ValueError: if there is a file already, or it cannot be written.
    """
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(proof_text(proof), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error


def read_proof(path: Path) -> ProofFile:
    """Read a proof.

    Raises:
        ValueError: if this is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST:
        raise ValueError(f"{path} is no proof of payment: it is longer than {_LONGEST} bytes")
    try:
        return msgspec.json.decode(data, type=ProofFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no proof of payment: {error}") from error


def check_proof(proof: ProofFile, pinned: BankAddress | None = None) -> Checked:
    """Check everything in a proof. Of its `address`, where the bank is cannot be checked, only who it is.

    Args:
        proof: the file's content.
        pinned: the bank's address as it is known; any key goes if it is None.

    Raises:
        ValueError: with what is wrong.
    """
    identity = _bytes("identity", proof.identity, 32)
    try:
        signed = Signed.decode(_bytes("statement", proof.proof))
        statement, info, verdict = open_proof(signed, identity, proof.bank)
    except PeerError as error:
        raise ValueError(f"the bank's statement does not hold: {error.detail or error.refusal}") from error
    named = BankAddress.parse(proof.address) if proof.address else None
    for address in filter(None, (pinned, named)):
        if (address.bank, address.fingerprint) != (proof.bank, fingerprint(identity)):
            raise ValueError(f"the statement is not signed by the key that {address} pins")
    return Checked(
        info=info,
        fingerprint=fingerprint(identity),
        pinned=pinned is not None,
        accepted_at=verdict.at,
        stated_at=statement.at,
        code=_check_payer(proof.payer, info) if proof.payer else "",
        order=_check_order(proof.order, info) if proof.order else (),
    )


def _bytes(what: str, text: str, length: int = 0) -> bytes:
    """Return bytes from hexadecimal, so many if it is said: a longer salt could swallow the beginning of a text."""
    try:
        value = bytes.fromhex(text)
    except ValueError as error:
        raise ValueError(f"the {what} is not hexadecimal") from error
    if length and len(value) != length:
        raise ValueError(f"the {what} has {len(value)} bytes, not {length}")
    return value


def _check_payer(payer: Payer, info: PaymentInfo) -> str:
    shown = ProofRequest(info.payment_id, _bytes("salt of the payer code", payer.salt, 16), payer.code)
    if payer.function != info.payer_function or not proves(info, shown):
        raise ValueError("the payer code is not that of the payment")
    return payer.code


def _check_order(lines: Sequence[Line], info: PaymentInfo) -> tuple[str | None, ...]:
    hashes = [_hash_of(line) for line in lines]
    if info.order_function != "sha-256" or digest_of_lines(hashes) != info.order_digest:
        raise ValueError("the order is not the one that was paid")
    return tuple(line.text if line.salt else None for line in lines)


def _hash_of(line: Line) -> bytes:
    opened, hidden = line.salt or line.text, line.hash
    if opened and hidden:
        raise ValueError("a line of the order is opened or kept back, not both")
    if opened:
        return line_hash(_bytes("salt of a line", line.salt, 32), line.text)
    return _bytes("hash of a line", hidden, 32)


def as_json(checked: Checked) -> dict[str, Any]:
    """Return what a proof says as JSON's values; the amount is in minor units."""
    info = checked.info
    return {
        "bank": info.bank,
        "fingerprint": checked.fingerprint,
        "pinned": checked.pinned,
        "account": info.account,
        "amount": info.amount,
        "currency": info.currency,
        "payment": info.payment_id.hex(),
        "requested_at": info.timestamp,
        "accepted_at": checked.accepted_at,
        "stated_at": checked.stated_at,
        "code": checked.code,
        "order": checked.order,
    }
