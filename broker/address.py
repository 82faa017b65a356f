"""The address of a broker, as people write it: `mqtt://user:password@host:port`."""

from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

PLAIN_PORT: Final = 1883
TLS_PORT: Final = 8883

_ACCEPTED: Final = "a broker's address is mqtt://[user:password@]host[:port], or mqtts:// for TLS"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker is, and the log-in there.

    `str()` gives the whole address, with the password; `public` is what may be shown.
    """

    host: str
    port: int = PLAIN_PORT
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; user and password may be percent-encoded.

        Raises:
            ValueError: it is not one; the message says what is accepted and does not repeat the text, since it
                may hold a password.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(_ACCEPTED) from error
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or port == 0 or _has_more(parts):
            raise ValueError(_ACCEPTED)
        if (parts.password is not None and not parts.username) or any(c.isspace() for c in text):
            raise ValueError(_ACCEPTED)
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port or (TLS_PORT if tls else PLAIN_PORT),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            tls=tls,
        )

    @property
    def public(self) -> str:
        """The address without the log-in."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def __str__(self) -> str:
        if self.user is None:
            return self.public
        scheme, rest = self.public.split("//")
        secret = "" if self.password is None else ":" + quote(self.password, safe="")
        return f"{scheme}//{quote(self.user, safe='')}{secret}@{rest}"


def _has_more(parts: SplitResult) -> bool:
    return parts.path not in {"", "/"} or bool(parts.query) or bool(parts.fragment)
