import hashlib
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.blind_rsa import (
    BadBlindingFactor,
    PublicKey,
    SharedFactor,
    SignerFault,
    UnblindableMessage,
    WeakKey,
    blind,
    blind_sign,
    blinding_factor,
    check_blinded,
    check_strength,
    emsa_pss_encode,
    finalize,
    prepare_identity,
    prepare_randomize,
    verify,
)
from protocol.errors import OurError, PeerError
from protocol.refusals import Refusal

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9474.json").read_text())
SALT = bytes(range(48))
MESSAGE = b"a serial number"

few = settings(max_examples=12, deadline=None)


@cache
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def public() -> PublicKey:
    numbers = private().public_key().public_numbers()
    return PublicKey(numbers.n, numbers.e)


def sign_raw(block: bytes) -> bytes:
    """The private operation by the Chinese remainder theorem."""
    key, value = private().private_numbers(), int.from_bytes(block)
    mod_p, mod_q = pow(value, key.dmp1, key.p), pow(value, key.dmq1, key.q)
    return block_of(mod_q + key.q * (key.iqmp * (mod_p - mod_q) % key.p))


def block_of(number: int) -> bytes:
    return number.to_bytes(256)


def expand(attempt: int, length: int) -> bytes:
    return hashlib.shake_256(b"%d" % attempt).digest(length)


def signed(message: bytes = MESSAGE, salt: bytes = SALT) -> bytes:
    """A good signature: the private operation on the encoded message, unblinded."""
    return sign_raw(emsa_pss_encode(message, 2047, salt).rjust(256, b"\0"))


def refused(refusal: Refusal, function: Callable[..., object], *args: object, **named: object) -> PeerError:
    with pytest.raises(PeerError) as caught:
        function(*args, **named)
    assert caught.value.refusal is refusal
    return caught.value


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["section"] for vector in VECTORS])
def test_the_vectors_of_the_rfc_pass(vector: dict[str, str]) -> None:
    msg, prefix, salt, blinded_msg, blind_sig, sig = (
        bytes.fromhex(vector[name]) for name in ("msg", "msg_prefix", "salt", "blinded_msg", "blind_sig", "sig")
    )
    n, e, d, inv = (int(vector[name], 16) for name in ("n", "e", "d", "inv"))
    key = PublicKey.from_numbers(n, e)
    prepared = prepare_randomize(msg, prefix) if prefix else prepare_identity(msg)

    assert blind(key, prepared, salt=salt, r=pow(inv, -1, n)) == (blinded_msg, inv)
    assert blind_sign(key, lambda m: pow(int.from_bytes(m), d, n).to_bytes(512), blinded_msg) == blind_sig
    assert finalize(key, prepared, blind_sig, inv, salt_length=len(salt)) == sig
    verify(key, prepared, sig, salt_length=len(salt))
    refused(Refusal.BAD_COIN, verify, key, prepared, sig, salt_length=48 - len(salt))
    refused(Refusal.BAD_COIN, finalize, key, prepared, blind_sig, inv, salt_length=48 - len(salt))


def test_the_vectors_cover_all_variants() -> None:
    assert {(vector["name"], vector["section"]) for vector in VECTORS} == {
        ("RSABSSA-SHA384-PSS-Randomized", "RFC 9474 A.1"),
        ("RSABSSA-SHA384-PSSZERO-Randomized", "RFC 9474 A.2"),
        ("RSABSSA-SHA384-PSS-Deterministic", "RFC 9474 A.3"),
        ("RSABSSA-SHA384-PSSZERO-Deterministic", "RFC 9474 A.4"),
    }


