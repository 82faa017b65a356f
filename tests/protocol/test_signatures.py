import json
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from protocol.refusals import Refusal
from protocol.signatures import Domain, check_public_key, public_key, sign, verify
from tests.world import seed

SEED = seed("signer")
KEY = public_key(SEED)

# The points of order 1, 2, 4 and 8 in all encodings that 32 bytes can hold, canonical or not.
SMALL_ORDER = [
    bytes.fromhex(encoding)
    for encoding in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
]
IDENTITY = SMALL_ORDER[0]


def refusal_of(key: bytes, signature: bytes, domain: Domain, *parts: bytes) -> Refusal:
    with pytest.raises(PeerError) as caught:
        verify(key, signature, domain, *parts)
    return caught.value.refusal


def test_the_public_key_is_that_of_rfc_8032() -> None:
    """Section 7.1, test 1."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert public_key(secret).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_a_signature_is_ed25519_over_domain_and_framed_parts() -> None:
    signature = sign(SEED, Domain.SPEND, b"ab", b"")
    signed = b"ecash/v1 spend\0" + b"\0\0\0\2ab" + b"\0\0\0\0"
    assert signature == Ed25519PrivateKey.from_private_bytes(SEED).sign(signed)


@given(st.sampled_from(Domain), st.lists(st.binary(max_size=40), max_size=3))
def test_what_is_signed_verifies(domain: Domain, parts: list[bytes]) -> None:
    verify(KEY, sign(SEED, domain, *parts), domain, *parts)


@pytest.mark.parametrize("domain", Domain)
def test_a_signature_verifies_in_no_other_domain(domain: Domain) -> None:
    signature = sign(SEED, domain, b"text")
    for other in set(Domain) - {domain}:
        assert refusal_of(KEY, signature, other, b"text") is Refusal.BAD_SIGNATURE


def test_no_two_ways_to_cut_one_text_into_parts_have_one_signature() -> None:
    cuts = [(b"abcd",), (b"ab", b"cd"), (b"abc", b"d"), (b"", b"abcd"), (b"abcd", b""), (b"abcd\0\0\0\0",)]
    for one, other in combinations(cuts, 2):
        assert refusal_of(KEY, sign(SEED, Domain.REQUEST, *one), Domain.REQUEST, *other) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("index", range(64))
def test_a_signature_with_one_byte_flipped_is_refused(index: int) -> None:
    signature = bytearray(sign(SEED, Domain.ANSWER, b"text"))
    signature[index] ^= 0x80
    assert refusal_of(KEY, bytes(signature), Domain.ANSWER, b"text") is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("length", [0, 1, 31, 33, 63, 64, 65, 1000])
def test_keys_and_signatures_of_wrong_length_are_refused(length: int) -> None:
    signature = sign(SEED, Domain.ANSWER, b"text")
    if length != 64:
        assert refusal_of(KEY, signature.ljust(length, b"\0")[:length], Domain.ANSWER, b"text") is Refusal.BAD_SIGNATURE
    assert refusal_of(bytes(length), signature, Domain.ANSWER, b"text") is Refusal.BAD_SIGNATURE
    with pytest.raises(PeerError) as caught:
        check_public_key(bytes(length))
    assert caught.value.refusal is Refusal.BAD_SIGNATURE


def test_a_key_of_prime_order_is_good() -> None:
    check_public_key(KEY)


@pytest.mark.parametrize("key", SMALL_ORDER, ids=bytes.hex)
def test_a_key_of_small_order_is_refused_and_verifies_nothing(key: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        check_public_key(key)
    assert caught.value.refusal is Refusal.BAD_SIGNATURE
    # R = the identity and S = 0: under a key of small order a lax verifier takes it for every eighth text or more.
    forged = IDENTITY + bytes(32)
    for number in range(16):
        assert refusal_of(key, forged, Domain.SPEND, json.dumps(number).encode()) is Refusal.BAD_SIGNATURE


def test_a_key_outside_the_subgroup_of_prime_order_is_refused() -> None:
    from nacl.bindings import crypto_core_ed25519_add

    mixed = crypto_core_ed25519_add(KEY, SMALL_ORDER[1])
    with pytest.raises(PeerError):
        check_public_key(mixed)


def test_a_point_off_the_curve_is_refused() -> None:
    with pytest.raises(PeerError):
        check_public_key(b"\2" + bytes(31))
