import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from agents.bank.openssl import RawRsaKey
from agents.bank.signer import SoftwareSigner, public_key_of
from protocol.blind_rsa import SignerFault, check_strength
from protocol.errors import OurError
from tests.conformance.signer import (
    DENOMINATION,
    SignerConformance,
    blinded,
    block,
    denomination_key,
    public_key,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "rfc9474.json").read_text())


@pytest.fixture(scope="module", params=[1, 2, 5], ids="{} threads".format)
def software_signer(request: pytest.FixtureRequest) -> Iterator[SoftwareSigner]:
    signer = SoftwareSigner({DENOMINATION: denomination_key()}, threads=request.param)
    yield signer
    signer.close()


class TestSoftwareSigner(SignerConformance):
    @pytest.fixture
    def signer(self, software_signer: SoftwareSigner) -> SoftwareSigner:
        return software_signer


def pkcs8_of(vector: dict[str, str]) -> bytes:
    p, q, d, e, n = (int(vector[name], 16) for name in "pqden")
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(e, n),
    )
    return numbers.private_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


async def test_the_signer_agrees_with_the_rfc() -> None:
    signer = SoftwareSigner({b"rfc": pkcs8_of(VECTORS[0])}, threads=2)
    signatures = await signer.blind_sign(b"rfc", [bytes.fromhex(vector["blinded_msg"]) for vector in VECTORS])
    assert [signature.hex() for signature in signatures] == [vector["blind_sig"] for vector in VECTORS]
    signer.close()


class FaultyKey(RawRsaKey):
    """A key whose private operation is wrong, by one bit, for one block only."""

    victim = blinded(b"2")[0]

    def private_operation(self, value: bytes) -> bytes:
        signature = super().private_operation(value)
        return signature[:-1] + bytes([signature[-1] ^ 1]) if value == self.victim else signature


@pytest.mark.parametrize("threads", [1, 4])
async def test_a_wrong_result_never_leaves_nor_do_the_right_ones_beside_it(threads: int) -> None:
    signer = SoftwareSigner({DENOMINATION: denomination_key()}, threads, load=FaultyKey)
    with pytest.raises(SignerFault):
        await signer.blind_sign(DENOMINATION, [blinded(b"%d" % i)[0] for i in range(4)])
    assert len(await signer.blind_sign(DENOMINATION, [blinded(b"0")[0]])) == 1
    signer.close()


class BarrierKey(RawRsaKey):
    """A key whose private operation waits until as many threads as the barrier wants are in it."""

    barrier: threading.Barrier

    def private_operation(self, value: bytes) -> bytes:
        self.barrier.wait(timeout=30)
        return super().private_operation(value)


async def test_the_values_of_one_call_are_signed_by_all_threads_at_once() -> None:
    BarrierKey.barrier = threading.Barrier(3)
    signer = SoftwareSigner({DENOMINATION: denomination_key()}, threads=3, load=BarrierKey)
    assert len(await signer.blind_sign(DENOMINATION, [blinded(b"%d" % i)[0] for i in range(6)])) == 6
    signer.close()


async def test_each_denomination_has_its_own_key() -> None:
    signer = SoftwareSigner({DENOMINATION: denomination_key(), b"rfc": pkcs8_of(VECTORS[3])}, threads=1)
    [short] = await signer.blind_sign(DENOMINATION, [blinded(b"a coin")[0]])
    [long] = await signer.blind_sign(b"rfc", [bytes.fromhex(VECTORS[3]["blinded_msg"])])
    assert (len(short), len(long)) == (256, 512)
    signer.close()


def test_a_generated_key_is_strong() -> None:
    check_strength(public_key())


@cache
def other_private_keys() -> dict[str, bytes]:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    loaded = load_der_private_key(denomination_key(), None)
    return {
        "nothing": b"",
        "no DER": b"key",
        "cut": denomination_key()[:-1],
        "of another kind": elliptic.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "encrypted": loaded.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")),
    }


@pytest.mark.parametrize("kind", ["nothing", "no DER", "cut", "of another kind", "encrypted"])
def test_what_is_no_plain_rsa_key_is_not_loaded(kind: str) -> None:
    with pytest.raises(OurError):
        public_key_of(other_private_keys()[kind])
    with pytest.raises(OurError):
        SoftwareSigner({DENOMINATION: other_private_keys()[kind]})


class TestRawRsaKey:
    @pytest.fixture
    def key(self) -> Iterator[RawRsaKey]:
        key = RawRsaKey(denomination_key(), 256)
        yield key
        key.close()

    @pytest.mark.parametrize("number", [0, 1, 2, 1 << 2000])
    def test_the_operations_undo_each_other_without_padding(self, key: RawRsaKey, number: int) -> None:
        assert key.public_operation(block(number)) == public_key().public_operation(block(number))
        assert key.public_operation(key.private_operation(block(number))) == block(number)

    def test_a_small_result_keeps_its_leading_zeros(self, key: RawRsaKey) -> None:
        power = key.public_operation(block(3))
        assert key.private_operation(power) == block(3)

    @pytest.mark.parametrize("operation", ["private_operation", "public_operation"])
    def test_a_block_beyond_the_modulus_is_a_fault_with_a_reason_and_does_no_harm(
        self, key: RawRsaKey, operation: str
    ) -> None:
        with pytest.raises(SignerFault, match="too large for modulus"):
            getattr(key, operation)(block(public_key().n))
        assert key.public_operation(block(1)) == block(1)

    def test_many_threads_may_share_it(self, key: RawRsaKey) -> None:
        values = [blinded(b"%d" % i)[0] for i in range(16)]
        with ThreadPoolExecutor(8) as pool:
            signatures = list(pool.map(key.private_operation, values))
        assert [key.public_operation(signature) for signature in signatures] == values

    def test_no_key_but_a_private_one_is_loaded(self) -> None:
        with pytest.raises(SignerFault, match="d2i_AutoPrivateKey"):
            RawRsaKey(public_key().to_der(), 256)

    def test_a_key_of_another_size_than_told_is_a_fault(self) -> None:
        for size in (255, 257):
            key = RawRsaKey(denomination_key(), size)
            with pytest.raises(SignerFault):
                key.private_operation(block(2))

    def test_a_closed_key_does_nothing_more(self, key: RawRsaKey) -> None:
        key.close()
        key.close()
        with pytest.raises(OurError, match="closed"):
            key.private_operation(block(2))
