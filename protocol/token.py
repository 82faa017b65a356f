"""From wallet to wallet: the token, coins together with their keys, and the request for one.

Whoever reads a token can exchange its coins, so a receiver does that before they count, and a sender shows it to
nobody else. Both forms are one word of letters and digits, `ECASH:…` and `ECASHREQ:…` (see `text`).

A token may also be sealed for a request's one-time key (a letter of kind `token`) and put into the receiver's inbox;
the acknowledgement that comes back is sealed under the letter's answer key and bound to the token.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final, Self, TypeAlias

import msgspec

from .answer import open_secret, request_id_of, seal_secret
from .codec import Bytes32, Bytes256, Currency, Message, Minor, Name, Time
from .coins import MAX_COINS, Coin, check_coin, check_distinct
from .envelope import VERSION, EnvelopeKey, Suite
from .errors import PeerError
from .keyset import KeyRing
from .refusals import Refusal
from .signatures import public_key
from .text import read_word, write_word

KIND: Final = "token"
"""The kind of the letter that holds a `Token`."""
MAX_MEMO: Final = 120
PREFIX_BYTES: Final = 8
QR_CHARACTERS: Final = 4_296
"""What the largest QR code holds in alphanumeric mode: version 40, error correction level L."""
QR_COINS: Final = 8
"""So many coins fit into one QR code, with an ASCII memo of any length, and 80 bytes for bank and broker."""

_COINS: Final = "ECASH:"
_ASKED: Final = "ECASHREQ:"
_MAX_TEXT: Final = 128 * 1024
_TOKEN_VERSION: Final = 1

Broker = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,120}\Z")]
"""A broker's address without a log-in: `mqtt://host:port`."""
Memo = Annotated[str, msgspec.Meta(max_length=MAX_MEMO)]
"""A line for the receiver, printable characters only (see `check_memo`)."""


class TokenCoin(Message, frozen=True):
    """A coin and its key: the first 8 bytes of its denomination's id, the bank's signature, the seed of the key."""

    denomination: Annotated[bytes, msgspec.Meta(min_length=PREFIX_BYTES, max_length=PREFIX_BYTES)]
    signature: Bytes256
    seed: Bytes32


Coins: TypeAlias = Iterable[tuple[Coin, bytes]]
"""Coins, each with the 32-byte seed of its key."""


