import hashlib
import json
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.hpke import Suite as HpkeSuite
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import envelope
from protocol.codec import MAX_MESSAGE, Message, Small
from protocol.envelope import (
    HEADER_BYTES,
    PRIVATE_BYTES,
    VERSION,
    EnvelopeKey,
    EnvelopePrivateKey,
    Letter,
    Suite,
    open_letter,
    pad,
    recipient_of,
    request_hash,
    seal,
    seal_letter,
    unpad,
)
from protocol.errors import OurError, PeerError
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key, sign
from tests.world import NOW, alter, seed

VECTORS = Path(cryptography_vectors.__file__).parent / "HPKE"


def secret(suite: Suite, name: str) -> bytes:
    return hashlib.shake_256(name.encode()).digest(PRIVATE_BYTES[suite])


KEYS = {suite: EnvelopePrivateKey(suite, secret(suite, "bank")) for suite in Suite}
OTHERS = {suite: EnvelopePrivateKey(suite, secret(suite, "other")) for suite in Suite}
KEY = KEYS[Suite.X25519]
ENCAPSULATED = {Suite.X25519: 32, Suite.MLKEM768_X25519: 1088 + 32}

suites = pytest.mark.parametrize("suite", Suite, ids=lambda suite: suite.name)


def refusal_of(key: EnvelopePrivateKey, sealed: bytes, kind: str = "pay") -> Refusal:
    with pytest.raises(PeerError) as caught:
        key.open(sealed, kind)
    return caught.value.refusal


# ---------------------------------------------------------------- published vectors


def vectors(file: str, **wanted: int) -> list[dict[str, Any]]:
    listed = json.loads((VECTORS / file).read_text())
    return [vector for vector in listed if all(vector[name] == value for name, value in wanted.items())]


def assert_opens(suite: HpkeSuite, key: Any, vector: dict[str, Any]) -> None:
    info, first = bytes.fromhex(vector["info"]), vector["encryptions"][0]
    sealed = bytes.fromhex(vector["enc"]) + bytes.fromhex(first["ct"])
    opened = openssl.hpke._decrypt_with_aad(suite, sealed, key, info, bytes.fromhex(first["aad"]))
    assert opened == bytes.fromhex(first["pt"])


def test_our_suite_opens_the_vector_of_rfc_9180() -> None:
    """Appendix A.1 and the vectors beside it: base mode, X25519 with HKDF-SHA256, HKDF-SHA256, AES-256-GCM."""
    (vector,) = vectors("test-vectors.json", mode=0, kem_id=0x20, kdf_id=1, aead_id=2)
    assert_opens(
        envelope._HPKE[Suite.X25519], X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["skRm"])), vector
    )


def test_our_hybrid_opens_the_vector_of_its_draft() -> None:
    """The one vector for MLKEM768-X25519 with HKDF-SHA256 has another AEAD; KEM, key halves and KDF are ours."""
    (vector,) = vectors("hpke-pq-test-vectors.json", mode=0, kem_id=0x647A, kdf_id=1)
    expanded = hashlib.shake_256(bytes.fromhex(vector["skRm"])).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
    published = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    assert published == bytes.fromhex(vector["pkRm"])
    assert EnvelopePrivateKey(Suite.MLKEM768_X25519, expanded).public.public == published
    suite = HpkeSuite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    assert_opens(suite, MLKEM768X25519PrivateKey(mlkem, x25519), vector)


# ---------------------------------------------------------------- envelopes


@suites
@settings(max_examples=20, deadline=None)
@given(plaintext=st.binary(max_size=3000), kind=st.from_regex(r"^[a-z0-9-]{1,32}\Z"))
def test_what_is_sealed_opens(suite: Suite, plaintext: bytes, kind: str) -> None:
    sealed = seal(KEYS[suite].public, kind, plaintext)
    assert KEYS[suite].open(sealed, kind) == plaintext
    assert recipient_of(sealed) == KEYS[suite].key_id == KEYS[suite].public.key_id
    assert sealed[:2] == bytes([VERSION, suite])
    assert len(sealed) == HEADER_BYTES + ENCAPSULATED[suite] + len(pad(plaintext)) + 16