class TestBlindSignature:
    @few
    @given(st.binary(max_size=200), st.sampled_from([b"", SALT]), st.integers(0, 99))
    def test_what_was_blinded_signed_and_unblinded_is_a_pss_signature(
        self, message: bytes, salt: bytes, draw: int
    ) -> None:
        r = blinding_factor(public(), lambda attempt, length: expand(draw + 1000 * attempt, length))
        value, inverse = blind(public(), message, salt=salt, r=r)
        signature = finalize(public(), message, blind_sign(public(), sign_raw, value), inverse, salt_length=len(salt))
        scheme = padding.PSS(padding.MGF1(hashes.SHA384()), len(salt))
        private().public_key().verify(signature, message, scheme, hashes.SHA384())

    @few
    @given(st.integers(2, 2**2000), st.integers(2, 2**2000))
    def test_the_signature_does_not_tell_the_blinding_factor(self, one: int, other: int) -> None:
        signatures = set()
        for r in (one, other):
            value, inverse = blind(public(), MESSAGE, salt=SALT, r=r)
            signatures.add(finalize(public(), MESSAGE, blind_sign(public(), sign_raw, value), inverse))
        assert signatures == {signed()}

    def test_another_blinding_factor_gives_another_blinded_message(self) -> None:
        assert blind(public(), MESSAGE, salt=SALT, r=2)[0] != blind(public(), MESSAGE, salt=SALT, r=3)[0]

    @pytest.mark.parametrize("bit", [0, 100, 2047])
    def test_a_wrong_result_of_the_private_operation_does_not_leave(self, bit: int) -> None:
        value, _ = blind(public(), MESSAGE, salt=SALT, r=2)
        with pytest.raises(SignerFault):
            blind_sign(public(), lambda m: block_of(int.from_bytes(sign_raw(m)) ^ 1 << bit), value)

    @pytest.mark.parametrize("length", [0, 255, 257])
    def test_a_result_of_another_length_does_not_leave(self, length: int) -> None:
        value, _ = blind(public(), MESSAGE, salt=SALT, r=2)
        with pytest.raises(SignerFault):
            blind_sign(public(), lambda m: sign_raw(m).rjust(length, b"\0")[:length], value)

    def test_a_refused_value_never_reaches_the_private_operation(self) -> None:
        seen: list[bytes] = []

        def private_operation(block: bytes) -> bytes:
            seen.append(block)
            return block

        refused(Refusal.BAD_BLINDED_VALUE, blind_sign, public(), private_operation, block_of(1))
        assert not seen


HOSTILE_BLINDED: dict[str, Callable[[int], bytes]] = {
    "empty": lambda _: b"",
    "short": lambda n: block_of(n - 2)[1:],
    "zero in front": lambda n: b"\0" + block_of(n - 2),
    "zero behind": lambda n: block_of(n - 2) + b"\0",
    "0": lambda _: block_of(0),
    "1": lambda _: block_of(1),
    "n - 1": lambda n: block_of(n - 1),
    "n": block_of,
    "n + 1": lambda n: block_of(n + 1),
    "largest": lambda _: b"\xff" * 256,
}


class TestCheckBlinded:
    @pytest.mark.parametrize("which", HOSTILE_BLINDED)
    def test_a_hostile_value_is_refused(self, which: str) -> None:
        error = refused(Refusal.BAD_BLINDED_VALUE, check_blinded, public(), HOSTILE_BLINDED[which](public().n))
        assert not isinstance(error, SharedFactor)

    @pytest.mark.parametrize("which", ["p", "q", "2p", "n - p"])
    def test_a_value_that_shares_a_factor_with_n_is_told_apart(self, which: str) -> None:
        p, q = private().private_numbers().p, private().private_numbers().q
        value = {"p": p, "q": q, "2p": 2 * p, "n - p": p * q - p}[which]
        assert isinstance(refused(Refusal.BAD_BLINDED_VALUE, check_blinded, public(), block_of(value)), SharedFactor)

    @pytest.mark.parametrize("from_the_end", [False, True])
    def test_the_bounds_themselves_are_accepted(self, from_the_end: bool) -> None:
        check_blinded(public(), block_of(public().n - 2 if from_the_end else 2))


class TestBlindingFactor:
    @pytest.mark.parametrize("which", ["0", "-1", "n", "p", "3q"])
    def test_one_without_an_inverse_is_refused(self, which: str) -> None:
        p, q = private().private_numbers().p, private().private_numbers().q
        r = {"0": 0, "-1": -1, "n": p * q, "p": p, "3q": 3 * q}[which]
        with pytest.raises(BadBlindingFactor):
            blind(public(), MESSAGE, salt=SALT, r=r)

    def test_a_message_that_shares_a_factor_with_n_is_refused(self) -> None:
        key = PublicKey(3 * (2**2046 + 1), 65537)
        encoded = {
            message: int.from_bytes(emsa_pss_encode(message, 2047, SALT)) for message in (b"%d" % i for i in range(99))
        }
        multiple_of_3 = next(message for message, number in encoded.items() if number % 3 == 0)
        with pytest.raises(UnblindableMessage):
            blind(key, multiple_of_3, salt=SALT, r=1)

    @few
    @given(st.binary(max_size=16))
    def test_it_is_invertible_and_determined_by_the_bytes(self, seed: bytes) -> None:
        def from_seed(attempt: int, length: int) -> bytes:
            return hashlib.shake_256(seed + b"%d" % attempt).digest(length)

        r = blinding_factor(public(), from_seed)
        assert 0 < r < public().n
        assert math.gcd(r, public().n) == 1
        assert r == blinding_factor(public(), from_seed)

    def test_what_is_too_large_or_has_no_inverse_is_drawn_again(self) -> None:
        p, n = private().private_numbers().p, public().n
        draws = [n, 2**2048 - 1, 0, p, n - p, 7]
        assert blinding_factor(public(), lambda attempt, _: block_of(draws[attempt])) == 7

    def test_bits_above_the_modulus_are_dropped(self) -> None:
        assert blinding_factor(PublicKey(0b1_0000_0000_1, 3), lambda *_: b"\xf8\x07") == 7

    def test_bytes_that_never_fit_end_in_an_error_after_128_attempts(self) -> None:
        attempts: list[int] = []

        def stuck(attempt: int, length: int) -> bytes:
            attempts.append(attempt)
            return bytes(length)

        with pytest.raises(OurError):
            blinding_factor(public(), stuck)
        assert attempts == list(range(128))

    @pytest.mark.parametrize("length", [0, 255, 257])
    def test_another_number_of_bytes_than_asked_for_is_an_error(self, length: int) -> None:
        with pytest.raises(OurError):
            blinding_factor(public(), lambda *_: bytes(length))


