"""What the wallet's machines do to its coins: effects that are made durable together with the state.

A coin is *free*, *reserved* by an exchange under way, *spent*, or set *aside* in a dispute. A coin that came back from
recovery, from an old copy of the wallet or from a transfer that was taken back is *unverified*: the bank has to speak
before it counts.
"""

from ..coins import Coin
from ..machine import Effect


class KeepCoins(Effect, frozen=True):
    """Store these coins of a request, each derived at its index, as free to spend or as unverified.

    A coin that the wallet has already is left as it is.
    """

    request_id: bytes
    coins: tuple[tuple[int, Coin], ...]
    unverified: bool = False


class ReserveCoins(Effect, frozen=True):
    """These free (or unverified) coins are spoken for."""

    serials: tuple[bytes, ...]
    unverified: bool = False


class SpendCoins(Effect, frozen=True):
    """These reserved coins are spent."""

    serials: tuple[bytes, ...]


class ReleaseCoins(Effect, frozen=True):
    """These reserved coins are free again, or unverified."""

    serials: tuple[bytes, ...]
    unverified: bool = False


class SetCoinsAside(Effect, frozen=True):
    """These reserved coins are neither spent nor free until the dispute with the bank is settled."""

    serials: tuple[bytes, ...]


class VoidDigest(Effect, frozen=True):
    """The bank has refused, under its signature, what has this digest: that a coin was spent on it is no evidence."""

    digest: bytes
