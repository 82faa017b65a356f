"""What is said in the API and in webhooks: the JSON bodies, from which the OpenAPI document is made."""

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from protocol.money import MAX_AMOUNT

MAX_LINES: Final = 50
_NUMBER: Final = "9b2f6c1e0d4a48f7a3c5e8b1d2f40617"
_CREATED: Final = "2026-11-22T14:05:00.000Z"


def _note(description: str, example: object = None, **constraints: Any) -> msgspec.Meta:
    if example is not None:
        constraints["examples"] = [example]
    return msgspec.Meta(description=description, **constraints)


OrderId: TypeAlias = Annotated[str, _note("The order's number.", pattern="^[0-9a-f]{32}$", example=_NUMBER)]
Currency: TypeAlias = Annotated[
    str, _note("ISO 4217 code; empty for the shop's only one.", pattern="^([A-Z]{3})?$", example="USD")
]
Bank: TypeAlias = Annotated[
    str, _note("Whose coins it is paid with; empty for the only bank of the currency.", max_length=40)
]
Reference: TypeAlias = Annotated[
    str, _note("Your own number of the order; it comes back in every answer.", max_length=120, example="cart-4711")
]
ReturnUrl: TypeAlias = Annotated[
    str,
    _note(
        "Where the order's page sends the buyer afterwards (http or https); empty for nowhere.",
        max_length=500,
        example="https://shop.example/thanks",
    ),
]
Quantity: TypeAlias = Annotated[int, _note("How many.", ge=1, le=10_000)]
Money: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
Moment: TypeAlias = Annotated[
    str, _note("ISO 8601, UTC.", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", example=_CREATED)
]
State: TypeAlias = Literal["waiting", "paid", "accepted", "declined", "expired"]
Kind: TypeAlias = Literal["order.paid", "order.declined", "order.expired", "order.refunded"]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Line(_Body, frozen=True):
    """One line of an order, priced by your own system."""

    text: Annotated[str, _note("What the buyer reads.", min_length=1, max_length=120, example="A song to download")]
    price: Annotated[int, _note("Of one, in minor units (cents).", ge=1, le=MAX_AMOUNT, example=1234)]
    quantity: Quantity = 1
    goods: Annotated[str, _note("Text that goes to the buyer with the receipt.", max_length=2000)] = ""
    file: Annotated[
        str, _note("Name of a file in the shop's folder of goods, for the buyer to download.", max_length=120)
    ] = ""


class CatalogueLine(_Body, frozen=True):
    """One line of an order, priced by the shop's catalogue."""

    sku: Annotated[str, _note("The item in the catalogue.", min_length=1, max_length=40, example="song")]
    quantity: Quantity = 1


class NewOrder(_Body, frozen=True):
    """An order of what your own system sells."""

    lines: Annotated[list[Line], msgspec.Meta(min_length=1, max_length=MAX_LINES)]
    currency: Currency = ""
    bank: Bank = ""
    reference: Reference = ""
    return_url: ReturnUrl = ""


class NewCatalogueOrder(_Body, frozen=True):
    """An order of what is in the shop's catalogue."""

    lines: Annotated[list[CatalogueLine], msgspec.Meta(min_length=1, max_length=MAX_LINES)]
    currency: Currency = ""
    bank: Bank = ""
    reference: Reference = ""
    return_url: ReturnUrl = ""


class Order(_Body, frozen=True):
    """An order as it is now.

    `state`: it is `waiting` for a payment; `paid`, and the bank is being asked; `accepted`, so send the goods;
    `declined` by the bank, and it may be paid again until it expires; `expired`, and nothing was paid.
    """

    id: OrderId
    state: State
    amount: Annotated[int, _note("What is to be paid in all, in minor units.", ge=1, le=MAX_AMOUNT, example=1234)]
    currency: Annotated[str, _note("ISO 4217 code.", pattern="^[A-Z]{3}$", example="USD")]
    lines: Annotated[list[str], _note("What the buyer reads.", example=["1 × A song to download"])]
    reference: Reference
    created_at: Moment
    expires_at: Annotated[Moment, msgspec.Meta(description="Until when it can be paid.")]
    page: Annotated[str, _note("Send the buyer there.", example=f"https://pay.example/orders/{_NUMBER}")]
    link: Annotated[
        str, _note("Opens the buyer's wallet; empty when there is nothing to pay.", example="web+ecash:pay/…")
    ]
    refunded: Annotated[Money, msgspec.Meta(description="What the buyer has collected as refunds.")]
    paid_at: Annotated[Moment | None, msgspec.Meta(description="When it was accepted.")]


class OrderList(_Body, frozen=True):
    """Orders, the newest first."""

    orders: list[Order]
    next: Annotated[str, _note("`before` of the next page; empty on the last one.", pattern="^([0-9a-f]{32})?$")]


class NewRefund(_Body, frozen=True):
    """A refund to be granted."""

    amount: Annotated[int, _note("How much, in minor units.", ge=1, le=MAX_AMOUNT, example=500)]
    granted: Annotated[
        Money | None,
        msgspec.Meta(
            description="What is granted so far, as you know it. If it is not so, the answer is `conflict`, and "
            "nothing is granted: a request that is repeated because its answer was lost grants nothing twice."
        ),
    ] = None


class Refund(_Body, frozen=True):
    """What is granted of an order now; the buyer collects it with the wallet that has paid."""

    granted: Annotated[Money, msgspec.Meta(description="In all, in minor units.")]
    left: Annotated[Money, msgspec.Meta(description="What can still be granted.")]
    order: Order


class Health(_Body, frozen=True):
    """Whether orders are taken now."""

    open: bool
    banks: Annotated[list[str], _note("Whose coins are taken.", example=["bank"])]


class Event(_Body, frozen=True):
    """The body of a webhook."""

    type: Kind
    timestamp: Annotated[Moment, msgspec.Meta(description="When it happened.")]
    data: Order