class TestEncoding:
    @few
    @given(st.binary(max_size=100), st.binary(max_size=48), st.integers(1, 7))
    def test_it_fits_the_bits_and_ends_as_pss_does(self, message: bytes, salt: bytes, spare: int) -> None:
        encoded = emsa_pss_encode(message, 2048 - spare, salt)
        assert len(encoded) == 256
        assert int.from_bytes(encoded) < 1 << 2048 - spare
        assert encoded[-1] == 0xBC

    def test_bits_that_fill_one_byte_less_shorten_it(self) -> None:
        assert len(emsa_pss_encode(MESSAGE, 2040, SALT)) == 255

    def test_the_shortest_that_holds_hash_and_salt_is_the_limit(self) -> None:
        assert len(emsa_pss_encode(MESSAGE, 8 * 98, SALT)) == 98
        with pytest.raises(OurError):
            emsa_pss_encode(MESSAGE, 8 * 97, SALT)

    @pytest.mark.parametrize("length", [0, 31, 33])
    def test_a_prefix_of_another_length_than_32_is_an_error(self, length: int) -> None:
        with pytest.raises(OurError):
            prepare_randomize(MESSAGE, bytes(length))


def pss(function: hashes.HashAlgorithm, mask: hashes.HashAlgorithm) -> bytes:
    return private().sign(MESSAGE, padding.PSS(padding.MGF1(mask), 48), function)


HOSTILE_SIGNATURES: dict[str, Callable[[int], bytes]] = {
    "0": lambda _: block_of(0),
    "1": lambda _: block_of(1),
    "n - 1": lambda n: block_of(n - 1),
    "n": block_of,
    "n - s": lambda n: block_of(n - int.from_bytes(signed())),
    "largest": lambda _: b"\xff" * 256,
    "s without its last byte": lambda _: signed()[:-1],
    "s and a byte": lambda _: signed() + b"\0",
    "a zero byte and s": lambda _: b"\0" + signed(),
    "empty": lambda _: b"",
    "a bit flipped": lambda _: block_of(int.from_bytes(signed()) ^ 1),
    "of another message": lambda _: signed(b"another"),
    "of the message with a prefix": lambda _: signed(bytes(32) + MESSAGE),
    "no salt": lambda _: signed(salt=b""),
    "short salt": lambda _: signed(salt=bytes(47)),
    "long salt": lambda _: signed(salt=bytes(49)),
    "another hash": lambda _: pss(hashes.SHA256(), hashes.SHA256()),
    "another hash in the mask": lambda _: pss(hashes.SHA384(), hashes.SHA256()),
    "PKCS#1 v1.5": lambda _: private().sign(MESSAGE, padding.PKCS1v15(), hashes.SHA384()),
}


