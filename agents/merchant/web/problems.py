"""What the API answers when something is wrong: problem details (RFC 9457) with a small set of stable codes."""

from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from protocol.errors import PeerError
from protocol.refusals import Refusal

from ...web.guard import MAX_BODY

MEDIA_TYPE: Final = "application/problem+json"


class Code(StrEnum):
    """What is wrong, for programs. The codes are stable; the sentences beside them are not."""

    UNAUTHORIZED = "unauthorized"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_ITEM = "unknown_item"
    WRONG_CURRENCY = "wrong_currency"
    WRONG_BANK = "wrong_bank"
    CONFLICT = "conflict"
    NOT_PAID = "not_paid"
    NOTHING_TO_REFUND = "nothing_to_refund"
    TOO_MUCH = "too_much"
    NOT_READY = "not_ready"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INTERNAL = "internal"


class _Meaning(NamedTuple):
    status: int
    title: str


TABLE: Final = {
    Code.UNAUTHORIZED: _Meaning(401, "The key of the API is missing or wrong."),
    Code.MALFORMED: _Meaning(400, "The request cannot be read."),
    Code.TOO_LARGE: _Meaning(413, "The request is too large."),
    Code.UNSUPPORTED_MEDIA_TYPE: _Meaning(415, "The body is not said to be JSON."),
    Code.UNKNOWN_ORDER: _Meaning(404, "There is no such order."),
    Code.UNKNOWN_ITEM: _Meaning(422, "The shop has no such item or file."),
    Code.WRONG_CURRENCY: _Meaning(422, "The shop is not paid in this currency."),
    Code.WRONG_BANK: _Meaning(422, "The shop takes no coins of this bank."),
    Code.CONFLICT: _Meaning(409, "Something else was asked for before."),
    Code.NOT_PAID: _Meaning(409, "The order is not paid."),
    Code.NOTHING_TO_REFUND: _Meaning(409, "All of the order is refunded already."),
    Code.TOO_MUCH: _Meaning(422, "That is more than is left of what was paid."),
    Code.NOT_READY: _Meaning(503, "The shop is not open yet."),
    Code.NOT_FOUND: _Meaning(404, "There is nothing at this address."),
    Code.METHOD_NOT_ALLOWED: _Meaning(405, "That cannot be done at this address."),
    Code.INTERNAL: _Meaning(500, "The shop has failed; its log says more."),
}
_OF_STATUS: Final = {
    400: Code.MALFORMED,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}
_DETAILS: Final = {413: f"At most {MAX_BODY} bytes are taken."}
_OF_REFUSAL: Final = {
    Refusal.MALFORMED: Code.MALFORMED,
    Refusal.UNKNOWN_ITEM: Code.UNKNOWN_ITEM,
    Refusal.WRONG_BANK: Code.WRONG_BANK,
    Refusal.WRONG_CURRENCY: Code.WRONG_CURRENCY,
    Refusal.REQUEST_ID_REUSED: Code.CONFLICT,
}


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a request was not served (RFC 9457)."""

    type: Annotated[str, msgspec.Meta(description="Always `about:blank`: `code` tells one kind from another.")]
    title: Annotated[str, msgspec.Meta(description="What the code means, in a sentence.")]
    status: Annotated[int, msgspec.Meta(description="The HTTP status.", ge=400, le=599)]
    detail: Annotated[str, msgspec.Meta(description="What was wrong this time; empty if there is no more to say.")]
    code: Annotated[Code, msgspec.Meta(description="What was wrong, for programs.")]


class ApiError(Exception):
    """A request is not served, for this reason.

    Args:
        code: for programs.
        detail: for the person who writes them.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def problem(code: Code, detail: str = "") -> Response:
    """Return the answer for a code."""
    meaning = TABLE[code]
    body = Problem("about:blank", meaning.title, meaning.status, detail, code)
    headers = {"WWW-Authenticate": 'Bearer realm="the shop"'} if code is Code.UNAUTHORIZED else {}
    return Response(msgspec.json.encode(body), meaning.status, headers, MEDIA_TYPE)


async def tell(_request: Request, error: Exception) -> Response:
    """Return the answer for what a handler, or the routing before it, has raised."""
    match error:
        case ApiError(code=code, detail=detail):
            return problem(code, detail)
        case PeerError(refusal=refusal, detail=detail):
            return problem(_OF_REFUSAL.get(refusal, Code.MALFORMED), detail)
        case HTTPException(status_code=status):
            told = problem(_OF_STATUS.get(status, Code.MALFORMED), _DETAILS.get(status, ""))
            told.headers.update(error.headers or {})
            return told
        case _:
            return problem(Code.INTERNAL)
