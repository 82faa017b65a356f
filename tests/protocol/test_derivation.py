import hashlib
import hmac
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.derivation import Root, new_request_id

ROOT = Root(bytes(range(64)))
ID = b"r" * 16


def hkdf(seed: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, written out."""
    key = hmac.digest(b"ecash/v1 wallet", seed, "sha256")
    output, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output += block
    return output[:length]


SECRETS: list[tuple[Callable[[Root], bytes], bytes, int]] = [
    (lambda root: root.account(b"b" * 32), b"account\0\0\x20" + b"b" * 32, 32),
    (lambda root: root.coin(ID, 258), b"coin\0\0\x10" + ID + b"\0\4\0\0\1\2", 32),
    (lambda root: root.pss_salt(ID, 1), b"pss salt\0\0\x10" + ID + b"\0\4\0\0\0\1", 48),
    (lambda root: root.blinding(ID, 1, 2, 256), b"blinding\0\0\x10" + ID + b"\0\x08\0\0\0\1\0\0\0\2", 256),
    (lambda root: root.answer_key(ID), b"answer key\0\0\x10" + ID, 32),
    (
        lambda root: root.exchange_id(b"b" * 32, 1, 2**32 + 3),
        b"exchange id\0\0\x20" + b"b" * 32 + b"\0\x0c\0\0\0\1\0\0\0\1\0\0\0\3",
        16,
    ),
    (lambda root: root.evidence_key(ID), b"evidence key\0\0\x10" + ID, 32),
    (lambda root: root.note_key(ID), b"note key\0\0\x10" + ID, 32),
    (lambda root: root.decoy(b"d" * 32, 259), b"decoy\0\0\x20" + b"d" * 32 + b"\0\4\0\0\1\3", 16),
    (lambda root: root.payer_salt(ID), b"payer salt\0\0\x10" + ID, 16),
]


@pytest.mark.parametrize(
    ("secret", "info", "length"), SECRETS, ids=[info.split(b"\0")[0].decode() for _, info, _ in SECRETS]
)
def test_a_secret_is_hkdf_of_its_name_and_parts(secret: Callable[[Root], bytes], info: bytes, length: int) -> None:
    assert secret(ROOT) == hkdf(bytes(range(64)), info, length)
    assert secret(Root(bytes(64))) == hkdf(bytes(64), info, length)


def test_no_two_secrets_are_alike() -> None:
    secrets = [secret(ROOT)[:16] for secret, _, _ in SECRETS]
    secrets += [ROOT.coin(ID, 0)[:16], ROOT.coin(bytes(16), 0)[:16], ROOT.blinding(ID, 1, 3, 256)[:16]]
    assert len(set(secrets)) == len(secrets)


def test_the_ids_of_exchanges_differ_by_wallet_bank_generation_and_number() -> None:
    ids = {
        root.exchange_id(bank, generation, counter)
        for root in (ROOT, Root(bytes(64)))
        for bank in (b"b" * 32, b"c" * 32)
        for generation in (0, 1, 256)
        for counter in (0, 1, 256)
    }
    assert len(ids) == 2 * 2 * 3 * 3


def test_when_coins_are_refreshed_is_drawn_by_wallet_and_denomination() -> None:
    jitters = [
        root.refresh_jitter(denomination)
        for root in (ROOT, Root(bytes(64)))
        for denomination in (bytes([number]) * 32 for number in range(200))
    ]
    assert jitters[0] == int.from_bytes(hkdf(bytes(range(64)), b"refresh jitter\0\0\x20" + bytes(32), 8)) % 1001
    assert 0 <= min(jitters) < 50
    assert 950 < max(jitters) <= 1000
    assert len(set(jitters)) > 250


def test_when_a_withdrawal_is_named_as_settled_is_drawn_for_each() -> None:
    jitters = [Root(bytes(64)).settling_jitter(number.to_bytes(16)) for number in range(200)]
    assert jitters[0] == int.from_bytes(hkdf(bytes(64), b"settling jitter\0\0\x10" + bytes(16), 8)) % 1001
    assert 0 <= min(jitters) < 50
    assert 950 < max(jitters) <= 1000


def test_a_payer_code_is_80_bits_to_read_aloud() -> None:
    code = ROOT.payer_code(ID)
    assert re.fullmatch(r"[0-9a-f]{5}(-[0-9a-f]{5}){3}", code)
    assert code.replace("-", "") == hkdf(bytes(range(64)), b"payer code\0\0\x10" + ID, 10).hex()


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32))
def test_a_request_id_depends_on_device_and_entropy(device: bytes, entropy: bytes) -> None:
    made = new_request_id(device, entropy)
    assert made == hashlib.sha256(b"ecash/v1 request id\0" + device + entropy).digest()[:16]
    assert made != new_request_id(device, bytes(32)) or entropy == bytes(32)
    assert made != new_request_id(bytes(16), entropy) or device == bytes(16)
