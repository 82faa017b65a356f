"""The keyset: a bank's signed, numbered, hash-chained announcement of its keys, dates, commission and limits.

It is retained on a topic, so that everybody sees the same one at once. Wallets merge keysets, never replace them:
a lower number, a broken chain, a vanished key or a date moved earlier is refused.
"""

import hashlib
from collections.abc import Collection, ItemsView
from typing import Annotated, Final, Self

import msgspec

from .blind_rsa import PublicKey, check_strength
from .codec import Blob, Bytes32, Bytes64, Counter, Currency, Message, Name, Small, Time
from .commission import Commission
from .envelope import EnvelopeKey
from .errors import PeerError
from .refusals import Refusal
from .signatures import Domain, check_public_key, sign, verify

VERSION: Final = 1


class Denomination(Message, frozen=True):
    """A key that signs coins of one value. `public_key` is a SubjectPublicKeyInfo (RFC 5280) in DER."""

    currency: Currency
    value: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    public_key: Small
    mint_from: Time
    mint_until: Time
    spend_until: Time
    redeem_until: Time

    @property
    def id(self) -> bytes:
        """SHA-256 over the whole description: 32 bytes that name key, value and dates at once."""
        return hashlib.sha256(b"ecash/v1 denomination\0" + self.encode()).digest()

    def check(self) -> None:
        """Refuse a denomination that a wallet should not trust.

        Raises:
            PeerError: `UNKNOWN_DENOMINATION` for a weak key (see `blind_rsa.check_strength`) or dates out of order.
        """
        if not self.mint_from < self.mint_until <= self.spend_until <= self.redeem_until:
            raise PeerError(Refusal.UNKNOWN_DENOMINATION, "the dates of a denomination are out of order")
        check_strength(PublicKey.from_der(self.public_key))


class Limits(Message, frozen=True):
    """What the bank takes in one request, and over how many lanes it listens."""

    max_coins: Annotated[int, msgspec.Meta(ge=1, le=200)]
    lanes: Annotated[int, msgspec.Meta(ge=1, le=256)]


class Tariff(Message, frozen=True):
    """What the bank charges for each kind of exchange.

    Withdrawal, refund and payout: on top of the amount. Deposit and redemption: taken from what is credited.
    Exchange: the new coins are worth so much less.
    """

    withdrawal: Commission
    deposit: Commission
    exchange: Commission
    refund: Commission
    redemption: Commission
    payout: Commission


class Keyset(Message, frozen=True):
    """All that a bank announces.

    `chain` holds the hashes of all keysets before this one, oldest first. `revoked` names denominations whose keys may
    have been stolen: anybody could make such coins, so they are neither minted nor taken in payment or exchange, but
    whoever withdrew some can have their value back (`protocol.recovery`).
    """

    version: int
    bank: Name
    number: Counter
    chain: tuple[Bytes32, ...]
    issued_at: Time
    identity: Bytes32
    envelope_keys: tuple[EnvelopeKey, ...]
    denominations: tuple[Denomination, ...]
    tariff: Tariff
    limits: Limits
    revoked: tuple[Bytes32, ...]

    @property
    def hash(self) -> bytes:
        """The 32 bytes by which merchants and wallets compare what they see."""
        return hashlib.sha256(b"ecash/v1 keyset\0" + self.encode()).digest()

    @property
    def envelope_key(self) -> EnvelopeKey:
        """The key to seal requests for: the first one announced."""
        return self.envelope_keys[0]


class SignedKeyset(Message, frozen=True):
    """What lies on the topic: an encoded `Keyset` and the bank's signature over those bytes."""

    keyset: Blob
    signature: Bytes64

    @classmethod
    def sign(cls, identity_seed: bytes, keyset: Keyset) -> Self:
        """Return the keyset signed with the bank's identity key."""
        encoded = keyset.encode()
        return cls(encoded, sign(identity_seed, Domain.KEYSET, encoded))