class TestVerify:
    def test_the_good_signature_verifies(self) -> None:
        verify(public(), MESSAGE, signed())
        assert finalize(public(), MESSAGE, signed(), 1) == signed()

    @pytest.mark.parametrize("which", HOSTILE_SIGNATURES)
    def test_a_hostile_signature_is_refused(self, which: str) -> None:
        hostile = HOSTILE_SIGNATURES[which](public().n)
        refused(Refusal.BAD_COIN, verify, public(), MESSAGE, hostile)
        refused(Refusal.BAD_COIN, finalize, public(), MESSAGE, hostile, 1)

    def test_a_good_signature_plus_n_is_refused(self) -> None:
        n, sig = int(VECTORS[0]["n"], 16), int(VECTORS[0]["sig"], 16)
        prepared = bytes.fromhex(VECTORS[0]["msg_prefix"] + VECTORS[0]["msg"])
        verify(PublicKey(n, 65537), prepared, sig.to_bytes(512))
        refused(Refusal.BAD_COIN, verify, PublicKey(n, 65537), prepared, (sig + n).to_bytes(512))

    @pytest.mark.parametrize("inverse", [0, 2])
    def test_another_inverse_gives_no_coin(self, inverse: int) -> None:
        refused(Refusal.BAD_COIN, finalize, public(), MESSAGE, signed(), inverse)

    def test_another_key_does_not_verify(self) -> None:
        refused(Refusal.BAD_COIN, verify, PublicKey(public().n + 2, 65537), MESSAGE, signed())


WEAK_KEYS: dict[str, tuple[Callable[[int, int], tuple[int, int]], int, str]] = {
    "e = 1": (lambda n, _: (n, 1), 2048, "exponent"),
    "e = 2": (lambda n, _: (n, 2), 2048, "exponent"),
    "e = 3": (lambda n, _: (n, 3), 2048, "exponent"),
    "e = 65539": (lambda n, _: (n, 65539), 2048, "exponent"),
    "1024 bits": (lambda _, p: (p, 65537), 2048, "1024 bits instead of 2048"),
    "2047 bits": (lambda n, _: (n >> 1 | 1, 65537), 2048, "2047 bits"),
    "2049 bits": (lambda n, _: (2 * n + 1, 65537), 2048, "2049 bits"),
    "0": (lambda _n, _p: (0, 65537), 2048, "0 bits"),
    "negative": (lambda n, _: (-n, 65537), 2048, "bits"),
    "even": (lambda n, _: (n - 1, 65537), 2048, "small factor"),
    "3p": (lambda _, p: (3 * p, 65537), 1026, "small factor"),
    "65521p": (lambda _, p: (65521 * p, 65537), 1040, "small factor"),
    "a square": (lambda _, p: (p * p, 65537), 2048, "square"),
    "a prime": (lambda _, p: (p, 65537), 1024, "prime"),
}


class TestStrength:
    def test_a_fresh_key_is_strong(self) -> None:
        check_strength(public())

    def test_the_key_of_the_rfc_is_strong_for_its_size(self) -> None:
        check_strength(PublicKey(int(VECTORS[0]["n"], 16), 65537), bits=4096)

    @pytest.mark.parametrize("which", WEAK_KEYS)
    def test_a_weak_key_is_refused_for_its_weakness(self, which: str) -> None:
        make, bits, reason = WEAK_KEYS[which]
        key = PublicKey(*make(public().n, private().private_numbers().p))
        assert reason in refused(Refusal.UNKNOWN_DENOMINATION, check_strength, key, bits).detail


class TestPublicKey:
    def test_der_goes_both_ways(self) -> None:
        assert PublicKey.from_der(public().to_der()) == public()
        assert len(public().to_der()) == 294
        assert public().modulus_bytes == 256

    def test_numbers_make_the_same_key(self) -> None:
        assert PublicKey.from_numbers(public().n, public().e) == public()

    @pytest.mark.parametrize(
        ("n", "e"), [(0, 3), (1, 3), (-7, 3), (2**2047 + 1, 1), (2**2047 + 1, 4), (2**2047 + 1, -3), (3, 65537)]
    )
    def test_numbers_that_are_no_key_are_refused(self, n: int, e: int) -> None:
        refused(Refusal.UNKNOWN_DENOMINATION, PublicKey.from_numbers, n, e)

    def test_other_der_is_refused(self) -> None:
        spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        rsa_encryption, rsassa_pss = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"
        good = public().to_der()
        for hostile in (
            b"",
            b"key",
            good[:-1],
            good + b"\0",
            good + bytes(1024),
            good.replace(rsa_encryption, rsassa_pss),
            public().cryptography_key.public_bytes(Encoding.DER, PublicFormat.PKCS1),
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*spki),
            ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*spki),
        ):
            refused(Refusal.UNKNOWN_DENOMINATION, PublicKey.from_der, hostile)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 293), st.binary(max_size=4), st.integers(0, 4))
    def test_damaged_der_is_refused_or_is_the_encoding_of_another_key(self, at: int, new: bytes, cut: int) -> None:
        good = public().to_der()
        damaged = good[:at] + new + good[at + cut :]
        try:
            key = PublicKey.from_der(damaged)
        except WeakKey:
            return
        assert key.to_der() == damaged
