"""The part of the audit that verifies stored signatures: the bank's on verdicts, and holders' on coins they spent.

A signature costs some 100 microseconds, so an audit verifies a sample: rows at a regular stride, the first of them
chosen by a seed.
"""

from collections.abc import Sequence
from typing import TypeVar

from protocol.coins import Evidence
from protocol.errors import PeerError
from protocol.messages import Signed
from protocol.signatures import Domain

from .arranged import Arranged

_T = TypeVar("_T")


def verdict_faults(books: Arranged, identity: bytes, sample: int, seed: int) -> tuple[int, list[str]]:
    """Verify verdicts by the bank's 32-byte public key; return how many, and a sentence for each bad one."""
    rows, faults = _strided(books.facts.payments, sample, seed), []
    for row in rows:
        try:
            Signed.decode(row.verdict).check(identity, Domain.VERDICT)
        except PeerError as error:
            faults.append(f"payment {row.digest.hex()}: the verdict is not signed by the bank: {error}")
    return len(rows), faults


def spend_faults(books: Arranged, sample: int, seed: int) -> tuple[int, list[str]]:
    """Verify coins' spend signatures; return how many, and a sentence for each bad one."""
    rows, faults = _strided(books.facts.spent, sample, seed), []
    for row in rows:
        try:
            Evidence(row.denomination, row.serial, row.digest, row.spend).check()
        except PeerError:
            value = books.denominations.get(row.denomination, (0, ""))[0]
            faults.append(f"coin {row.serial.hex()} of {value}: its holder did not spend it on {row.digest.hex()}")
    return len(rows), faults


def _strided(rows: Sequence[_T], sample: int, seed: int) -> Sequence[_T]:
    """Return at most `sample` rows; each row is among them for one of any `stride` consecutive seeds."""
    if not rows or sample <= 0:
        return ()
    stride = -(-len(rows) // sample)
    return rows[seed % stride :: stride]
