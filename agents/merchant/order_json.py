"""A web order as the shop's own system reads it, in the API and in webhooks."""

from datetime import UTC, datetime, timedelta

from protocol.merchant import sale
from protocol.messages import Receipt, Signed

from .offers import offered
from .sights import Sight

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def order_json(sight: Sight, public_url: str) -> dict[str, object]:
    """Return the order as JSON.

    Args:
        sight: the order.
        public_url: where the shop's pages are.

    Returns:
        `id`, `state` (see `Sight.stage`), `amount` and `refunded` (minor units), `currency`, `lines` (texts),
        `reference`, `page` (a URL), `link` (the payment link while the order can be paid, else ""), and the times
        `created_at`, `expires_at` and `paid_at` (None until it is accepted).
    """
    order, row = sight.order, sight.sale
    if isinstance(row.state, sale.New):
        raise KeyError(order.id)
    payreq = offered(row.state)
    return {
        "id": order.id,
        "state": sight.stage,
        "amount": row.amount,
        "currency": row.currency,
        "lines": list(payreq.order),
        "reference": order.reference,
        "created_at": iso(order.created_at),
        "expires_at": iso(payreq.expires),
        "page": f"{public_url.rstrip('/')}/orders/{order.id}",
        "link": sight.link,
        "refunded": sight.refundable.collected,
        "paid_at": iso(_paid_at(row.state)) if isinstance(row.state, sale.Sold) else None,
    }


def _paid_at(state: sale.Sold) -> int:
    return Receipt.decode(Signed.decode(state.receipt).statement).at


def iso(at: int) -> str:
    """Write a time (milliseconds since 1970) as ISO 8601 in UTC, such as 2023-11-14T22:13:20.000Z."""
    return (_EPOCH + timedelta(milliseconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