class Token(Message, frozen=True):
    """Coins of one currency for whoever reads this.

    `fingerprint` is SHA-256 over the bank's identity key, `broker` where the bank is reached.
    """

    version: int
    bank: Name
    fingerprint: Bytes32
    broker: Broker
    currency: Currency
    memo: Memo
    coins: Annotated[tuple[TokenCoin, ...], msgspec.Meta(min_length=1, max_length=MAX_COINS)]

    @classmethod
    def of(cls, bank: str, fingerprint: bytes, broker: str, currency: str, memo: str, coins: Coins) -> Self:
        """Return a token of these coins, each with the 32-byte seed of its key."""
        told = tuple(TokenCoin(coin.denomination[:PREFIX_BYTES], coin.signature, seed) for coin, seed in coins)
        return cls(_TOKEN_VERSION, bank, fingerprint, broker, currency, memo, told)

    @property
    def hash(self) -> bytes:
        """The 32 bytes by which a token is told from another one."""
        return hashlib.sha256(b"ecash/v1 token\0" + self.encode()).digest()

    def __str__(self) -> str:
        return write_word(_COINS, self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token's text, in any case, with spaces and line breaks anywhere.

        Raises:
            PeerError: `MALFORMED`, or `UNKNOWN_VERSION`.
        """
        return cls.read(_read(_COINS, text))

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read an encoded token.

        Raises:
            PeerError: `MALFORMED`, or `UNKNOWN_VERSION`.
        """
        token = cls.decode(data)
        if token.version != _TOKEN_VERSION:
            raise PeerError(Refusal.UNKNOWN_VERSION, f"a token of version {token.version}")
        check_memo(token.memo)
        return token


class TokenRequest(Message, frozen=True):
    """Please send so much to this inbox.

    `amount` is in minor units, 0 for any; `inbox` the receiver's client id at the broker, `key` a one-time X25519 key
    that the token is sealed for. Nobody need send any more after `expires`.
    """

    version: int
    bank: Name
    fingerprint: Bytes32
    broker: Broker
    currency: Currency
    amount: Minor
    memo: Memo
    inbox: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
    key: Bytes32
    expires: Time

    @property
    def envelope_key(self) -> EnvelopeKey:
        """What the token is sealed for."""
        return EnvelopeKey(Suite.X25519, self.key)

    def __str__(self) -> str:
        return write_word(_ASKED, self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a request's text, in any case, with spaces and line breaks anywhere.

        Raises:
            PeerError: `MALFORMED`, or `UNKNOWN_VERSION`.
        """
        request = cls.decode(_read(_ASKED, text))
        if request.version != _TOKEN_VERSION:
            raise PeerError(Refusal.UNKNOWN_VERSION, f"a request of version {request.version}")
        check_memo(request.memo)
        return request


class Acknowledgement(Message, frozen=True):
    """The receiver's word: it has exchanged the coins, or (`refusal` not empty) why not. The bank knows better."""

    refusal: Annotated[str, msgspec.Meta(max_length=40)]
    detail: Annotated[str, msgspec.Meta(max_length=500)]


def check_memo(memo: str) -> str:
    """Return a memo that a terminal may show.

    Raises:
        PeerError: `MALFORMED`, for more than 120 characters, or one that moves the cursor or turns the text around.
    """
    if len(memo) > MAX_MEMO or not memo.isprintable():
        raise PeerError(Refusal.MALFORMED, f"a memo is one line of at most {MAX_MEMO} printable characters")
    return memo


def fits_qr(text: str) -> bool:
    """Tell whether a token or request fits into one QR code."""
    return len(text) <= QR_CHARACTERS


def coins_of(token: Token, ring: KeyRing) -> tuple[tuple[Coin, bytes], ...]:
    """Return the coins of a token, each with the seed of its key; the bank's signatures are checked.

    Whether they are spent only the bank can tell. Takes some 50 microseconds for each coin.

    Raises:
        PeerError: `UNKNOWN_DENOMINATION` if a prefix names none or several, `WRONG_CURRENCY`, `DUPLICATE_COIN`,
            `BAD_COIN`.
    """
    by_prefix: dict[bytes, list[bytes]] = {}
    for key in ring.ids:
        by_prefix.setdefault(key[:PREFIX_BYTES], []).append(key)
    coins = []
    for one in token.coins:
        named = by_prefix.get(one.denomination, [])
        if len(named) != 1:
            raise PeerError(Refusal.UNKNOWN_DENOMINATION, f"{len(named)} denominations begin so")
        if ring.denomination(named[0]).currency != token.currency:
            raise PeerError(Refusal.WRONG_CURRENCY, f"a coin of the token is not in {token.currency}")
        coins.append((Coin(named[0], public_key(one.seed), one.signature), one.seed))
    check_distinct(coin for coin, _ in coins)
    for coin, _ in coins:
        check_coin(ring.key(coin.denomination), coin)
    return tuple(coins)


def new_request(
    address: tuple[str, bytes, str], currency: str, amount: int, memo: str, inbox: tuple[str, EnvelopeKey], expires: int
) -> TokenRequest:
    """Return a request.

    Args:
        address: the bank's name, fingerprint (32 bytes), and broker.
        currency: a code of ISO 4217.
        amount: minor units, 0 for any.
        memo: a line for the sender, see `check_memo`.
        inbox: the receiver's client id and one-time key.
        expires: milliseconds since 1970.
    """
    client, key = inbox
    return TokenRequest(_TOKEN_VERSION, *address, currency, amount, check_memo(memo), client, key.public, expires)


def seal_acknowledgement(answer_key: bytes, request_id: bytes, token_hash: bytes, told: Acknowledgement) -> bytes:
    """Seal an acknowledgement under the one-time key (32 bytes) that came in the letter with this id (16 bytes)."""
    header = bytes([VERSION]) + request_id
    return header + seal_secret(answer_key, header + token_hash, told.encode())


def open_acknowledgement(answer_key: bytes, token_hash: bytes, sealed: bytes) -> Acknowledgement:
    """Return what `seal_acknowledgement` was given.

    Raises:
        PeerError: `MALFORMED` or `UNKNOWN_VERSION`, if it is not for this token.
    """
    header = bytes([VERSION]) + request_id_of(sealed)
    return Acknowledgement.decode(open_secret(answer_key, header + token_hash, sealed[len(header) :]))


def _read(scheme: str, text: str) -> bytes:
    if len(text) > _MAX_TEXT:
        raise PeerError(Refusal.MALFORMED, f"the text is longer than {_MAX_TEXT} characters")
    return read_word("".join(text.split()), scheme)
