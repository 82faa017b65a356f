"""Targets that are functions of bytes: every decoder, envelopes, and statements inside good signatures."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgpack
import msgspec.inspect as shape

from protocol.answer import Answer, open_answer, open_secret, seal_answer, seal_secret
from protocol.codec import Message
from protocol.envelope import EnvelopePrivateKey, Letter, Suite, _SignedLetter, open_letter, seal, seal_letter
from protocol.errors import PeerError
from protocol.keyset import Keyset, SignedKeyset, open_keyset, read_keyset
from protocol.messages import PaymentInfo, Payreq, Receipt, Signed, Verdict, open_verdict
from protocol.proof import PaymentProof, open_proof
from protocol.signatures import Domain, public_key
from protocol.totals import DenominationTotal, Totals, open_totals
from protocol.wallet.paying import Shop, open_catalog, open_payreq, read_receipt
from tests.agents.world import BANK, SHOP, START, Town
from tests.shapes import fields, message_types, smallest
from tests.vectors.reader import VECTORS
from tests.world import seed

from .forms import RAW
from .target import INSIDE, Run, Target, checked

_KEY: Final = bytes(range(32))
_ID: Final = bytes(16)
_HASH: Final = seed("request hash")


class Raw(NamedTuple):
    """Bytes that stand where a message should."""

    data: bytes

    def encode(self) -> bytes:
        return self.data


def raw(data: bytes) -> Message:
    return Raw(data)  # type: ignore[return-value] # all that is asked of a message there is its encoding


def plain_targets(town: Town, shop: Shop, catalog: bytes, payreq: Payreq, info: PaymentInfo) -> list[Target]:
    """The targets; `catalog` and `payreq` are what the shop announces and asks for, `info` a payment."""
    return [
        *_messages(),
        *_envelopes(),
        *_keysets(town),
        *_statements(town, shop, catalog, payreq, info),
    ]


def _messages() -> Iterator[Target]:
    invalid = [bytes.fromhex(one["bytes"]) for one in VECTORS["invalid"]["messages"]]
    for kind in message_types():
        good = msgpack.packb([_sample(field.type) for field in fields(kind)])
        yield Target(f"message: {kind.__name__}", [good, *invalid], checked(_round_trip(kind), PeerError))


def _sample(kind: shape.Type) -> Any:
    """A small wire value, but with something in each list."""
    match kind:
        case shape.VarTupleType():
            return [_sample(kind.item_type)] * max(1, kind.min_length or 0)
        case shape.TupleType():
            return [_sample(item) for item in kind.item_types]
        case shape.StructType():
            return [_sample(field.type) for field in kind.fields]
        case _:
            return smallest(kind)


def _round_trip(kind: type[Message]) -> Callable[[bytes], object]:
    def decode(data: bytes) -> None:
        assert kind.decode(data).encode() == data

    return decode


# ---------------------------------------------------------------- envelopes


def _envelopes() -> Iterator[Target]:
    letter = Letter("withdraw", _ID, 1, _KEY, b"", b"body")
    for suite, secret in (Suite.X25519, seed("x25519")), (Suite.MLKEM768_X25519, seed("hybrid") * 3):
        key = EnvelopePrivateKey(suite, secret)
        named = suite.name.lower()
        sealed = seal_letter(key.public, letter, None)
        yield Target(f"envelope: {named}", [sealed], checked(_opener(key), PeerError), RAW)
        yield Target(
            f"envelope: {named}, inside",
            [_SignedLetter(letter.encode(), b"").encode(), _SignedLetter(letter.encode(), bytes(64)).encode()],
            checked(_sealer(key), PeerError),
        )
    invalid = [bytes.fromhex(one["sealed"]) for one in VECTORS["invalid"]["answers"]]
    answer = seal_answer(_KEY, _KEY, _ID, _HASH, Answer(START, "", "", b"body"))
    signer = public_key(_KEY)
    signed = [Answer(START, "", "", b"body").encode(), Answer(START, "already_spent", "why", b"").encode()]
    yield Target(
        "answer", [answer, *invalid], checked(lambda data: open_answer(signer, _KEY, _HASH, data), PeerError), RAW
    )
    yield Target("answer, inside", signed, checked(_answered, PeerError))
    secret = seal_secret(_KEY, b"context", b"plaintext")
    yield Target("secret", [secret], checked(lambda data: open_secret(_KEY, b"context", data), PeerError), RAW)


def _opener(key: EnvelopePrivateKey) -> Callable[[bytes], object]:
    return lambda data: open_letter(key, data, "withdraw")


def _sealer(key: EnvelopePrivateKey) -> Callable[[bytes], object]:
    return lambda data: open_letter(key, seal(key.public, "withdraw", data[:INSIDE]), "withdraw")


def _answered(data: bytes) -> None:
    signer = seed("signer")
    sealed = seal_answer(signer, _KEY, _ID, _HASH, raw(data[:INSIDE]))  # type: ignore[arg-type]
    open_answer(public_key(signer), _KEY, _HASH, sealed).check()


# ---------------------------------------------------------------- statements


def _keysets(town: Town) -> Iterator[Target]:
    identity, fingerprint, announced = town.mint.keys.identity, town.address.fingerprint, town.mint.announcement
    known, invalid = set(town.ring.ids), [bytes.fromhex(one["signed"]) for one in VECTORS["invalid"]["keysets"]]

    def inside(data: bytes, checked_before: set[bytes]) -> Keyset:
        signature = SignedKeyset.sign(identity, raw(data)).signature  # type: ignore[arg-type]
        return open_keyset(BANK, fingerprint, SignedKeyset(data, signature).encode(), checked_before)

    samples = [announced, *invalid]
    yield Target("keyset", samples, checked(lambda data: open_keyset(BANK, fingerprint, data, known), PeerError))
    yield Target("keyset, read", samples, checked(read_keyset, PeerError))
    good = [town.keyset.encode()]
    yield Target("keyset, inside", good, checked(lambda data: inside(data, known), PeerError))
    yield Target("keyset of new keys, inside", good, checked(lambda data: inside(data, set()), PeerError))


def _statements(town: Town, shop: Shop, catalog: bytes, payreq: Payreq, info: PaymentInfo) -> Iterator[Target]:
    """What bank and shop sign, with anything as its content."""
    bank, shop_seed, keyset = town.mint.keys.identity, town.shop.desk.keys.identity, town.keyset
    shop_key, digest = town.shop.desk.keys.public, info.digest
    counted = tuple(DenominationTotal(key, 2, 1) for key in town.ring.ids)
    verdict = Verdict(BANK, digest, info.payment_id, info.account, info.currency, info.amount, "", START, b"")
    signed_verdict = Signed.make(bank, Domain.VERDICT, verdict).encode()
    samples: dict[str, tuple[bytes, Domain, bytes, Callable[[Signed], object]]] = {
        "totals": (
            bank,
            Domain.TOTALS,
            Totals(BANK, keyset.hash, 3, START, counted).encode(),
            lambda signed: open_totals(signed, keyset),
        ),
        "proof": (
            bank,
            Domain.PROOF,
            PaymentProof(BANK, info.encode(), signed_verdict, START).encode(),
            lambda signed: open_proof(signed, keyset.identity, BANK),
        ),
        "verdict": (
            bank,
            Domain.VERDICT,
            verdict.encode(),
            lambda signed: open_verdict(signed, keyset.identity, digest),
        ),
        "receipt": (
            shop_seed,
            Domain.RECEIPT,
            Receipt(digest, signed_verdict, "goods", START).encode(),
            lambda signed: read_receipt(signed, shop_key, keyset.identity, digest),
        ),
        "payment request": (
            shop_seed,
            Domain.PAYREQ,
            payreq.encode(),
            lambda signed: open_payreq(signed, shop, keyset, START),
        ),
        "catalogue": (
            shop_seed,
            Domain.CATALOG,
            Signed.decode(catalog).statement,
            lambda signed: open_catalog(SHOP, signed.encode(), keyset),
        ),
    }
    for name, (signer, domain, sample, check) in samples.items():
        yield Target(f"{name}, inside", [sample], _inside(signer, domain, check))
    yield Target("catalogue", [catalog], checked(lambda data: open_catalog(SHOP, data, keyset), PeerError))


def _inside(signer: bytes, domain: Domain, check: Callable[[Signed], object]) -> Run:
    return checked(lambda data: check(Signed.make(signer, domain, raw(data))), PeerError)
