"""The salted commitment to an order, line by line, so that a payer can open each line for itself.

line salt = HMAC-SHA-256(order salt, "ecash/v1 order line" || 0x00 || index, 4 bytes)
line hash = SHA-256(line salt || line)
digest    = SHA-256("ecash/v1 order" || 0x00 || all line hashes)
"""

import hashlib
import hmac
from collections.abc import Iterable


def line_salt(salt: bytes, index: int) -> bytes:
    """Return the salt (32 bytes) of the line at `index`; that of another line does not follow from it."""
    return hmac.digest(salt, b"ecash/v1 order line\0" + index.to_bytes(4, "big"), hashlib.sha256)


def line_hash(salt_of_line: bytes, line: str) -> bytes:
    """Return the commitment (32 bytes) to one line."""
    return hashlib.sha256(salt_of_line + line.encode()).digest()


def digest_of_lines(hashes: Iterable[bytes]) -> bytes:
    """Return the commitment (32 bytes) to a whole order, from those to its lines."""
    return hashlib.sha256(b"ecash/v1 order\0" + b"".join(hashes)).digest()