def fingerprint(identity: bytes) -> str:
    """Return how a bank's identity key is written in its address: SHA-256 over the 32 bytes, in hexadecimal."""
    return hashlib.sha256(identity).hexdigest()


def read_keyset(data: bytes) -> Keyset:
    """Return an announced keyset unchecked: for what was checked before it was stored, and for observers.

    Raises:
        PeerError: `MALFORMED`.
    """
    return Keyset.decode(SignedKeyset.decode(data).keyset)


def open_keyset(bank: str, pinned: str, data: bytes, checked: Collection[bytes] = ()) -> Keyset:
    """Check an announced keyset against the fingerprint that the bank's address pins.

    Args:
        bank: the bank's name.
        pinned: the fingerprint.
        data: an encoded `SignedKeyset`.
        checked: ids of denominations that have passed `Denomination.check` before; each check takes some 30 ms.

    Raises:
        PeerError: `MALFORMED`, `UNKNOWN_VERSION`, `WRONG_BANK` (another name or fingerprint), `BAD_SIGNATURE`, or
            `UNKNOWN_DENOMINATION` (a key that no wallet should trust).
    """
    signed = SignedKeyset.decode(data)
    keyset = Keyset.decode(signed.keyset)
    if keyset.version != VERSION:
        raise PeerError(Refusal.UNKNOWN_VERSION, f"keyset version {keyset.version}")
    if keyset.bank != bank or fingerprint(keyset.identity) != pinned:
        raise PeerError(Refusal.WRONG_BANK, f"the keyset is not that of bank {bank} with the pinned fingerprint")
    check_public_key(keyset.identity)
    verify(keyset.identity, signed.signature, Domain.KEYSET, signed.keyset)
    if len(keyset.chain) != keyset.number or not keyset.envelope_keys:
        raise PeerError(Refusal.MALFORMED, "the keyset's chain is not as long as its number, or it has no envelope key")
    if len({denomination.public_key for denomination in keyset.denominations}) != len(keyset.denominations):
        raise PeerError(Refusal.UNKNOWN_DENOMINATION, "a denomination key stands twice in the keyset")
    if len(set(keyset.revoked)) != len(keyset.revoked):
        raise PeerError(Refusal.MALFORMED, "a denomination is revoked twice")
    for denomination in keyset.denominations:
        if denomination.id not in checked:
            denomination.check()
    return keyset


def check_successor(known: Keyset, new: Keyset) -> None:
    """Refuse a keyset that does not continue the one that is known.

    Raises:
        PeerError: `FOREIGN_KEYSET`, with a detail that says what is wrong: rolled back, forked, a key withdrawn before
            its time, or a date moved earlier.
    """
    if new.number < known.number:
        raise PeerError(Refusal.FOREIGN_KEYSET, f"keyset {new.number} is rolled back: {known.number} is known")
    if new.chain[: known.number] != known.chain:
        raise PeerError(Refusal.FOREIGN_KEYSET, f"keyset {new.number} is forked: it tells another history")
    at_known = new.hash if new.number == known.number else new.chain[known.number]
    if at_known != known.hash:
        raise PeerError(Refusal.FOREIGN_KEYSET, f"keyset {new.number} is forked: its chain does not hold the known one")
    announced = {denomination.public_key: denomination for denomination in new.denominations}
    for old in known.denominations:
        kept = announced.get(old.public_key)
        if kept is None:
            if old.redeem_until > new.issued_at:
                raise PeerError(Refusal.FOREIGN_KEYSET, "a denomination was withdrawn before its redeem-until")
        elif kept.id != old.id:
            raise PeerError(Refusal.FOREIGN_KEYSET, "the description of a denomination has changed")
    if not set(known.revoked) <= set(new.revoked):
        raise PeerError(Refusal.FOREIGN_KEYSET, "a revocation was taken back")


