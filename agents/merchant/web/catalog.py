"""What the shop sells, and the form that orders it (step 1); the merchant begins the sale (step 2)."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from protocol.errors import PeerError
from protocol.messages import OrderLine
from protocol.refusals import Refusal

from ...web.forms import Form, form_of
from ...web.gate import SEE_OTHER
from ..desk import Desk
from ..home import Stocked
from .buyer import Buyer
from .crowd import Crowded, admit
from .site import Shop, title_of

QUANTITY: Final = "quantity-"
"""How the name of an article's quantity field begins; its sku follows."""
_MAX_QUANTITY: Final = 10_000
_MAX_LINES: Final = 50
_NOT_SOLD: Final = "An article that you chose is not sold any more. Nothing was ordered: choose again."
_NO_COINS: Final = "The shop takes no coins of this bank. Nothing was ordered: choose another bank."


class Group(NamedTuple):
    """What is sold for one currency, by sku, and the banks whose coins can pay for it."""

    currency: str
    banks: Sequence[str]
    articles: Sequence[Stocked]

    @property
    def options(self) -> Sequence[tuple[str, str]]:
        """What the buyer chooses the bank from."""
        return [(bank, bank) for bank in self.banks]


class WrongOrder(ValueError):
    """What was chosen cannot be ordered; the text is a sentence for the buyer."""


def routes(shop: Shop) -> list[BaseRoute]:
    """Return the routes of the catalogue, of the form in it, and of what e-cash is."""

    async def catalogue(request: Request) -> Response:
        return _page(shop, request)

    async def order(request: Request) -> Response:
        form = await form_of(request)
        try:
            return await ordered(shop, request, form.get("bank", ""), _wanted(form, shop.agent.desk.catalog))
        except WrongOrder as error:
            return _page(shop, request, 400, str(error), form)

    async def about(request: Request) -> Response:
        return shop.pages.show(request, "shop_about.html", title="What e-cash is")

    return [
        Route("/", catalogue, methods=["GET"]),
        Route("/orders", order, methods=["POST"]),
        Route("/about", about, methods=["GET"]),
    ]


async def ordered(shop: Shop, request: Request, bank: str, wanted: Sequence[OrderLine]) -> Response:
    """Begin the sale of what a browser wants, and send it to the page of its order.

    Args:
        shop: the shop.
        request: the browser's.
        bank: whose coins it is to be paid with; "" for the only bank of its currency.
        wanted: what, and how many of it.

    Raises:
        WrongOrder: if that cannot be ordered.
    """
    buyer = Buyer.of(request, secure=shop.secure) or Buyer.new(shop.entropy)
    admitted = partial(admit, shop.agent.desk, buyer.hashed)
    try:
        sight = await shop.agent.orders.choose(bank, wanted, buyer.hashed, admitted)
    except Crowded as error:
        return shop.pages.problem(request, 429, "Too many open orders", str(error))
    except PeerError as error:
        raise WrongOrder(_sentence(error)) from error
    response = RedirectResponse(f"/orders/{sight.order.id}", SEE_OTHER)
    buyer.remember(response, secure=shop.secure)
    return response


def _sentence(error: PeerError) -> str:
    match error.refusal:
        case Refusal.UNKNOWN_ITEM:
            return _NOT_SOLD
        case Refusal.WRONG_BANK | Refusal.WRONG_CURRENCY:
            return _NO_COINS
        case _:
            return f"Nothing was ordered: {error.detail}."


def _wanted(form: Form, catalog: dict[str, Stocked]) -> list[OrderLine]:
    """Return what a form asks for: one article by its own button, or all that have a quantity.

    Raises:
        WrongOrder: if it asks for nothing, for what is not sold, or for impossible quantities.
    """
    bought = form.get("buy", "")
    if bought:
        typed = {bought: form.get(QUANTITY + bought, "")}
        if typed[bought].strip("0") == "":
            typed[bought] = "1"
    else:
        typed = {name.removeprefix(QUANTITY): text for name, text in form.items() if name.startswith(QUANTITY)}
    lines = [OrderLine(sku, _quantity(sku, text, catalog)) for sku, text in typed.items() if text.strip("0")]
    if not lines:
        raise WrongOrder("Nothing was ordered: write how many you want beside an article.")
    if len(lines) > _MAX_LINES:
        raise WrongOrder(f"Nothing was ordered: one order takes up to {_MAX_LINES} different articles.")
    return lines


def _quantity(sku: str, text: str, catalog: dict[str, Stocked]) -> int:
    if sku not in catalog:
        raise WrongOrder(_NOT_SOLD)
    if text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_QUANTITY)) and int(text) <= _MAX_QUANTITY:
        return int(text)
    title = catalog[sku].item.title
    raise WrongOrder(f"Nothing was ordered: “{text[:20]}” of “{title}” cannot be had; write a number from 1 to 10,000.")


def _page(shop: Shop, request: Request, status: int = 200, wrong: str = "", form: Form | None = None) -> Response:
    desk = shop.agent.desk
    shown: dict[str, Any] = {
        "title": "That cannot be ordered" if wrong else "Catalogue",
        "heading": title_of(desk),
        "groups": groups_of(desk),
        "certified": [(trust.certificate.name, bank) for bank, trust in sorted(desk.banks.items())],
        "prefix": QUANTITY,
        "form": form or {},
        "wrong": wrong,
    }
    return shop.pages.show(request, "shop_catalog.html", status=status, **shown)


def groups_of(desk: Desk) -> list[Group]:
    """Return what can be paid for, by currency, in the order in which the catalogue has it."""
    banks: dict[str, list[str]] = {}
    for bank, trust in sorted(desk.banks.items()):
        banks.setdefault(trust.certificate.currency, []).append(bank)
    articles: dict[str, list[Stocked]] = {}
    for stocked in desk.catalog.values():
        articles.setdefault(stocked.item.currency, []).append(stocked)
    return [Group(currency, banks[currency], sold) for currency, sold in articles.items() if currency in banks]
