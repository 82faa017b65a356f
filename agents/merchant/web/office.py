"""The shopkeeper's office: what was sold, refunds, payouts and webhooks, behind the office's key."""

import hmac
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protocol.merchant import deposit, refund, sale
from protocol.messages import Receipt, Signed, Verdict
from protocol.money import MoneyError, format_minor, parse_amount
from protocol.refusals import TABLE, Refusal

from ...invitation import read_invitation
from ...web.events import Update
from ...web.gate import Gate, Visit, Words
from ...web.sessions import IDLE_MS, Sessions
from ..offers import offered
from ..office import LinkMaker
from . import notices, payout
from .payout import over_mqtt
from .site import Shop
from .takings import Entry, entry, page, takings

HOME: Final = "/office"
COOKIE: Final = "ecash-office"
_PAGE: Final = 50
_LOOK_MS: Final = 2000  # so often an open list of sales looks for new ones
_WORDS: Final = Words(
    "The shopkeeper’s office",
    "Office key",
    "It has 26 letters and digits; the command “ecash merchant web” prints it.",
    f"{HOME}/enter",
)


def routes(shop: Shop, link: LinkMaker = over_mqtt) -> list[BaseRoute]:
    """Return the routes of the office.

    Args:
        shop: what all pages share.
        link: makes the presence with which a bank is asked.
    """
    key = read_invitation(shop.keys.office)

    async def check(secret: str) -> str:
        try:
            shown = read_invitation(secret)
        except ValueError:
            return "That is no office key: it has 26 letters and digits (2 to 7), in groups of four."
        return "" if hmac.compare_digest(shown, key) else "That is not the key of this office."

    gate = Gate(shop.pages, Sessions(shop.clock, shop.entropy, COOKIE, secure=shop.secure), check, _WORDS, HOME)
    office = _Office(shop)
    return [
        *gate.routes(),
        Route(HOME, gate.behind(office.sales), methods=["GET"]),
        Route(f"{HOME}/events", gate.behind(office.events), methods=["GET"]),
        Route(f"{HOME}/sales/{{number}}", gate.behind(office.sale), methods=["GET"]),
        Route(f"{HOME}/sales/{{number}}/refund", gate.behind(office.ask), methods=["GET"]),
        Route(f"{HOME}/sales/{{number}}/refund", gate.behind(office.grant), methods=["POST"]),
        *payout.routes(shop, gate, link),
        *notices.routes(shop, gate),
    ]


class _Office:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._pages = shop.pages
        self._store = shop.agent.desk.store

    async def sales(self, visit: Visit) -> Response:
        """Show the sales, the newest first."""
        listed = await _listed(self._shop, visit.request.query_params.get("before", ""))
        return self._pages.show(visit.request, "office_sales.html", visit.session, title="Sales", **listed)

    async def events(self, visit: Visit) -> Response:
        """Send the list of sales again whenever it has changed."""
        return visit.watch(changes(self._shop))

    async def sale(self, visit: Visit) -> Response:
        """Show one sale."""
        found = await self._found(visit)
        return self._pages.show(
            visit.request,
            "office_sale.html",
            visit.session,
            title=f"Sale {found.number[:8]}",
            entry=found,
            lines=_lines(found),
            facts=[*_facts(found), *await self._payment(found)],
            refunds=await self._refunds(found),
        )

    async def _found(self, visit: Visit) -> Entry:
        found = await entry(self._store, visit.request.path_params["number"])
        if found is None:
            raise HTTPException(404, "There is no such sale. See the list of sales in the office.")
        return found

    async def _payment(self, found: Entry) -> list[tuple[str, str]]:
        """Return what is known of the payment: what the bank has said, and nothing that a buyer proves things with."""
        state, currency = found.row.state, found.row.currency
        if not isinstance(state, sale.Depositing | sale.Sold | sale.Declined):
            return []
        facts = [("Payment", state.digest.hex())]
        deposited = await self._store.deposit(state.digest)
        if isinstance(state, sale.Sold):
            receipt = Receipt.decode(Signed.decode(state.receipt).statement)
            verdict = Verdict.decode(Signed.decode(receipt.verdict).statement)
            facts += [("Accepted by the bank", _time(verdict.at)), ("Receipt given", _time(receipt.at))]
        if deposited is not None and isinstance(deposited.state, deposit.Credited):
            commission = deposited.state.commission
            facts.append(("Commission of the bank", format_minor(commission, currency)))
            facts.append(("Credited", format_minor(found.row.amount - commission, currency)))
        if deposited is not None and isinstance(deposited.state, deposit.Refused):
            facts.append(("The bank refused", TABLE[Refusal(deposited.state.refusal)].meaning))
        return facts

    async def _refunds(self, found: Entry) -> list[tuple[int, str, int]]:
        """Return when which state was reached of which refund, in minor units."""
        names = {refund.Requested: "pending", refund.Refunded: "refunded", refund.Refused: "refused"}
        rows = await self._store.refunds_of(found.row.payment_id)
        return [(row.at, names.get(type(row.state), "pending"), row.amount) for row in rows]

    async def ask(self, visit: Visit) -> Response:
        """Ask once more before a refund is granted."""
        found = await self._found(visit)
        amount, wrong = _amount(found, visit.request.query_params.get("amount", ""))
        if wrong:
            return visit.onward(f"{HOME}/sales/{found.number}", wrong, "bad")
        return self._pages.show(
            visit.request, "office_refund.html", visit.session, title="Refund", entry=found, amount=amount
        )

    async def grant(self, visit: Visit) -> Response:
        """Grant a refund, unless something else was granted since the form was made."""
        agent = self._shop.agent
        here = f"{HOME}/sales/{visit.request.path_params['number']}"
        async with agent.desk.step:  # so that a double click does not find the same twice
            found = await self._found(visit)
            amount, wrong = _amount(found, visit.form.get("amount", ""))
            if visit.form.get("granted", "") != str(found.refundable.granted):
                wrong = (
                    "Nothing was granted now: since that form was made, a refund of this sale was. Look at it below."
                )
            if wrong:
                return visit.onward(here, wrong, "bad")
            try:
                if found.order is not None:
                    await agent.orders.grant(found.order.id, amount)
                else:
                    await self._store.grant(found.row.payment_id, amount, self._shop.clock.now())
            except ValueError as error:  # a command in another process was faster
                return visit.onward(here, f"Nothing was granted: {error}.", "bad")
        told = format_minor(amount, found.row.currency)
        return visit.onward(here, f"Granted {told}. The buyer collects it with the wallet that has paid.")


