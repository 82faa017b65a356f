"""Messages as one word of letters and digits: a scheme, then base32 (RFC 4648, 6) without padding.

In upper case a QR code stores such a word in its alphanumeric mode (ISO/IEC 18004), two characters in 11 bits.
"""

import base64
import binascii

from .codec import Message
from .errors import PeerError
from .refusals import Refusal


def write_word(scheme: str, message: Message) -> str:
    """Return a message as a word: the scheme and upper-case base32."""
    return scheme + _base32(message.encode())


def read_word(word: str, *schemes: str) -> bytes:
    """Return the bytes in a word that begins with one of these schemes (in upper case); the word is in any case.

    Raises:
        PeerError: `MALFORMED`. No two words of one scheme have the same bytes, but for their case.
    """
    upper = word.upper() if word.isascii() else ""
    digits = next((upper.removeprefix(scheme) for scheme in schemes if upper.startswith(scheme)), None)
    if digits is None:
        raise PeerError(Refusal.MALFORMED, f"the text does not begin with {schemes[0]}, or is not plain letters")
    try:
        data = base64.b32decode(digits + "=" * (-len(digits) % 8))
    except binascii.Error as error:
        raise PeerError(Refusal.MALFORMED, "the text is not base32: was it copied completely?") from error
    if _base32(data) != digits:
        raise PeerError(Refusal.MALFORMED, "the text has bits to spare: was it copied completely?")
    return data


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")
