"""What all pages of the operator share."""

import asyncio
from pathlib import Path
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from protocol.keyset import Keyset, fingerprint, read_keyset

from ...address import BankAddress
from ...web.gate import Gate, Handler
from ...web.pages import Pages
from ...world import Clock, Entropy
from ..home import Settings
from ..store import Books, Business
from .auditor import Auditor
from .health import Ask

_MOST_DIGITS: Final = 15
PATIENCE: Final = 20
"""All coins are counted again no sooner than after so many times what the last count took."""


class Counted:
    """The business as it was counted last; counted again when the books have changed, and not all the time."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: Business | None = None
        self._due = 0

    async def business(self) -> Business:
        """Return the business."""
        async with self._lock:
            last = self._last
            if last is None or self._clock.now() >= self._due:
                began = self._clock.now()
                if last is None or last.journal != await self._books.last_entry():
                    last = self._last = await self._books.business()
                    took = self._clock.now() - began
                    self._due = self._clock.now() + PATIENCE * took
            return last


class Office(NamedTuple):
    """The bank as its operator's pages see it."""

    home: Path
    settings: Settings
    books: Books
    counted: Counted
    pages: Pages
    gate: Gate
    auditor: Auditor
    clock: Clock
    entropy: Entropy
    ask: Ask

    def get(self, path: str, handler: Handler) -> BaseRoute:
        """Return the route of a page."""
        return Route(path, self.gate.behind(handler), methods=["GET"])

    def post(self, path: str, handler: Handler) -> BaseRoute:
        """Return the route of a form."""
        return Route(path, self.gate.behind(handler), methods=["POST"])

    async def keysets(self) -> list[Keyset]:
        """Return all keysets that were ever announced, the newest last."""
        return [read_keyset(data) for data in await self.books.keysets()]

    async def address(self) -> BankAddress:
        """Return the bank's address, for its customers."""
        identity = (await self.keysets())[-1].identity
        return BankAddress(self.settings.name, self.settings.customers_broker, fingerprint(identity))


def number_in(request: Request) -> int:
    """Return the number that a path ends with.

    Raises:
        HTTPException: 404 if it is none.
    """
    text = request.path_params["number"]
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise HTTPException(404, "There is nothing of this number.")
    return int(text)


def denominations_of(keysets: list[Keyset]) -> dict[bytes, tuple[int, str]]:
    """Return value and currency of each denomination ever announced, by its id."""
    return {d.id: (d.value, d.currency) for keyset in keysets for d in keyset.denominations}