@suites
def test_no_two_envelopes_are_alike(suite: Suite) -> None:
    assert len({seal(KEYS[suite].public, "pay", b"text") for _ in range(5)}) == 5


@suites
def test_an_envelope_for_another_key_does_not_open(suite: Suite) -> None:
    sealed = seal(OTHERS[suite].public, "pay", b"text")
    assert refusal_of(KEYS[suite], sealed) is Refusal.MALFORMED
    readdressed = sealed[:2] + KEYS[suite].key_id + sealed[HEADER_BYTES:]
    assert refusal_of(KEYS[suite], readdressed) is Refusal.MALFORMED


@suites
def test_an_envelope_opens_only_as_what_it_was_sealed_as(suite: Suite) -> None:
    sealed = seal(KEYS[suite].public, "pay", b"text")
    for kind in ("", "paid", "pa", "order", "Pay"):
        assert refusal_of(KEYS[suite], sealed, kind) is Refusal.MALFORMED


@suites
def test_an_envelope_cut_at_any_place_does_not_open(suite: Suite) -> None:
    sealed = seal(KEYS[suite].public, "pay", b"text")
    for length in [*range(60), *range(60, len(sealed), 29), len(sealed) - 1]:
        assert refusal_of(KEYS[suite], sealed[:length]) is Refusal.MALFORMED
    assert refusal_of(KEYS[suite], sealed + b"\0") is Refusal.MALFORMED


@suites
def test_an_envelope_with_any_byte_flipped_does_not_open(suite: Suite) -> None:
    sealed = seal(KEYS[suite].public, "pay", b"text")
    for index in [*range(60), *range(60, len(sealed), 17), len(sealed) - 1]:
        flipped = bytearray(sealed)
        flipped[index] ^= 0x40
        expected = Refusal.UNKNOWN_VERSION if index < 2 else Refusal.MALFORMED
        assert refusal_of(KEYS[suite], bytes(flipped)) is expected


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"\xff" * 32], ids=bytes.hex)
def test_an_encapsulated_key_of_small_order_does_not_open(point: bytes) -> None:
    sealed = seal(KEY.public, "pay", b"text")
    assert refusal_of(KEY, sealed[:HEADER_BYTES] + point + sealed[HEADER_BYTES + 32 :]) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "header", [b"\0\1", b"\2\1", b"\xff\1", b"\1\0", b"\1\3", b"\1\xff", b"\1\2"], ids=lambda header: header.hex()
)
def test_another_version_or_suite_is_unknown(header: bytes) -> None:
    sealed = seal(KEY.public, "pay", b"text")
    assert refusal_of(KEY, header + sealed[2:]) is Refusal.UNKNOWN_VERSION


def test_an_envelope_longer_than_a_message_is_not_opened() -> None:
    sealed = seal(KEY.public, "pay", b"text")
    assert refusal_of(KEY, sealed.ljust(MAX_MESSAGE + 1, b"\0")) is Refusal.MALFORMED
    with pytest.raises(PeerError):
        recipient_of(sealed.ljust(MAX_MESSAGE + 1, b"\0"))