async def changes(shop: Shop) -> AsyncIterator[Update]:
    """Yield the list of sales at first, and then when it has changed, for no longer than an idle session lives."""
    clock, shown = shop.clock, ""
    ends_at = clock.now() + IDLE_MS
    while clock.now() < ends_at:
        listed = shop.pages.part("office_sales_list.html", **await _listed(shop))
        if listed != shown:
            shown = listed
            yield Update({"sales": listed})
        await clock.sleep_until(clock.now() + _LOOK_MS)
    yield Update({}, done=True)


async def _listed(shop: Shop, before: str = "") -> dict[str, Any]:
    """Return what the list of sales shows."""
    store = shop.agent.desk.store
    entries, more = await page(store, _PAGE, before)
    today = await takings(store, _midnight(shop.clock.now()))
    return {
        "entries": entries,
        "more": entries[-1].number if more else "",
        "today": {one.currency: one for one in today},
        "ever": await takings(store),
        "older": bool(before),
    }


def _amount(found: Entry, text: str) -> tuple[int, str]:
    """Read how much is to be refunded; the second is what is wrong with it."""
    currency = found.row.currency
    if not found.is_sold:
        return 0, "This sale is not paid: there is nothing to refund."
    if not found.left:
        return 0, "All of this sale is granted as refunds already."
    try:
        amount = parse_amount(text, currency).value
    except MoneyError as error:
        return 0, f"Say how much: {error}."
    if not 0 < amount <= found.left:
        return 0, f"A refund of this sale is more than nothing, and at most {format_minor(found.left, currency)}."
    return amount, ""


def _lines(found: Entry) -> tuple[str, ...]:
    state = found.row.state
    return () if isinstance(state, sale.New) else offered(state).order


def _facts(found: Entry) -> list[tuple[str, str]]:
    """Return what was agreed on."""
    row, state, order = found.row, found.row.state, found.order
    facts = [("Number", found.number), ("Ordered", _time(row.begun_at))]
    if not isinstance(state, sale.New):
        payreq = offered(state)
        facts += [("Bank", f"{payreq.bank}, account {payreq.account}"), ("Offered until", _time(payreq.expires))]
    if order is None:
        return [*facts, ("Ordered with", "a wallet")]
    facts += [("Ordered with", "a browser"), ("Order", order.id)]
    if order.reference:
        facts.append(("Reference", order.reference))
    return [*facts, ("Goods shown", _time(order.delivered_at) if order.delivered_at else "not yet")]


def _local(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC).astimezone()


def _time(at: int) -> str:
    return _local(at).strftime("%-d %b %Y, %H:%M:%S")


def _midnight(now: int) -> int:
    return int(_local(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
