"""The operator's site: its pages behind the gate, and the guard before them."""

from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...home import HomeError
from ...web.gate import Gate, Words
from ...web.guard import Guard
from ...web.listen import Listen
from ...web.pages import Pages, Site
from ...web.sessions import Session, Sessions
from ...world import Clock, Entropy
from ..home import settings_of
from ..store import Books, BooksError
from . import accounts, audit, front, keys, payouts
from .auditor import Auditor
from .health import Ask
from .key import is_operator
from .office import Counted, Office

_NAV: Final = (
    ("/", "Overview"),
    ("/accounts", "Accounts"),
    ("/payouts", "Payouts"),
    ("/keys", "Keys"),
    ("/commission", "Commission"),
)
_WORDS: Final = Words(
    "The bank’s pages",
    "The operator’s key",
    "The command that serves these pages, ecash bank web, has printed it: 26 letters and digits.",
    "/enter",
)


def bank_site(
    home: Path, books: Books, listen: Listen, clock: Clock, entropy: Entropy, ask: Ask
) -> tuple[Starlette, Guard, Auditor]:
    """Make the site of the bank in this home.

    Returns:
        The site, the same behind its guard, and what audits the books for it, to be closed in the end.
    """
    settings = settings_of(home)

    def site(session: Session | None) -> Site:
        return Site("bank", f"Bank {settings.name}", _NAV if session else (), leave=("/enter/leave", "Log out"))

    async def check(typed: str) -> str:
        if is_operator(home, typed):
            return ""
        return "That is not the key. The command ecash bank web prints it when it starts, or a new one with --new-key."

    sessions = Sessions(clock, entropy, "ecash-bank")
    pages = Pages(Path(__file__).parent / "templates", site, sessions)
    gate = Gate(pages, sessions, check, _WORDS)
    auditor = Auditor(home, clock)
    office = Office(home, settings, books, Counted(books, clock), pages, gate, auditor, clock, entropy, ask)

    async def unavailable(request: Request, error: Exception) -> Response:
        return pages.problem(request, 503, "That cannot be done now", f"{error}.")

    app = Starlette(
        routes=[
            *gate.routes(),
            *(route for part in (front, audit, accounts, payouts, keys) for route in part.routes(office)),
            pages.static(),
        ],
        exception_handlers={
            HTTPException: pages.http_problem,
            BooksError: unavailable,
            HomeError: unavailable,
        },
    )
    return app, Guard(app, listen.hosts("bank")), auditor
