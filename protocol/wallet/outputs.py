"""Blinded coins, the wallet's side: what it asks the bank to sign, and the coins that come of it.

Everything derives from the root of the wallet's secrets, the request's id and the coin's index in it, so whoever has
the seed and the bank's answer has the coins.
"""

from collections.abc import Iterable, Sequence

from ..blind_rsa import blind, blinding_factor, finalize
from ..coins import SALT_BYTES, Coin, message_of
from ..derivation import Root
from ..errors import PeerError
from ..keyset import KeyRing
from ..messages import BlindedCoin, BlindSignature
from ..refusals import Refusal
from ..signatures import public_key


def in_order(ring: KeyRing, denominations: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return denominations (ids, 32 bytes each) by descending value, and id: the order in which a bank is asked.

    It is one order for all anonymous requests, lest it tell one's purpose from another's.

    Raises:
        PeerError: `UNKNOWN_DENOMINATION`.
    """
    return tuple(sorted(denominations, key=lambda one: (ring.denomination(one).value, one), reverse=True))


def blind_outputs(
    root: Root, ring: KeyRing, request_id: bytes, denominations: Sequence[bytes]
) -> tuple[BlindedCoin, ...]:
    """Return blinded coins of these denominations (ids, 32 bytes each), each derived at its index in the request.

    Takes about a millisecond for each coin.

    Raises:
        PeerError: `UNKNOWN_DENOMINATION`.
    """
    return tuple(
        BlindedCoin(denomination, _blind_coin(root, ring, request_id, index, denomination)[0])
        for index, denomination in enumerate(denominations)
    )


def unblind_outputs(
    root: Root,
    ring: KeyRing,
    request_id: bytes,
    denominations: Sequence[bytes],
    signatures: Sequence[BlindSignature],
) -> tuple[tuple[tuple[int, Coin], ...], str]:
    """Unblind and verify every signature (RFC 9474, Finalize).

    Args:
        root: the root of the wallet's secrets.
        ring: the bank's keys.
        request_id: under which the coins were asked for.
        denominations: what was asked for, in order.
        signatures: what the bank has answered.

    Returns:
        The coins that verified, each with its index in the request; and what is wrong with the others, or "".
    """
    coins, wrong = list[tuple[int, Coin]](), ""
    if len(signatures) != len(denominations):
        wrong = f"{len(signatures)} signatures came for {len(denominations)} coins"
    for index, (denomination, signed) in enumerate(zip(denominations, signatures, strict=False)):
        try:
            if signed.denomination != denomination:
                raise PeerError(Refusal.UNKNOWN_DENOMINATION, "it is signed for another denomination")
            coins.append((index, _finish(root, ring, request_id, index, signed)))
        except PeerError as error:
            wrong = f"coin {index}: {error}"
    return tuple(coins), wrong


def _blind_coin(root: Root, ring: KeyRing, request_id: bytes, index: int, denomination: bytes) -> tuple[bytes, int]:
    """Return blinded message and inverse of the coin at `index`; derived, so the same each time."""
    key = ring.key(denomination)
    message = message_of(denomination, public_key(root.coin(request_id, index)))
    factor = blinding_factor(key, lambda attempt, length: root.blinding(request_id, index, attempt, length))
    return blind(key, message, salt=root.pss_salt(request_id, index), r=factor)


def _finish(root: Root, ring: KeyRing, request_id: bytes, index: int, signed: BlindSignature) -> Coin:
    denomination = signed.denomination
    _, inverse = _blind_coin(root, ring, request_id, index, denomination)
    serial = public_key(root.coin(request_id, index))
    message = message_of(denomination, serial)
    signature = finalize(ring.key(denomination), message, signed.signature, inverse, salt_length=SALT_BYTES)
    return Coin(denomination, serial, signature)
