"""One-time invitations: what the operator hands to a customer so that a key can claim an account.

An invitation is 16 random bytes, written in base32 in groups of four. The bank keeps its hash only.
"""

import base64
import hashlib


def write_invitation(secret: bytes) -> str:
    """Write an invitation for a person: lower-case base32, in groups of four."""
    text = base64.b32encode(secret).decode().rstrip("=").lower()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def read_invitation(text: str) -> bytes:
    """Read what `write_invitation` wrote, however it was spaced or capitalised.

    Raises:
        ValueError: with a sentence for the person who typed it.
    """
    letters = text.replace("-", "").replace(" ", "").strip().upper()
    try:
        secret = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:
        secret = b""
    if len(secret) != 16:
        raise ValueError("that is no invitation: it has 26 letters and digits (2 to 7), in groups of four")
    return secret


def hash_invitation(secret: bytes) -> bytes:
    """Return the 32 bytes that the bank keeps of an invitation."""
    return hashlib.sha256(b"ecash/v1 invitation\0" + secret).digest()
