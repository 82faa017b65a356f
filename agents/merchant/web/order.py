"""The page of an order: how to pay (step 3), what becomes of the payment, and then the goods (step 9)."""

from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from protocol.merchant import sale
from protocol.messages import OrderLine, Payreq

from ...web.events import Update, stream
from ...web.pages import Next
from ...web.qr import drawn
from ..home import DOWNLOAD, Stocked, goods_folder, is_goods_file
from ..offers import offered
from ..orders import Sight
from ..urls import is_web_url
from .buyer import Buyer
from .catalog import WrongOrder, ordered
from .site import Shop, title_of

MAX_STREAMS: Final = 256
MAX_STREAMS_OF_BUYER: Final = 8
_LONGEST_LINE: Final = 120
_FINAL: Final = frozenset({"accepted", "expired"})
_CATALOGUE: Final = Next("/", "See what the shop sells")
_LABELS: Final = {
    "waiting": "Waiting for payment",
    "paid": "Paid, the bank is checking",
    "accepted": "Accepted",
    "declined": "Declined by the bank",
    "expired": "Expired",
}
_CHECK: Final = ("The bank checks the coins", "todo", "")
_ACCEPTED: Final = ("Accepted", "todo", "")
_GOODS: Final = ("Your goods", "todo", "")
_ORDERED: Final = ("Ordered", "done", "")
_PAID: Final = ("Paid", "done", "")
_STEPS: Final = {
    "waiting": (
        _ORDERED,
        ("Waiting for your payment", "now", "Open the link in your wallet and confirm it there."),
        _CHECK,
        _ACCEPTED,
        _GOODS,
    ),
    "paid": (
        _ORDERED,
        _PAID,
        ("Deposited: the bank is checking the coins", "now", "Most often that takes a moment. Do not pay again."),
        _ACCEPTED,
        _GOODS,
    ),
    "accepted": (
        _ORDERED,
        _PAID,
        ("Deposited, and checked by the bank", "done", ""),
        ("Accepted", "done", ""),
        ("Your goods", "done", "They are on this page."),
    ),
    "declined": (
        _ORDERED,
        ("The bank declined the coins", "failed", "Your wallet says why. The shop has got nothing."),
        ("Waiting for another payment", "now", ""),
        _ACCEPTED,
        _GOODS,
    ),
    "expired": (_ORDERED, ("Not paid in time", "failed", "Nothing was paid.")),
}


def routes(shop: Shop) -> list[BaseRoute]:
    """Return the routes of the orders' pages."""
    pages = _OrderPages(shop)
    return [
        Route("/orders/{id}", pages.show, methods=["GET"]),
        Route("/orders/{id}/events", pages.events, methods=["GET"]),
        Route("/orders/{id}/files/{number}", pages.download, methods=["GET"]),
        Route("/orders/{id}/again", pages.again, methods=["POST"]),
    ]


