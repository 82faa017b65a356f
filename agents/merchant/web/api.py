"""The interface for the shop's own system: JSON over HTTP, under `/api`, with a key in each request."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from protocol.errors import PeerError

from ..order_json import order_json
from ..orders import Line, Sight
from . import bodies, openapi
from .problems import ApiError, Code, tell
from .site import Shop

PREFIX: Final = "/api"
_JSON: Final = "application/json"
_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 200
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_TIES: Final = 50  # orders of one millisecond that a page may begin between

_T = TypeVar("_T", bound=msgspec.Struct)
_Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class _Sku(msgspec.Struct):
    sku: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Kind(msgspec.Struct):
    """As much of a new order as tells the two kinds apart."""

    lines: list[_Sku]


class _Wanted(NamedTuple):
    bank: str
    currency: str
    lines: Sequence[Line]


def routes(shop: Shop) -> list[BaseRoute]:
    """Return the routes of the API: an application of its own, whose every answer is JSON."""
    api = _Api(shop)
    inner = Starlette(
        routes=[
            Route("/openapi.json", api.document, methods=["GET"]),
            Route("/health", api.health, methods=["GET"]),
            Route("/orders", api.keyed(api.orders), methods=["GET", "POST"]),
            Route("/orders/{id}", api.keyed(api.order), methods=["GET"]),
            Route("/orders/{id}/refunds", api.keyed(api.refund), methods=["POST"]),
        ],
        exception_handlers=dict.fromkeys((ApiError, PeerError, HTTPException, Exception), tell),
    )
    inner.router.redirect_slashes = False
    return [Mount(PREFIX, inner)]


class _Api:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._desk = shop.agent.desk

    def keyed(self, handler: _Handler) -> _Handler:
        """Return an endpoint that serves only who has the key, and only when the shop is open."""
        key = self._shop.keys.api.encode()

        async def endpoint(request: Request) -> Response:
            sent = request.headers.getlist("authorization")
            scheme, _, shown = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
            if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), key):
                raise ApiError(Code.UNAUTHORIZED, "Send the header `Authorization: Bearer sk_…`.")
            if not self._shop.agent.ready.is_set():
                raise ApiError(Code.NOT_READY, "It waits for a bank; try again in a moment.")
            return await handler(request)

        return endpoint

    async def document(self, request: Request) -> Response:
        """Return what this API is, for programs."""
        return _answer(openapi.document(self._base(request)))

    async def health(self, request: Request) -> Response:
        """Return whether orders are taken."""
        is_open = self._shop.agent.ready.is_set()
        return _answer(bodies.Health(is_open, sorted(self._desk.banks)), 200 if is_open else 503)

    async def orders(self, request: Request) -> Response:
        """Place an order, or list them."""
        return await (self._place(request) if request.method == "POST" else self._recent(request))

    async def _place(self, request: Request) -> Response:
        body = await _body_of(request)
        try:
            from_catalogue = any(line.sku is not msgspec.UNSET for line in msgspec.json.decode(body, type=_Kind).lines)
        except _UNREADABLE:
            from_catalogue = False  # what is wrong is said below
        asked: bodies.NewOrder | bodies.NewCatalogueOrder
        if from_catalogue:
            asked = _decoded(body, bodies.NewCatalogueOrder)
            wanted = self._from_catalogue(asked)
        else:
            asked = _decoded(body, bodies.NewOrder)
            lines = [Line(one.text, one.price, one.quantity, one.goods, one.file) for one in asked.lines]
            wanted = _Wanted(asked.bank, self._currency(asked.bank, asked.currency), lines)
        sight, made_now = await self._shop.agent.orders.place(
            wanted.bank,
            wanted.currency,
            wanted.lines,
            reference=asked.reference,
            return_url=asked.return_url,
            idempotency_key=_idempotency_key(request),
        )
        headers = {"Location": f"{PREFIX}/orders/{sight.order.id}"}
        return _answer(self._shown(request, sight), 201 if made_now else 200, headers)

    def _from_catalogue(self, asked: bodies.NewCatalogueOrder) -> _Wanted:
        """Price the lines by the catalogue.

        Raises:
            ApiError: `UNKNOWN_ITEM`, or `WRONG_CURRENCY` if the items have not one price in the order's currency.
        """
        chosen = [(self._desk.catalog.get(line.sku), line) for line in asked.lines]
        currency = asked.currency
        lines = []
        for stocked, line in chosen:
            if stocked is None:
                raise ApiError(Code.UNKNOWN_ITEM, f"The catalogue has no {line.sku}.")
            currency = currency or stocked.item.currency
            if stocked.item.currency != currency:
                raise ApiError(Code.WRONG_CURRENCY, f"{line.sku} is sold for {stocked.item.currency}, not {currency}.")
            lines.append(Line(stocked.item.title, stocked.item.price, line.quantity, stocked.text, stocked.file))
        return _Wanted(asked.bank, self._currency(asked.bank, currency), lines)

    def _currency(self, bank: str, currency: str) -> str:
        """Return the currency that was named, or the only one; the shop must be paid in it."""
        trusts = self._desk.banks
        known = {trust.certificate.currency for trust in trusts.values()}
        if not currency and bank in trusts:
            return trusts[bank].certificate.currency
        if not currency and len(known) == 1:
            return next(iter(known))
        if currency not in known:
            raise ApiError(Code.WRONG_CURRENCY, f"Name one of these: {', '.join(sorted(known))}.")
        return currency

    async def order(self, request: Request) -> Response:
        """Return an order."""
        return _answer(self._shown(request, await self._found(request)))

    async def _recent(self, request: Request) -> Response:
        limit = _limit(request.query_params.get("limit", str(_DEFAULT_LIMIT)))
        before, last = request.query_params.get("before", ""), 0
        if before:
            last = (await self._found_as(before)).order.created_at
        # Orders of one millisecond are told apart by their ids, so the page begins anew with all of that millisecond.
        sights = await self._shop.agent.orders.recent(limit + 1 + (_TIES if before else 0), last + 1 if before else 0)
        ids = [sight.order.id for sight in sights]
        begin = ids.index(before) + 1 if before in ids else 0
        page = sights[begin : begin + limit]
        more = page[-1].order.id if len(sights) > begin + limit else ""
        return _answer({"orders": [self._shown(request, sight) for sight in page], "next": more})

    async def refund(self, request: Request) -> Response:
        """Grant a refund."""
        asked = _decoded(await _body_of(request), bodies.NewRefund)
        async with self._desk.step:  # so that two requests at once do not both find nothing granted
            sight = await self._found(request)
            granted, amount = sight.refundable.granted, sight.sale.amount
            if sight.stage != "accepted":
                raise ApiError(Code.NOT_PAID, "It can be refunded once it is accepted.")
            if asked.granted is not None and asked.granted != granted:
                raise ApiError(Code.CONFLICT, f"{granted} are granted so far, not {asked.granted}.")
            if granted >= amount:
                raise ApiError(Code.NOTHING_TO_REFUND, f"All {amount} are granted.")
            if asked.amount > amount - granted:
                raise ApiError(Code.TOO_MUCH, f"{amount - granted} of {amount} are left.")
            try:
                sight = await self._shop.agent.orders.grant(sight.order.id, asked.amount)
            except ValueError as error:  # a command of the shopkeeper's, in another process, was faster
                raise ApiError(Code.CONFLICT, str(error)) from error
        granted = sight.refundable.granted
        shown = {"granted": granted, "left": amount - granted, "order": self._shown(request, sight)}
        return _answer(shown, 201)

    async def _found(self, request: Request) -> Sight:
        return await self._found_as(request.path_params["id"])

    async def _found_as(self, order_id: str) -> Sight:
        sight = await self._shop.agent.orders.find(order_id)
        if sight is None:
            raise ApiError(Code.UNKNOWN_ORDER)
        return sight

    def _shown(self, request: Request, sight: Sight) -> dict[str, object]:
        return order_json(sight, self._base(request))

    def _base(self, request: Request) -> str:
        """Return where the shop's pages are: as the settings say, or as they were asked for."""
        return self._desk.settings.public_url or f"{request.url.scheme}://{request.url.netloc}"


def _answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, _JSON)


async def _body_of(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise ApiError(Code.UNSUPPORTED_MEDIA_TYPE, f"Send the header `Content-Type: {_JSON}`.")
    return await request.body()


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except _UNREADABLE as error:
        raise ApiError(Code.MALFORMED, str(error)) from error


def _idempotency_key(request: Request) -> str:
    keys = request.headers.getlist("idempotency-key")
    if len(keys) > 1 or any(not (key.isascii() and key.isprintable()) for key in keys):
        raise ApiError(Code.MALFORMED, "Send one Idempotency-Key, of printable characters.")
    return keys[0] if keys else ""


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 0 < int(text) <= _MAX_LIMIT):
        raise ApiError(Code.MALFORMED, f"limit is a number from 1 to {_MAX_LIMIT}.")
    return int(text)
