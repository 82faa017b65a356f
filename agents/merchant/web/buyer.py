"""Whose order is whose: a cookie that tells one browser from another, and nothing about the person."""

import hashlib
from typing import Final, NamedTuple, Self

from starlette.requests import Request
from starlette.responses import Response

from ...world import Entropy

COOKIE: Final = "ecash-buyer"
_SECRET_BYTES: Final = 32
_LIFE_S: Final = 90 * 24 * 3600


class Buyer(NamedTuple):
    """A browser, known by 32 random bytes in hexadecimal digits. The shop keeps no more than their hash."""

    secret: str

    @classmethod
    def of(cls, request: Request, *, secure: bool) -> Self | None:
        """Return the browser that asks, if it has ordered here before; `secure` as for `remember`."""
        secret = request.cookies.get(cookie_of(secure=secure), "")
        plain = len(secret) == 2 * _SECRET_BYTES and not set(secret) - set("0123456789abcdef")
        return cls(secret) if plain else None

    @classmethod
    def new(cls, entropy: Entropy) -> Self:
        """Return a browser that was never here."""
        return cls(entropy.bytes(_SECRET_BYTES).hex())

    @property
    def hashed(self) -> bytes:
        """SHA-256 (32 bytes) of the secret: what is stored with an order."""
        return hashlib.sha256(self.secret.encode()).digest()

    def remember(self, response: Response, *, secure: bool) -> None:
        """Have the browser keep its secret for 90 days from now; `secure` says that the shop is reached by https."""
        # `lax`, so that a shop system's own page can send the buyer on to the order with it.
        name = cookie_of(secure=secure)
        response.set_cookie(name, self.secret, _LIFE_S, httponly=True, samesite="lax", secure=secure)


def cookie_of(*, secure: bool) -> str:
    """Return the cookie's name: by https one that no other host can set (RFC 6265bis, 4.1.3.2)."""
    return f"__Host-{COOKIE}" if secure else COOKIE
