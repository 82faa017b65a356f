"""The OpenAPI 3.1 document of the API: made from the bodies that are really spoken, so that it says nothing else."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from . import bodies
from .problems import MEDIA_TYPE, TABLE, Code, Problem

_REF: Final = "#/components/schemas/{name}"
_SPOKEN: Final = (
    bodies.NewOrder,
    bodies.NewCatalogueOrder,
    bodies.Order,
    bodies.OrderList,
    bodies.NewRefund,
    bodies.Refund,
    bodies.Health,
    bodies.Event,
    Problem,
)
_ABOUT: Final = """\
Take payments in e-cash. Your system creates an order and sends the buyer to its page; the buyer pays there with a \
wallet, and your system is told by a webhook, or asks. Nobody learns who the buyer is.

Amounts are integers in minor units of their currency (cents). Every problem is told as RFC 9457 has it, with a `code` \
that does not change. The key stands in the shop's home; `ecash merchant web` prints it.
"""
_EVENTS: Final = {
    "order.paid": "The order is paid: the bank has accepted. Send the goods.",
    "order.declined": "The bank has refused a payment. The order can be paid again until it expires.",
    "order.expired": "Nobody has paid in time.",
    "order.refunded": "The buyer has collected a refund.",
}
_SIGNED: Final = """\
Signed as Standard Webhooks has it (https://www.standardwebhooks.com): `webhook-signature` holds, separated by spaces, \
signatures `v1,` + base64 of HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`; the key is what stands after \
`whsec_` in the secret, base64-decoded. Refuse what is not so signed, and what is older than five minutes. The same \
`webhook-id` may come more than once. Answer 2xx, or it comes again later.
"""
_Json = dict[str, Any]


def document(server: str) -> _Json:
    """Return the document.

    Args:
        server: where the shop's site is.
    """
    _, schemas = msgspec.json.schema_components(_SPOKEN, ref_template=_REF)
    return {
        "openapi": "3.1.1",
        "info": {"title": "E-cash for shops", "version": "1", "description": _ABOUT},
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "paths": _of_orders() | _for_everybody(),
        "webhooks": {kind: {"post": _webhook(kind, about)} for kind, about in _EVENTS.items()},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The key `sk_…`."}},
        },
    }


def _of_orders() -> _Json:
    placed = {**_shows(bodies.Order, "The order."), "headers": {"Location": _header("The order's address.")}}
    return {
        "/api/orders": {
            "post": _operation(
                "createOrder",
                "Create an order",
                {"201": placed, "200": {**placed, "description": "The order that was made with this key before."}},
                [
                    Code.MALFORMED,
                    Code.UNSUPPORTED_MEDIA_TYPE,
                    Code.UNKNOWN_ITEM,
                    Code.WRONG_CURRENCY,
                    Code.WRONG_BANK,
                    Code.CONFLICT,
                ],
                parameters=[_KEY_HEADER],
                requestBody=_takes([bodies.NewOrder, bodies.NewCatalogueOrder], _EXAMPLES),
            ),
            "get": _operation(
                "listOrders",
                "List orders, the newest first",
                {"200": _shows(bodies.OrderList, "A page of orders.")},
                [Code.MALFORMED, Code.UNKNOWN_ORDER],
                parameters=[_LIMIT, _BEFORE],
            ),
        },
        "/api/orders/{id}": {
            "parameters": [_ID],
            "get": _operation(
                "getOrder", "Look at an order", {"200": _shows(bodies.Order, "The order.")}, [Code.UNKNOWN_ORDER]
            ),
        },
        "/api/orders/{id}/refunds": {
            "parameters": [_ID],
            "post": _operation(
                "refundOrder",
                "Grant a refund",
                {"201": _shows(bodies.Refund, "It is granted.")},
                [
                    Code.MALFORMED,
                    Code.UNSUPPORTED_MEDIA_TYPE,
                    Code.UNKNOWN_ORDER,
                    Code.NOT_PAID,
                    Code.CONFLICT,
                    Code.NOTHING_TO_REFUND,
                    Code.TOO_MUCH,
                ],
                requestBody=_takes([bodies.NewRefund], {"part": {"value": {"amount": 500, "granted": 0}}}),
            ),
        },
    }


def _for_everybody() -> _Json:
    """Return what needs no key."""
    return {
        "/api/health": {
            "get": {
                "operationId": "getHealth",
                "summary": "Ask whether orders are taken",
                "security": [],
                "responses": {
                    "200": _shows(bodies.Health, "Orders are taken."),
                    "503": _shows(bodies.Health, "The shop waits for a bank."),
                },
            }
        },
        "/api/openapi.json": {
            "get": {
                "operationId": "getDocument",
                "summary": "Return this document",
                "security": [],
                "responses": {
                    "200": {
                        "description": "This document.",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    }
                },
            }
        },
    }


def _operation(name: str, summary: str, answers: _Json, codes: Sequence[Code], **more: Any) -> _Json:
    """Return an operation with its answers; those that all operations have are added."""
    if "requestBody" in more:
        codes = [*codes, Code.TOO_LARGE]
    codes = [Code.UNAUTHORIZED, Code.NOT_READY, Code.INTERNAL, *codes]
    return {"operationId": name, "summary": summary, **more, "responses": answers | _problems(codes)}


def _problems(codes: Sequence[Code]) -> _Json:
    """Return the answers of these codes, by HTTP status."""
    answers: _Json = {}
    for status in sorted({TABLE[code].status for code in codes}):
        meanings = [f"`{code}`: {TABLE[code].title}" for code in codes if TABLE[code].status == status]
        schema = {"$ref": _REF.format(name=Problem.__name__)}
        answers[str(status)] = {"description": "\n".join(meanings), "content": {MEDIA_TYPE: {"schema": schema}}}
    return answers


def _webhook(kind: str, about: str) -> _Json:
    name = kind.replace("order.", "order_")
    return {
        "operationId": f"on_{name}",
        "summary": about,
        "description": _SIGNED,
        "security": [],
        "parameters": [
            _parameter("webhook-id", "header", "The message's number, the same in every attempt."),
            _parameter("webhook-timestamp", "header", "Seconds since 1970, of this attempt.", pattern="^[0-9]+$"),
            _parameter("webhook-signature", "header", "Such as `v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=`."),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(bodies.Event)}}},
        "responses": {"2XX": {"description": "Taken; it does not come again."}},
    }


def _takes(kinds: Sequence[type[msgspec.Struct]], examples: _Json) -> _Json:
    schema = _ref(kinds[0]) if len(kinds) == 1 else {"oneOf": [_ref(kind) for kind in kinds]}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _shows(kind: type[msgspec.Struct], description: str) -> _Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(kind)}}}


def _ref(kind: type[msgspec.Struct]) -> _Json:
    return {"$ref": _REF.format(name=kind.__name__)}


def _header(description: str) -> _Json:
    return {"description": description, "schema": {"type": "string"}}


def _parameter(name: str, place: str, description: str, *, required: bool = True, **schema: Any) -> _Json:
    shape = {"type": "string"} | schema
    return {"name": name, "in": place, "description": description, "required": required, "schema": shape}


_ID: Final = _parameter("id", "path", "The order's number.", pattern="^[0-9a-f]{32}$")
_KEY_HEADER: Final = _parameter(
    "Idempotency-Key",
    "header",
    "A word of your own for this order. A request that is repeated with it makes no second order.",
    required=False,
    maxLength=255,
)
_LIMIT: Final = _parameter(
    "limit", "query", "How many at most.", required=False, type="integer", minimum=1, maximum=200, default=50
)
_BEFORE: Final = _parameter(
    "before", "query", "`next` of the page before.", required=False, pattern="^([0-9a-f]{32})?$"
)
_EXAMPLES: Final = {
    "your own goods": {
        "value": {
            "lines": [{"text": "A song to download", "price": 1234}],
            "reference": "cart-4711",
            "return_url": "https://shop.example/thanks",
        }
    },
    "from the catalogue": {"value": {"lines": [{"sku": "song", "quantity": 2}]}},
}
