"""The address of a broker, as people write it: `mqtt://user:password@host:port`."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

PLAIN_PORT: Final = 1883
TLS_PORT: Final = 8883
CERTIFICATE_PORT: Final = 8884
WEBSOCKET_PORT: Final = 8083
SECURE_WEBSOCKET_PORT: Final = 8084
WEBSOCKET_PATH: Final = "/mqtt"

_PORTS: Final = {
    "mqtt": PLAIN_PORT,
    "mqtts": TLS_PORT,
    "ws": WEBSOCKET_PORT,
    "wss": SECURE_WEBSOCKET_PORT,
}
_ACCEPTED: Final = (
    "a broker's address is mqtt://[user:password@]host[:port]; mqtts:// for TLS, ws:// and wss:// for websockets; "
    "with TLS, ?ca=FILE and &cert=FILE may follow, as absolute paths"
)


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker is, how it is known, and the log-in there.

    `str()` gives the whole address, with the password; `public` is what may be shown.

    Attributes:
        host: a name or an IP address.
        port: 1883, 8883 with TLS, 8083 over websockets, 8084 over both, unless said otherwise.
        user: the log-in's name.
        password: the log-in's password.
        tls: the connection is encrypted, and the broker proves that it is `host`.
        websocket: MQTT travels inside a websocket.
        ca: with TLS, a PEM file of the authorities that are trusted, instead of the system's.
        cert: with TLS, a PEM file with a certificate and its private key: the log-in of a bank or merchant.
    """

    host: str
    port: int = PLAIN_PORT
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    websocket: bool = False
    ca: Path | None = None
    cert: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; user, password and files may be percent-encoded.

        Raises:
            ValueError: it is not one; the message says what is accepted and does not repeat the text, since it
                may hold a password.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
            files = _files(parts)
        except ValueError as error:
            raise ValueError(_ACCEPTED) from error
        if parts.scheme not in _PORTS or not parts.hostname or port == 0 or _has_more(parts):
            raise ValueError(_ACCEPTED)
        if (parts.password is not None and not parts.username) or any(c.isspace() for c in text):
            raise ValueError(_ACCEPTED)
        return cls(
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            tls=_encrypts(parts.scheme),
            websocket=parts.scheme.startswith("ws"),
            ca=files.get("ca"),
            cert=files.get("cert"),
        )

    @property
    def scheme(self) -> str:
        """How the broker is spoken to: mqtt, mqtts, ws or wss."""
        return ("ws" if self.websocket else "mqtt") + ("s" if self.tls else "")

    @property
    def public(self) -> str:
        """The address without the log-in and this machine's files."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def anonymous(self) -> Self:
        """The same broker, known in the same way, without the log-in."""
        return replace(self, user=None, password=None, cert=None)

    def __str__(self) -> str:
        scheme, rest = self.public.split("//")
        user = "" if self.user is None else quote(self.user, safe="")
        secret = "" if self.password is None else ":" + quote(self.password, safe="")
        files = {"ca": self.ca, "cert": self.cert}
        query = "&".join(f"{name}={quote(str(path))}" for name, path in files.items() if path)
        return f"{scheme}//{user}{secret}{'@' if user else ''}{rest}{'?' if query else ''}{query}"


def _encrypts(scheme: str) -> bool:
    return scheme in {"mqtts", "wss"}


def _files(parts: SplitResult) -> dict[str, Path]:
    """Read what follows the question mark; raises ValueError if it is anything but absolute paths of our files."""
    if not parts.query:
        return {}
    pairs = parse_qsl(parts.query.replace("+", "%2B"), strict_parsing=True, keep_blank_values=True, max_num_fields=2)
    files = {name: Path(value) for name, value in pairs}
    if len(files) < len(pairs) or not files.keys() <= {"ca", "cert"} or not _encrypts(parts.scheme):
        raise ValueError(parts.scheme)
    if not all(path.is_absolute() and str(path).isprintable() for path in files.values()):
        raise ValueError(parts.scheme)
    return files


def _has_more(parts: SplitResult) -> bool:
    paths = {"", "/", WEBSOCKET_PATH} if parts.scheme.startswith("ws") else {"", "/"}
    return parts.path not in paths or bool(parts.fragment)
