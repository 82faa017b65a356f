"""Where a site listens, and under which names it answers."""

import socket
from ipaddress import ip_address
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

from ..home import HomeError

LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - what an operator may ask for, to be told apart


class Listen(NamedTuple):
    """An address to listen at; `host` is an IP address or a name of this machine."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`, or `:PORT` for this machine alone; an IPv6 address stands in brackets.

        Raises:
            ValueError: with a sentence for the person who typed it.
        """
        try:
            parts = urlsplit(f"//{text}")
            port = parts.port
        except ValueError:
            port = None
        if port is None or text.rpartition(":")[0] not in {parts.hostname or "", f"[{parts.hostname}]"}:
            raise ValueError(
                f"{text!r}: say where to listen as :8080 (this machine alone) or 0.0.0.0:8080 (everywhere)"
            )
        return cls(parts.hostname or LOOPBACK, port)

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it; a name other than `localhost` might be anybody's."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def everywhere(self) -> bool:
        """Whether other machines can reach it under any name."""
        return self.host in _EVERYWHERE

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def bind(self) -> socket.socket:
        """Return a listening socket; port 0 takes one that is free.

        Raises:
            HomeError: if the address is in use, or not this machine's.
        """
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family, backlog=128)
        except OSError as error:
            raise HomeError(f"cannot listen at {self}: {error.strerror or error}; choose another port") from error

    def hosts(self, name: str) -> frozenset[str]:
        """Return the values of the Host header that a site of this machine answers to.

        `name` is its own below `.localhost` (RFC 6761, 6.3), which browsers take for this machine, too: there its
        cookies are its own. On `localhost` every web server of this machine, whatever its port, gets them.
        """
        names = {f"{name}.localhost", "localhost", LOOPBACK, "[::1]", str(self).rpartition(":")[0]}
        return frozenset(f"{one}:{self.port}" for one in names) | (frozenset(names) if self.port == 80 else frozenset())


def origin_of(url: str) -> str:
    """Return the origin (RFC 6454) of an http or https URL, as browsers write it.

    Raises:
        ValueError: if it is none, with a sentence for the person who typed it.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no address of a web site, such as https://shop.example")
    return f"{parts.scheme}://{parts.netloc.lower()}"