class KeyRing:
    """Denominations by id, with their keys loaded once; what bank, merchant and wallet look coins up in."""

    def __init__(self, keyset: Keyset) -> None:
        self.keyset = keyset
        self._denominations = {denomination.id: denomination for denomination in keyset.denominations}
        self._revoked = frozenset(keyset.revoked)
        self._keys = {key: PublicKey.from_der(d.public_key) for key, d in self._denominations.items()}

    @property
    def revoked(self) -> Collection[bytes]:
        """The ids of the revoked denominations."""
        return self._revoked

    @property
    def ids(self) -> Collection[bytes]:
        """The ids of all denominations."""
        return self._denominations.keys()

    def items(self) -> ItemsView[bytes, Denomination]:
        """Return all denominations with their ids."""
        return self._denominations.items()

    def denomination(self, denomination_id: bytes) -> Denomination:
        """Return a denomination by its id.

        Raises:
            PeerError: `UNKNOWN_DENOMINATION`.
        """
        try:
            return self._denominations[denomination_id]
        except KeyError:
            raise PeerError(Refusal.UNKNOWN_DENOMINATION, f"no denomination {denomination_id.hex()[:16]}") from None

    def key(self, denomination_id: bytes) -> PublicKey:
        """Return a denomination's RSA key.

        Raises:
            PeerError: `UNKNOWN_DENOMINATION`.
        """
        self.denomination(denomination_id)
        return self._keys[denomination_id]

    def mintable(self, denomination_id: bytes, now: int) -> Denomination:
        """Return a denomination that may be minted now.

        Raises:
            PeerError: `UNKNOWN_DENOMINATION`, `KEY_REVOKED`, or `DENOMINATION_CLOSED` outside mint-from … mint-until.
        """
        denomination = self._sound(denomination_id)
        if not denomination.mint_from <= now < denomination.mint_until:
            raise PeerError(Refusal.DENOMINATION_CLOSED, "the denomination is not minted now")
        return denomination

    def spendable(self, denomination_id: bytes, now: int) -> Denomination:
        """Return a denomination whose coins may be deposited now.

        Raises:
            PeerError: `UNKNOWN_DENOMINATION`, `KEY_REVOKED`, or `DENOMINATION_CLOSED` from spend-until on.
        """
        denomination = self._sound(denomination_id)
        if now >= denomination.spend_until:
            raise PeerError(Refusal.DENOMINATION_CLOSED, "coins of this denomination are no longer spent")
        return denomination

    def exchangeable(self, denomination_id: bytes, now: int) -> Denomination:
        """Return a denomination whose coins may be exchanged for others now.

        Raises:
            PeerError: `UNKNOWN_DENOMINATION`, `KEY_REVOKED`, or `DENOMINATION_CLOSED` from redeem-until on.
        """
        self._sound(denomination_id)
        return self.redeemable(denomination_id, now)

    def redeemable(self, denomination_id: bytes, now: int) -> Denomination:
        """Return a denomination, revoked or not, whose coins may be redeemed into an account now.

        Raises:
            PeerError: `UNKNOWN_DENOMINATION`, or `DENOMINATION_CLOSED` from redeem-until on.
        """
        denomination = self.denomination(denomination_id)
        if now >= denomination.redeem_until:
            raise PeerError(Refusal.DENOMINATION_CLOSED, "coins of this denomination are worth nothing any more")
        return denomination

    def _sound(self, denomination_id: bytes) -> Denomination:
        denomination = self.denomination(denomination_id)
        if denomination_id in self._revoked:
            raise PeerError(Refusal.KEY_REVOKED, "the key of the denomination is revoked")
        return denomination

    def current(self, currency: str, now: int) -> dict[int, bytes]:
        """Return the ids of the denominations minted now, by value; of two with one value, the last to expire."""
        minted = [
            (d.spend_until, d.value, key)
            for key, d in self._denominations.items()
            if d.currency == currency and d.mint_from <= now < d.mint_until and key not in self._revoked
        ]
        return {value: key for _, value, key in sorted(minted)}
