"""What every implementation of the `Signer` port must do.

A test module makes a subclass whose name starts with `Test` and gives it the fixture `signer`: a signer that holds
the key `denomination_key()` (2048-bit PKCS#8) under the id `DENOMINATION`, and no other key.
"""

import asyncio
import hashlib
from collections.abc import Callable
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from agents.bank.signer import Signer, generate_rsa_key, public_key_of
from protocol.blind_rsa import PublicKey, SharedFactor, blind, blinding_factor, finalize
from protocol.errors import PeerError
from protocol.refusals import Refusal

DENOMINATION = b"the denomination"
SALT = bytes(48)


@cache
def denomination_key() -> bytes:
    """The PKCS#8 key of all runs of the suite, made once."""
    return generate_rsa_key()


@cache
def public_key() -> PublicKey:
    return public_key_of(denomination_key())


def prime_factor() -> int:
    private = load_der_private_key(denomination_key(), None)
    assert isinstance(private, RSAPrivateKey)
    return private.private_numbers().p


def blinded(message: bytes) -> tuple[bytes, int]:
    """A blinded message and the inverse that unblinds it, both determined by the message."""

    def expand(attempt: int, length: int) -> bytes:
        return hashlib.shake_256(b"%d" % attempt + message).digest(length)

    return blind(public_key(), message, salt=SALT, r=blinding_factor(public_key(), expand))


def block(number: int) -> bytes:
    return number.to_bytes(256)


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "nothing": lambda _: b"",
    "0": lambda _: block(0),
    "1": lambda _: block(1),
    "n - 1": lambda n: block(n - 1),
    "n": block,
    "n + 2": lambda n: block(n + 2),
    "the largest block": lambda _: b"\xff" * 256,
    "a block too short": lambda n: block(n - 2)[1:],
    "a block with a zero in front": lambda n: b"\0" + block(n - 2),
    "a block with a zero behind": lambda n: block(n - 2) + b"\0",
}


class SignerConformance:
    @pytest.fixture
    def signer(self) -> Signer:
        raise NotImplementedError

    async def test_a_blind_signature_becomes_a_signature_of_the_message(self, signer: Signer) -> None:
        value, inverse = blinded(b"a coin")
        [signature] = await signer.blind_sign(DENOMINATION, [value])
        assert len(finalize(public_key(), b"a coin", signature, inverse)) == 256

    async def test_many_signatures_come_in_the_order_of_the_values(self, signer: Signer) -> None:
        coins = [b"%d" % i for i in range(7)]
        values = [blinded(coin) for coin in coins]
        signatures = await signer.blind_sign(DENOMINATION, [value for value, _ in values])
        assert len(signatures) == len(coins)
        for coin, (_, inverse), signature in zip(coins, values, signatures, strict=True):
            finalize(public_key(), coin, signature, inverse)

    async def test_no_value_gives_no_signature(self, signer: Signer) -> None:
        assert await signer.blind_sign(DENOMINATION, []) == []

    async def test_the_same_value_twice_gives_the_same_signature_twice(self, signer: Signer) -> None:
        value, _ = blinded(b"a coin")
        first, second = await signer.blind_sign(DENOMINATION, [value, value])
        assert first == second

    async def test_calls_at_once_do_not_mix(self, signer: Signer) -> None:
        coins = [b"%d" % i for i in range(8)]
        values = [blinded(coin) for coin in coins]
        answers = await asyncio.gather(*(signer.blind_sign(DENOMINATION, [value]) for value, _ in values))
        for coin, (_, inverse), [signature] in zip(coins, values, answers, strict=True):
            finalize(public_key(), coin, signature, inverse)

    @pytest.mark.parametrize("values", [[], [block(2)], [block(0)]])
    async def test_an_unknown_denomination_is_refused(self, signer: Signer, values: list[bytes]) -> None:
        with pytest.raises(PeerError) as caught:
            await signer.blind_sign(b"another", values)
        assert caught.value.refusal is Refusal.UNKNOWN_DENOMINATION

    @pytest.mark.parametrize("hostile", HOSTILE)
    async def test_a_hostile_value_is_refused(self, signer: Signer, hostile: str) -> None:
        with pytest.raises(PeerError) as caught:
            await signer.blind_sign(DENOMINATION, [HOSTILE[hostile](public_key().n)])
        assert caught.value.refusal is Refusal.BAD_BLINDED_VALUE

    @pytest.mark.parametrize("multiple", [1, 2, -1])
    async def test_a_value_that_shares_a_factor_with_n_is_refused_and_told_apart(
        self, signer: Signer, multiple: int
    ) -> None:
        value = block(multiple * prime_factor() % public_key().n)
        with pytest.raises(SharedFactor) as caught:
            await signer.blind_sign(DENOMINATION, [value])
        assert caught.value.refusal is Refusal.BAD_BLINDED_VALUE

    @pytest.mark.parametrize("position", range(3))
    async def test_one_hostile_value_among_good_ones_refuses_them_all(self, signer: Signer, position: int) -> None:
        values = [blinded(b"%d" % i)[0] for i in range(2)]
        values.insert(position, block(1))
        with pytest.raises(PeerError) as caught:
            await signer.blind_sign(DENOMINATION, values)
        assert caught.value.refusal is Refusal.BAD_BLINDED_VALUE

    async def test_a_refusal_leaves_the_signer_at_work(self, signer: Signer) -> None:
        with pytest.raises(PeerError):
            await signer.blind_sign(DENOMINATION, [block(0)])
        value, inverse = blinded(b"a coin")
        [signature] = await signer.blind_sign(DENOMINATION, [value])
        finalize(public_key(), b"a coin", signature, inverse)
