"""The shop's site: which pages there are, and who may ask for them."""

from pathlib import Path
from typing import Final, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from ...web.guard import Guard
from ...web.listen import Listen
from ...web.pages import Pages, Site
from ...web.sessions import Session
from ...world import Clock, Entropy
from ..agent import MerchantAgent
from ..desk import Desk
from ..home import WebKeys, web_keys
from .address import names_of

TEMPLATES: Final = Path(__file__).parent / "templates"
_BUYER: Final = (("/", "Catalogue"), ("/about", "About e-cash"))
_KEEPER: Final = (("/office", "Sales"), ("/office/payout", "Payout"), ("/office/webhook", "Webhook"), ("/", "Shop"))


class Shop(NamedTuple):
    """What all pages of the shop share; `secure` says that buyers reach it by https alone."""

    agent: MerchantAgent
    pages: Pages
    home: Path
    keys: WebKeys
    clock: Clock
    entropy: Entropy
    secure: bool


def _site(desk: Desk, session: Session | None) -> Site:
    return Site(
        "shop", title_of(desk), _KEEPER if session else _BUYER, leave=("/office/enter/leave", "Close the office")
    )


def shop_site(
    agent: MerchantAgent, home: Path, clock: Clock, entropy: Entropy, listen: Listen, public_url: str
) -> tuple[Starlette, Guard]:
    """Return the site of a shop, and the same behind its guard; it is to be served at `listen`, once the shop is ready.

    Buyers find it at `public_url`; without one it answers to this machine's own names alone.

    Raises:
        HomeError, ValueError: as `names_of`.
    """
    from . import api, catalog, office, order  # noqa: PLC0415 - they are made of what stands here

    names, desk = names_of(listen, public_url), agent.desk
    pages = Pages(TEMPLATES, lambda session: _site(desk, session))
    keys, secure = web_keys(home, entropy), names.url.startswith("https:")
    shop = Shop(agent, pages, home, keys, clock, entropy, secure)
    routes: list[BaseRoute] = [pages.static()]
    for module in (catalog, order, office, api):
        routes += module.routes(shop)
    app = Starlette(routes=routes, exception_handlers={HTTPException: pages.http_problem})
    return app, Guard(app, names.hosts, names.origins, keyed=("/api/",))


def title_of(desk: Desk) -> str:
    """Return what the shop is called: the title that a bank certifies, or its own name."""
    titles = (trust.certificate.name for trust in desk.banks.values())
    return next(titles, desk.settings.name)
