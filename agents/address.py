"""Where a bank is and who it is: `ecash://bank@host:port#fingerprint`.

With TLS it begins with `ecash+tls`, over websockets with `ecash+ws`, over both with `ecash+wss`.
"""

import re
from typing import Final, NamedTuple, Self

from broker.address import BrokerUrl
from protocol.topics import check_name

_FORM: Final = re.compile(
    r"ecash(?P<way>\+tls|\+ws|\+wss)?://(?P<bank>[a-z0-9-]{1,32})@(?P<broker>[^#@?]+)#(?P<fingerprint>[0-9a-f]{64})"
)
_SCHEMES: Final = {None: "mqtt", "+tls": "mqtts", "+ws": "ws", "+wss": "wss"}
_WAYS: Final = {scheme: way or "" for way, scheme in _SCHEMES.items()}


class BankAddress(NamedTuple):
    """A bank's name, the broker it is reached at, and the fingerprint of its identity key (64 hex digits).

    Who has the address needs to trust nobody on the way: the fingerprint pins the bank's key.
    """

    bank: str
    broker: BrokerUrl
    fingerprint: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            ValueError: with a sentence that says what an address looks like.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no bank's address; one looks like ecash://bank@host:1883#<64 hex digits>")
        check_name(found["bank"])
        broker = BrokerUrl.parse(f"{_SCHEMES[found['way']]}://{found['broker']}")
        return cls(found["bank"], broker, found["fingerprint"])

    def __str__(self) -> str:
        scheme, host = self.broker.public.split("://")
        return f"ecash{_WAYS[scheme]}://{self.bank}@{host}#{self.fingerprint}"
