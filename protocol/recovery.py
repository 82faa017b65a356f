"""Recovery: what is said when coins are lost.

Under the account, the bank gives its answers to the last withdrawals once more; anonymously, its answer to an exchange
or a ticket whose id the asker knows. What is spent is asked anonymously and in the dark: the asker names the first
digits of serial numbers and gets every spending that begins so, each sealed under its own serial number. The value of
unspent coins is redeemed into the account, each proven by its signature and its key.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from .answer import open_secret, seal_secret
from .codec import Blob, Bytes16, Bytes32, Bytes64, Counter, Message, Minor
from .coins import MAX_COINS, Evidence, SpentCoin

RECOVER: Final = "recover"
FETCH: Final = "fetch"
CHECK: Final = "check"
REDEEM: Final = "redeem"

KEPT_WITHDRAWALS: Final = 16
"""The bank recovers the last 16 withdrawals of an account, and all older ones that are not settled."""
MAX_SPENDINGS: Final = 64
"""The most spendings in one answer to a check."""


class RecoverRequest(Message, frozen=True):
    """Kind `recover`: the withdrawals of the sender's account, from number `start` on (0: the oldest kept)."""

    generation: Counter
    start: Counter


class StoredAnswer(Message, frozen=True):
    """An answer that the bank has given to a request, as it was sealed then, and the request's hash."""

    request_id: Bytes16
    request_hash: Bytes32
    answer: Blob


class RecoverAnswer(Message, frozen=True):
    """Answers to withdrawals, the oldest first. `total` are kept; ask on from `next`, unless it is 0."""

    withdrawals: Annotated[tuple[StoredAnswer, ...], msgspec.Meta(max_length=KEPT_WITHDRAWALS)]
    total: Counter
    next: Counter


class FetchRequest(Message, frozen=True):
    """Kind `fetch`, anonymous: the answer to the request with this id, if there is one."""

    request_id: Bytes16


class FetchAnswer(Message, frozen=True):
    """The stored answer, or nothing."""

    found: Annotated[tuple[StoredAnswer, ...], msgspec.Meta(max_length=1)]


class CheckRequest(Message, frozen=True):
    """Kind `check`, anonymous: what is spent of a denomination's coins whose serial numbers begin with `prefix`.

    `prefix` is hexadecimal. The asker begins with "" and lengthens it only when there is too much to tell, so that
    its coins stay hidden among many.
    """

    denomination: Bytes32
    prefix: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,16}\Z")]


class SealedSpending(Message, frozen=True):
    """A spending that only who knows the serial number can find (`tag`) and read (`sealed`, a `Spending`)."""

    tag: Bytes16
    sealed: Annotated[bytes, msgspec.Meta(max_length=1024)]


class CheckAnswer(Message, frozen=True):
    """All spendings of the prefix; none, and not `complete`, if there are more than `MAX_SPENDINGS`."""

    spendings: Annotated[tuple[SealedSpending, ...], msgspec.Meta(max_length=MAX_SPENDINGS)]
    complete: bool


class Spending(Message, frozen=True):
    """What a coin was spent on, and its holder's signature."""

    digest: Bytes32
    spend: Bytes64


def _derived(name: bytes, denomination: bytes, serial: bytes) -> bytes:
    return hashlib.sha256(b"ecash/v1 spending " + name + b"\0" + denomination + serial).digest()


def seal_spending(evidence: Evidence) -> SealedSpending:
    """Return a spending as only who knows the coin's serial number finds and reads it."""
    tag = _derived(b"tag", evidence.denomination, evidence.serial)[:16]
    key = _derived(b"key", evidence.denomination, evidence.serial)
    return SealedSpending(tag, seal_secret(key, tag, Spending(evidence.digest, evidence.spend).encode()))


def find_spending(spendings: Iterable[SealedSpending], denomination: bytes, serial: bytes) -> Evidence | None:
    """Return the evidence that a coin is spent, checked; None if it is not among the spendings.

    Raises:
        PeerError: `MALFORMED` or `BAD_SIGNATURE`, if the bank claims that it is spent and shows no valid signature.
    """
    tag = _derived(b"tag", denomination, serial)[:16]
    for one in spendings:
        if one.tag == tag:
            opened = Spending.decode(open_secret(_derived(b"key", denomination, serial), tag, one.sealed))
            evidence = Evidence(denomination, serial, opened.digest, opened.spend)
            evidence.check()
            return evidence
    return None


class RedeemRequest(Message, frozen=True):
    """Kind `redeem`: credit the sender's account with the value of these coins, spent on `redeem_digest`.

    `commission` is taken from the value. An account never redeems more than it has withdrawn. The answer is a
    `RedeemAnswer`; a refusal as `already_spent` has `Exhibits` in its body.
    """

    generation: Counter
    commission: Minor
    coins: Annotated[tuple[SpentCoin, ...], msgspec.Meta(min_length=1, max_length=MAX_COINS)]


class RedeemAnswer(Message, frozen=True):
    """What the coins were worth, and what was taken from it."""

    amount: Minor
    commission: Minor


def redeem_digest(bank: str, request_id: bytes, account_key: bytes) -> bytes:
    """Return the 32 bytes that each coin signs when it is redeemed into the account of this key (32 bytes)."""
    name = bank.encode()
    return hashlib.sha256(
        b"ecash/v1 redeem\0" + len(name).to_bytes(2, "big") + name + request_id + account_key
    ).digest()
