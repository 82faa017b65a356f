"""The payment link: a merchant's payment request as an address that a browser hands to the wallet.

`web+ecash:pay/…` is one word (see `text`), in lower case: the HTML standard lets a page handle addresses whose scheme
begins with `web+`. Who has the link sees the order and may pay it. It is not trusted: a wallet pays only what a
merchant has signed whom the wallet's own bank has certified.
"""

from typing import Annotated, Final, Self

import msgspec

from .codec import Bytes32, Message, Name
from .errors import PeerError
from .messages import Payreq, Signed
from .refusals import Refusal
from .text import read_word, write_word
from .token import Broker

MAX_LINK: Final = 12 * 1024
"""No link is longer, in characters: servers of HTTP usually read 16 KiB of address and header fields."""
MAX_PAYREQ: Final = 7_400
"""The most bytes of a `Signed` `Payreq` in a link; with every other field at its longest it still has a text."""

_SCHEME: Final = "WEB+ECASH:PAY/"
_WITH_SLASHES: Final = "WEB+ECASH://PAY/"
_LINK_VERSION: Final = 1


class PaymentLink(Message, frozen=True):
    """A merchant asks to be paid. Nothing in it is verified but its form.

    `fingerprint` is SHA-256 over the bank's identity key, `broker` where bank and merchant are reached.
    """

    version: int
    merchant: Name
    bank: Name
    fingerprint: Bytes32
    broker: Broker
    payreq: Annotated[bytes, msgspec.Meta(max_length=MAX_PAYREQ)]

    @classmethod
    def of(cls, merchant: str, bank: str, fingerprint: bytes, broker: str, payreq: bytes) -> Self:
        """Return a link to a payment request.

        Args:
            merchant: its name on the topics.
            bank: the bank's name.
            fingerprint: 32 bytes.
            broker: the public address, `mqtt://host:port`.
            payreq: an encoded `Signed` `Payreq`.

        Raises:
            PeerError: `MALFORMED`, if one of them is out of bounds, such as an order too long for a link.
        """
        return cls._read(cls(_LINK_VERSION, merchant, bank, fingerprint, broker, payreq).encode())

    @property
    def unverified(self) -> Payreq:
        """The payment request as it stands in the link, whoever wrote it: to be shown, never to be paid."""
        return Payreq.decode(Signed.decode(self.payreq).statement)

    def __str__(self) -> str:
        return write_word(_SCHEME, self).lower()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a link in any case, with white space around it, or with two slashes behind the scheme.

        Raises:
            PeerError: `MALFORMED`, or `UNKNOWN_VERSION`.
        """
        if len(text) > MAX_LINK:
            raise PeerError(Refusal.MALFORMED, f"the link is longer than {MAX_LINK} characters")
        return cls._read(read_word(text.strip(), _SCHEME, _WITH_SLASHES))

    @classmethod
    def _read(cls, data: bytes) -> Self:
        link = cls.decode(data)
        if link.version != _LINK_VERSION:
            raise PeerError(Refusal.UNKNOWN_VERSION, f"a payment link of version {link.version}")
        Payreq.decode(Signed.decode(link.payreq).statement)
        return link


def is_payment_link(text: str) -> bool:
    """Tell whether a text is meant as a payment link; `PaymentLink.parse` tells whether it is one."""
    return text.strip().upper().startswith("WEB+ECASH:")
