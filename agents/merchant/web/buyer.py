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
    def of(cls, request: Request) -> Self | None:
        """Return the browser that asks, if it has ordered here before."""
        secret = request.cookies.get(COOKIE, "")
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
        """Have the browser keep its secret for 90 days from now."""
        # `lax`, so that a shop system's own page can send the buyer on to the order with it.
        response.set_cookie(COOKIE, self.secret, _LIFE_S, httponly=True, samesite="lax", secure=secure)
