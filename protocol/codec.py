"""Strict, bounded MessagePack: every message has one encoding, and nothing else decodes.

Messages are arrays in the order of their fields, so the wire knows no maps. Sizes and lengths are bounds in the
types and are checked while decoding, before anything large is built. What decodes is encoded again and must give
the same bytes: longer forms, spare elements and look-alikes are refused by that one rule.
"""

from typing import Annotated, Final, Self, TypeVar

import msgspec

from .errors import PeerError
from .refusals import Refusal

MAX_MESSAGE: Final = 512 * 1024
"""No message is longer, in bytes; checked before decoding."""

Time = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""Milliseconds since 1970-01-01 UTC."""
Minor = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""An amount in minor units of its currency."""
AccountNumber = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Counter = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,32}\Z")]
"""The name of a bank or a merchant, a kind of request, or a merchant's name for an article."""
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
"""A line of text for people."""
MAX_TEXT: Final = 2000
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Bytes256 = Annotated[bytes, msgspec.Meta(min_length=256, max_length=256)]
Small = Annotated[bytes, msgspec.Meta(max_length=4096)]
Blob = Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE)]


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that travels or is signed: an array of its fields, in order."""

    def encode(self) -> bytes:
        """Return the only encoding of this message."""
        return _ENCODER.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the message that `data` encodes.

        Raises:
            PeerError: `MALFORMED`, for anything but the one encoding of a valid message of this type.
        """
        return _decode(data, cls)


_M = TypeVar("_M", bound=Message)


def _decode(data: bytes, kind: type[_M]) -> _M:
    if len(data) > MAX_MESSAGE:
        raise PeerError(Refusal.MALFORMED, f"{len(data)} bytes are more than {MAX_MESSAGE}")
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PeerError(Refusal.MALFORMED, f"not a {kind.__name__}: {error}") from error
    if _ENCODER.encode(message) != data:
        raise PeerError(Refusal.MALFORMED, f"not the canonical encoding of a {kind.__name__}")
    return message


_ENCODER: Final = msgspec.msgpack.Encoder()
