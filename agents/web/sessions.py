"""Sessions: who has shown the secret of a site, and the token that each of its forms must carry."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from ..world import Clock, Entropy

IDLE_MS: Final = 15 * 60_000
"""A session ends when nothing was asked for in it for so long."""
MAX_SESSIONS: Final = 64


class Flash(NamedTuple):
    """What the next page says once at its top."""

    kind: Literal["good", "bad", "info"]
    text: str


@dataclass
class Session:
    """A browser that has shown the secret; `csrf` is in each of its forms, `over` is set when it has left."""

    csrf: str
    seen_at: int
    flash: Flash | None = None
    over: bool = False


class Sessions:
    """The open sessions of a site. They live in memory: a restart ends them.

    Args:
        clock, entropy: the world.
        cookie: the cookie's name.
        secure: whether the site is reached by https only.
        idle_ms: how long a session lives without a request.
    """

    def __init__(
        self, clock: Clock, entropy: Entropy, cookie: str, *, secure: bool = False, idle_ms: int = IDLE_MS
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._cookie = cookie
        self._secure = secure
        self._idle_ms = idle_ms
        self._open: dict[bytes, Session] = {}

    def of(self, request: Request) -> Session | None:
        """Return the session of a request, if it has one that is not over."""
        self._forget_idle()
        session = self._open.get(_hashed(request.cookies.get(self._cookie, "")))
        if session is not None:
            session.seen_at = self._clock.now()
        return session

    def begin(self, response: Response) -> Session:
        """Open a session for the browser that gets this response."""
        self._forget_idle()
        while len(self._open) >= MAX_SESSIONS:
            self._close(min(self._open, key=lambda one: self._open[one].seen_at))
        secret = self._entropy.bytes(32).hex()
        session = Session(self._entropy.bytes(32).hex(), self._clock.now())
        self._open[_hashed(secret)] = session
        # Not `strict`: the link on a shop's page opens the wallet's, and must find it unlocked.
        response.set_cookie(self._cookie, secret, httponly=True, samesite="lax", secure=self._secure)
        return session

    def end(self, request: Request, response: Response) -> None:
        """End the session of a request."""
        self._close(_hashed(request.cookies.get(self._cookie, "")))
        response.delete_cookie(self._cookie, httponly=True, samesite="lax", secure=self._secure)

    def end_all(self) -> None:
        """End every session."""
        for key in list(self._open):
            self._close(key)

    @property
    def any(self) -> bool:
        """Whether a session is open."""
        self._forget_idle()
        return bool(self._open)

    def _forget_idle(self) -> None:
        oldest = self._clock.now() - self._idle_ms
        for key in [key for key, one in self._open.items() if one.seen_at <= oldest]:
            self._close(key)

    def _close(self, key: bytes) -> None:
        session = self._open.pop(key, None)
        if session is not None:
            session.over = True


def is_genuine(session: Session, token: str) -> bool:
    """Tell whether a form was made in this session."""
    return hmac.compare_digest(session.csrf.encode(), token.encode())


def _hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
