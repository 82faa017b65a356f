"""The site of the wallet: its pages behind their gate, and what is the same on all of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...web.gate import SEE_OTHER, Gate, Handler, Visit, Words
from ...web.guard import Guard
from ...web.listen import Listen
from ...web.pages import Pages, Site
from ...web.sessions import Session, Sessions
from ...world import Clock, Entropy
from ..service import attend, connect
from ..transfer import Connect
from ..wallet import LinkMaker
from . import banks, history, payment, purse, recovery, setup, transfers
from .house import UNLOCK, House
from .vault import Vault

NAME: Final = "wallet"
"""The site's name below `.localhost`."""
_NAV: Final = (
    ("/", "Wallet"),
    ("/pay", "Pay"),
    ("/send", "Send"),
    ("/request", "Request"),
    ("/history", "History"),
    ("/banks", "Banks"),
    ("/recover", "Recover"),
)
_WORDS: Final = Words(
    "Unlock your wallet",
    "Passphrase",
    "This is your own wallet, on this machine: what you type stays here. The twelve words are not asked for.",
    UNLOCK,
)
_BEFORE_A_WALLET: Final = ("/begin", "/restore", "/static")
_PARTS: Final[tuple[Callable[[House], list[BaseRoute]], ...]] = (
    setup.routes,
    purse.routes,
    payment.routes,
    history.routes,
    transfers.routes,
    recovery.routes,
    banks.routes,
)


def wallet_site(
    home: Path,
    clock: Clock,
    entropy: Entropy,
    listen: Listen,
    link: LinkMaker | None = None,
    *,
    attend: Connect = attend,
    hard: bool = True,
) -> tuple[Starlette, Guard]:
    """Return the site of a wallet and the same behind its guard; the app's `state.vault` is to run beside it.

    Args:
        home: the wallet's folder; without a wallet in it, all ways lead to making one.
        clock: the world's time.
        entropy: the world's randomness.
        listen: where the site is served.
        link: makes presences at brokers; real ones, unless a test brings its own.
        attend: the same, of those who wait in an inbox for what is sent to them.
        hard: whether a passphrase is stretched at full cost; tests are in a hurry.
    """
    sessions = Sessions(clock, entropy, "ecash-wallet")
    vault = Vault(home, clock, entropy, lambda: sessions.any, link or connect, hard=hard)
    pages = Pages(Path(__file__).parent / "templates", _site, sessions)
    house = House(home, pages, Gate(pages, sessions, vault.unlock, _WORDS), sessions, vault, clock, entropy, attend)
    app = Starlette(
        routes=[
            pages.static(),
            Route("/lock", house.gate.behind(_lock(house)), methods=["POST"]),
            *house.gate.routes(),
            *(route for part in _PARTS for route in part(house)),
        ],
        exception_handlers={HTTPException: pages.http_problem},
        middleware=[Middleware(_WalletFirst, vault=vault)],
    )
    app.state.vault, app.state.stopping = vault, asyncio.Event()
    return app, Guard(app, listen.hosts(NAME))


def _site(session: Session | None) -> Site:
    return Site(NAME, "Your wallet", _NAV if session is not None else (), leave=("/lock", "Lock"))


def _lock(house: House) -> Handler:
    async def lock(visit: Visit) -> Response:
        house.sessions.end_all()
        house.vault.lock()
        return RedirectResponse(UNLOCK, SEE_OTHER)

    return lock


class _WalletFirst:
    """Leads everybody to the making of a wallet, as long as there is none."""

    def __init__(self, app: ASGIApp, vault: Vault) -> None:
        self._app = app
        self._vault = vault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if not self._vault.exists and not scope["path"].startswith(_BEFORE_A_WALLET):
            app = RedirectResponse("/begin", SEE_OTHER)
        await app(scope, receive, send)