@suites
def test_the_longest_envelope_opens_and_a_longer_one_is_not_sealed(suite: Suite) -> None:
    longest = bytes(MAX_MESSAGE // 2 - 4)
    sealed = seal(KEYS[suite].public, "pay", longest)
    assert len(sealed) <= MAX_MESSAGE
    assert KEYS[suite].open(sealed, "pay") == longest
    with pytest.raises(OurError):
        seal(KEYS[suite].public, "pay", longest + b"\0")


def test_what_was_padded_by_another_rule_does_not_open() -> None:
    header = bytes([VERSION, Suite.X25519]) + KEY.key_id
    public = KEY.public._load()
    sealed = envelope._HPKE[Suite.X25519].encrypt(b"text", public, envelope._info(header, "pay"))
    assert refusal_of(KEY, header + sealed) is Refusal.MALFORMED


# ---------------------------------------------------------------- keys


@suites
@pytest.mark.parametrize("change", [-1, 1])
def test_a_private_key_takes_exactly_its_bytes(suite: Suite, change: int) -> None:
    with pytest.raises(OurError):
        EnvelopePrivateKey(suite, bytes(PRIVATE_BYTES[suite] + change))


def test_a_key_id_names_suite_and_key() -> None:
    public = KEY.public.public
    assert KEY.key_id == hashlib.sha256(b"\1" + public).digest()[:16]
    assert EnvelopeKey(2, public).key_id != KEY.key_id


UNUSABLE = {
    "suite 0": EnvelopeKey(0, bytes(32)),
    "suite 3": EnvelopeKey(3, bytes(32)),
    "suite 255": EnvelopeKey(255, bytes(32)),
    "X25519 too short": EnvelopeKey(1, bytes(31)),
    "X25519 too long": EnvelopeKey(1, bytes(33)),
    "X25519 of small order": EnvelopeKey(1, bytes(32)),
    "hybrid key in the plain suite": EnvelopeKey(1, KEYS[Suite.MLKEM768_X25519].public.public),
    "plain key in the hybrid suite": EnvelopeKey(2, KEY.public.public),
    "hybrid too short": EnvelopeKey(2, KEYS[Suite.MLKEM768_X25519].public.public[:-1]),
    "hybrid with coefficients out of range": EnvelopeKey(2, b"\xff" * 1216),
    "hybrid with an X25519 half of small order": EnvelopeKey(
        2, KEYS[Suite.MLKEM768_X25519].public.public[:-32] + bytes(32)
    ),
}


@pytest.mark.parametrize("key", UNUSABLE.values(), ids=UNUSABLE)
def test_nothing_is_sealed_for_a_key_that_cannot_be_used(key: EnvelopeKey) -> None:
    with pytest.raises(PeerError) as caught:
        seal(EnvelopeKey.decode(key.encode()), "pay", b"text")
    assert caught.value.refusal is Refusal.MALFORMED


# ---------------------------------------------------------------- padding


@pytest.mark.parametrize(
    ("length", "size"),
    [(0, 512), (508, 512), (509, 1024), (1020, 1024), (1021, 2048), (65_532, 65_536), (65_533, 131_072)],
)
def test_padding_classes_are_exact(length: int, size: int) -> None:
    assert len(pad(bytes(length))) == size
    assert unpad(pad(bytes(length))) == bytes(length)


@given(st.binary(max_size=3000))
def test_what_is_padded_comes_back(plaintext: bytes) -> None:
    assert unpad(pad(plaintext)) == plaintext


PADDED = pad(b"text")
WRONG_PADDING = {
    "nothing": b"",
    "no class": PADDED[:-1],
    "twice the class": PADDED.ljust(1024, b"\0"),
    "not zero at the end": PADDED[:-1] + b"\1",
    "not zero behind the text": PADDED[:8] + b"\1" + PADDED[9:],
    "longer than all": b"\xff\xff\xff\xff" + PADDED[4:],
    "length into the padding": (513).to_bytes(4, "big") + PADDED[4:],
}


@pytest.mark.parametrize("padded", WRONG_PADDING.values(), ids=WRONG_PADDING)
def test_other_padding_is_refused(padded: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        unpad(padded)
    assert caught.value.refusal is Refusal.MALFORMED


def test_padding_may_not_claim_more_or_fewer_bytes_than_it_was_given() -> None:
    """A length within the zeros is another text, padded just as well: the seal, not the padding, guards it."""
    assert unpad((5).to_bytes(4, "big") + PADDED[4:]) == b"text\0"
    with pytest.raises(PeerError):
        unpad((3).to_bytes(4, "big") + PADDED[4:])


# ---------------------------------------------------------------- letters


SENDER = seed("client")
SIGNED = Letter("pay", b"r" * 16, NOW, seed("answer key"), public_key(SENDER), b"the body")
ANONYMOUS = Letter("pay", b"r" * 16, NOW, seed("answer key"), b"", b"the body")


class Sealed(Message, frozen=True):
    """What lies in an envelope: the letter's bytes and the signature over them."""

    letter: bytes
    signature: Small


def letter_refusal(letter: bytes, signature: bytes, kind: str = "pay") -> Refusal:
    sealed = seal(KEY.public, kind, Sealed(letter, signature).encode())
    with pytest.raises(PeerError) as caught:
        open_letter(KEY, sealed, kind)
    return caught.value.refusal


def signature_of(letter: Letter, key_seed: bytes = SENDER, recipient: EnvelopePrivateKey = KEY) -> bytes:
    return sign(key_seed, Domain.REQUEST, recipient.key_id, letter.encode())


@suites
def test_a_signed_letter_and_an_anonymous_one_open(suite: Suite) -> None:
    for letter, sender in ((SIGNED, SENDER), (ANONYMOUS, None)):
        sealed = seal_letter(KEYS[suite].public, letter, sender)
        assert open_letter(KEYS[suite], sealed, "pay") == letter


def test_nobody_signs_under_another_name() -> None:
    for letter, sender in ((SIGNED, None), (SIGNED, seed("other")), (ANONYMOUS, SENDER)):
        with pytest.raises(OurError):
            seal_letter(KEY.public, letter, sender)


def test_a_letter_must_be_of_the_kind_it_was_sealed_as() -> None:
    order = alter(SIGNED, "kind", "order")
    assert letter_refusal(order.encode(), signature_of(order)) is Refusal.WRONG_TYPE


@pytest.mark.parametrize("field", Letter.__struct_fields__)
def test_a_letter_altered_after_it_was_signed_is_refused(field: str) -> None:
    changed = alter(SIGNED, field)
    expected = Refusal.WRONG_TYPE if field == "kind" else Refusal.BAD_SIGNATURE
    assert letter_refusal(changed.encode(), signature_of(SIGNED)) is expected


@pytest.mark.parametrize("sender", [b"", b"x", bytes(32), bytes(33), bytes(4096)], ids=len)
def test_a_signature_must_be_the_senders(sender: bytes) -> None:
    letter = alter(SIGNED, "sender", sender)
    assert letter_refusal(letter.encode(), signature_of(letter)) is Refusal.BAD_SIGNATURE


def test_a_signature_is_for_one_recipient() -> None:
    """Who was sent a letter cannot pass it on as sent to somebody else."""
    forwarded = signature_of(SIGNED, recipient=OTHERS[Suite.X25519])
    assert letter_refusal(SIGNED.encode(), forwarded) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(64), bytes(65)], ids=len)
def test_a_signed_letter_needs_its_signature_and_an_anonymous_one_has_none(signature: bytes) -> None:
    assert letter_refusal(SIGNED.encode(), signature) is Refusal.BAD_SIGNATURE
    if signature:
        assert letter_refusal(ANONYMOUS.encode(), signature) is Refusal.BAD_SIGNATURE


def test_what_is_no_letter_is_malformed() -> None:
    assert letter_refusal(b"", b"") is Refusal.MALFORMED
    assert letter_refusal(SIGNED.encode() + b"\0", signature_of(SIGNED)) is Refusal.MALFORMED
    with pytest.raises(PeerError) as caught:
        open_letter(KEY, seal(KEY.public, "pay", b"\xc1"), "pay")
    assert caught.value.refusal is Refusal.MALFORMED


def test_requests_are_told_apart_by_their_bytes() -> None:
    sealed = seal_letter(KEY.public, ANONYMOUS, None)
    assert request_hash(sealed) == hashlib.sha256(sealed).digest()
    assert request_hash(sealed) != request_hash(seal_letter(KEY.public, ANONYMOUS, None))