class _OrderPages:
    """The pages of a shop's orders. Each is for the browser that ordered, and for no other."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._streams: Counter[bytes] = Counter()

    async def show(self, request: Request) -> Response:
        """Show an order; the first browser that opens the page of an unclaimed one is its buyer from then on."""
        orders, buyer = self._shop.agent.orders, Buyer.of(request, secure=self._shop.secure)
        sight = await orders.find(request.path_params["id"])
        if sight is None:
            return self._unknown(request)
        if not sight.order.buyer and request.method == "GET":  # a HEAD is no buyer's browser
            buyer = buyer or Buyer.new(self._shop.entropy)
            await orders.claim(sight.order.id, buyer.hashed)
            sight = await orders.find(sight.order.id) or sight
        if buyer is None or sight.order.buyer != buyer.hashed:
            return self._foreign(request)
        response = await self._page(request, sight)
        buyer.remember(response, secure=self._shop.secure)
        return response

    async def events(self, request: Request) -> Response:
        """Send what becomes of an order, until it has ended."""
        sight = await self._own(request)
        if isinstance(sight, Response):
            return sight
        buyer = sight.order.buyer
        if self._streams.total() >= MAX_STREAMS or self._streams[buyer] >= MAX_STREAMS_OF_BUYER:
            return PlainTextResponse("Too many pages are watched at once: reload this one instead.\n", 503)
        self._streams[buyer] += 1  # at once: of many that ask in the same moment, no more get one
        return stream(request, self._updates(sight), partial(self._unwatched, buyer))

    def _unwatched(self, buyer: bytes) -> None:
        self._streams[buyer] -= 1
        self._streams += Counter()  # drops who watches nothing any more

    async def download(self, request: Request) -> Response:
        """Give a file out that was paid for."""
        sight = await self._own(request)
        if isinstance(sight, Response):
            return sight
        files = dict(zip(map(str, range(len(sight.order.files))), sight.order.files, strict=True))
        name, folder = files.get(request.path_params["number"], ""), goods_folder(self._shop.home)
        if sight.stage != "accepted" or not name:
            return self._shop.pages.problem(request, 404, "There is no such file", "This order has no such file (yet).")
        if not is_goods_file(folder, name):
            told = "The shop does not find the file that you have paid for. Tell the shop: the payment is recorded."
            return self._shop.pages.problem(request, 404, "The file is missing", told)
        await self._delivered(sight)
        return FileResponse(folder / name, media_type="application/octet-stream", filename=name)

    async def again(self, request: Request) -> Response:
        """Order the same once more."""
        sight = await self._own(request)
        if isinstance(sight, Response):
            return sight
        wanted = _same(sight, self._shop.agent.desk.catalog)
        try:
            if not wanted:
                raise WrongOrder("The catalogue has changed since: choose again.")
            return await ordered(self._shop, request, _offer(sight).bank, wanted)
        except WrongOrder as error:
            return self._shop.pages.problem(request, 409, "That cannot be ordered again", str(error), None, _CATALOGUE)

    async def _own(self, request: Request) -> Sight | Response:
        """Return the order if it belongs to the browser that asks, or else the page that says so."""
        sight = await self._shop.agent.orders.find(request.path_params["id"])
        buyer = Buyer.of(request, secure=self._shop.secure)
        if sight is None:
            return self._unknown(request)
        if buyer is None or sight.order.buyer != buyer.hashed:
            return self._foreign(request)
        return sight

    def _unknown(self, request: Request) -> Response:
        told = "The shop knows no such order. It forgets orders some time after they expired without a payment."
        return self._hidden(self._shop.pages.problem(request, 404, "There is no such order", told, None, _CATALOGUE))

    def _foreign(self, request: Request) -> Response:
        told = "Only the browser that ordered sees the order and its goods. Open this page there."
        heading = "This order belongs to another browser"
        return self._hidden(self._shop.pages.problem(request, 404, heading, told, None, _CATALOGUE))

    def _hidden(self, response: Response) -> Response:
        response.headers["X-Robots-Tag"] = "noindex, nofollow"
        return response

    async def _page(self, request: Request, sight: Sight) -> Response:
        if sight.stage == "accepted":
            await self._delivered(sight)
        shown = await self._shown(sight)
        return self._hidden(self._shop.pages.show(request, "shop_order.html", title=self._title(sight), **shown))

    async def _updates(self, sight: Sight) -> AsyncIterator[Update]:
        orders, order, pages = self._shop.agent.orders, sight.order, self._shop.pages
        with orders.watch(order.payment_id) as changes:
            async for _ in changes:
                seen = await orders.find(order.id)
                if seen is None:
                    return
                if seen.stage == "accepted":
                    await self._delivered(seen)
                shown = await self._shown(seen)
                parts = ("state", "panel", "steps")
                html = {part: pages.part(f"shop_order_{part}.html", session=None, **shown) for part in parts}
                title = f"{self._title(seen)} · {title_of(self._shop.agent.desk)}"
                yield Update(html, title, done=seen.stage in _FINAL)

    async def _delivered(self, sight: Sight) -> None:
        if not sight.order.delivered_at:
            await self._shop.agent.orders.delivered(sight.order.id)

    def _title(self, sight: Sight) -> str:
        return f"{_LABELS[sight.stage]} · Order {number_of(sight)}"

    async def _shown(self, sight: Sight) -> dict[str, Any]:
        """Return what the templates are filled in with; the goods are among it only once the bank has accepted."""
        offer, order = _offer(sight), sight.order
        accepted = sight.stage == "accepted"
        now = self._shop.clock.now()
        return {
            "id": order.id,
            "number": number_of(sight),
            "stage": sight.stage,
            "label": _LABELS[sight.stage],
            "steps": _STEPS[sight.stage],
            "lines": offer.order,
            "amount": sight.sale.amount,
            "currency": sight.sale.currency,
            "bank": offer.bank,
            "reference": order.reference,
            "created_at": order.created_at,
            "link": sight.link,
            "code": await drawn(sight.link) if sight.link else None,
            "seconds": max(0, offer.expires - now) // 1000,
            "goods": _goods(sight) if accepted else (),
            "files": order.files if accepted else (),
            "is_url": is_web_url,
            "refundable": sight.refundable,
            "return_url": order.return_url if is_web_url(order.return_url) else "",
            "again": bool(_same(sight, self._shop.agent.desk.catalog)),
        }


def number_of(sight: Sight) -> str:
    """Return the sale's number as the shop's lists show it."""
    return sight.order.payment_id.hex()[:8]


def _offer(sight: Sight) -> Payreq:
    if isinstance(sight.sale.state, sale.New):
        raise KeyError(sight.order.id)  # nothing is stored before it is offered
    return offered(sight.sale.state)


def _goods(sight: Sight) -> tuple[str, ...]:
    """Return the lines of what the buyer gets, but for the one that sends readers of the receipt to this page."""
    return tuple(line for line in sight.sale.goods.splitlines() if line != DOWNLOAD)


def _same(sight: Sight, catalog: dict[str, Stocked]) -> list[OrderLine]:
    """Return the same as was ordered, if it came from the catalogue, and that still has it; or else nothing."""
    if sight.order.reference or sight.order.return_url:
        return []  # the shop's own system would not know of it
    found = []
    for line in _offer(sight).order:
        quantity = line.partition(" × ")[0]
        skus = [
            sku
            for sku, one in catalog.items()
            if one.item.currency == sight.sale.currency and f"{quantity} × {one.item.title}"[:_LONGEST_LINE] == line
        ]
        if len(skus) != 1 or not (quantity.isascii() and quantity.isdigit()):
            return []
        found.append(OrderLine(skus[0], int(quantity)))
    return found
