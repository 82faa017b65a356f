"""The history: what the wallet has done and is doing, receipts and proofs of payment, refunds."""

import json
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protocol.exchange import REFUND
from protocol.wallet import payment, refund
from protocol.wallet.transfer import TRANSFER

from ...proof import proof_text
from ...web.events import Update
from ...web.gate import Visit
from ..evidence import evidence_json, evidence_of
from ..prove import prove
from ..refund import collect
from ..resume import resume
from ..show import describe, goods_of
from ..store import ExchangeRow
from .house import House
from .lines import Line, line_of
from .live import watched

PAGE: Final = 50
"""So many lines are on a page."""
_PATIENCE_MS: Final = 8_000
_ID_DIGITS: Final = 32


def routes(house: House) -> list[BaseRoute]:
    """Return the list of all exchanges, and the page of each with what can be done about it."""
    history = _History(house)
    one = "/history/{number}"
    return [
        Route("/history", house.page(history.list), methods=["GET"]),
        Route(one, house.page(history.show), methods=["GET"]),
        Route(f"{one}/live", house.page(history.live), methods=["GET"]),
        Route(f"{one}/evidence", house.page(history.evidence), methods=["GET"]),
        Route(f"{one}/proof", house.page(history.prove), methods=["POST"]),
        Route(f"{one}/refund", house.page(history.refund), methods=["POST"]),
        Route(f"{one}/again", house.page(history.again), methods=["POST"]),
    ]


async def exchange_of(house: House, visit: Visit) -> ExchangeRow:
    """Return the exchange whose id (32 hexadecimal digits) is in the path.

    Raises:
        HTTPException: 404 if there is none.
    """
    number = visit.request.path_params["number"]
    try:
        exchange_id = bytes.fromhex(number) if len(number) == _ID_DIGITS else b""
        async with house.vault.store() as store:
            return await store.exchange(exchange_id)
    except (ValueError, KeyError):
        raise HTTPException(404, "There is nothing of this number in your history.") from None


class Entry(NamedTuple):
    """What the page of an exchange shows."""

    row: ExchangeRow
    line: Line
    told: str
    goods: str
    receipt: bool

    @property
    def is_payment(self) -> bool:
        """Whether it is a payment to a shop."""
        return self.row.kind == payment.PAY

    @property
    def is_transfer(self) -> bool:
        """Whether coins were sent to another wallet."""
        return self.row.kind == TRANSFER

    @property
    def accepted(self) -> bool:
        """Whether the bank has accepted the payment: then it can be proven, and refunded."""
        return isinstance(self.row.state, payment.Paid | payment.Unreceipted)

    @property
    def can_go_on(self) -> bool:
        """Whether trying at once may bring it to its end."""
        waits = isinstance(self.row.state, payment.Waiting | refund.Waiting)
        return self.row.open and not waits and not self.is_transfer

    @property
    def has_evidence(self) -> bool:
        """Whether the wallet keeps what others have said of it."""
        return not self.row.open and any(evidence_of(self.row.state).values())


def entry_of(row: ExchangeRow) -> Entry:
    """Return what to show of an exchange."""
    receipt = row.state.receipt if isinstance(row.state, payment.Paid) else b""
    told, _, _ = describe(row).partition("\n")  # the goods come after it, and are shown by themselves
    return Entry(row, line_of(row), told, goods_of(receipt), bool(receipt))


class _History:
    def __init__(self, house: House) -> None:
        self._house = house

    async def list(self, visit: Visit) -> Response:
        asked = visit.request.query_params.get("page", "1")
        number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 1
        async with self._house.vault.store() as store:
            rows = list(reversed(await store.exchanges()))
        last = max(1, -(-len(rows) // PAGE))
        number = min(max(number, 1), last)
        lines = [line_of(row) for row in rows[(number - 1) * PAGE : number * PAGE]]
        return self._house.pages.show(
            visit.request, "history.html", visit.session, title="History", lines=lines, number=number, last=last
        )

    async def show(self, visit: Visit) -> Response:
        entry = entry_of(await exchange_of(self._house, visit))
        title = f"{entry.line.what} · {entry.line.partner}"
        return self._house.pages.show(visit.request, "history_one.html", visit.session, title=title, entry=entry)

    async def live(self, visit: Visit) -> Response:
        await exchange_of(self._house, visit)

        async def look() -> Update:
            entry = entry_of(await exchange_of(self._house, visit))
            html = self._house.pages.part("history_entry.html", session=visit.session, entry=entry)
            return Update({"entry": html}, done=not entry.row.open)

        return watched(self._house, visit, look)

    async def evidence(self, visit: Visit) -> Response:
        row = await exchange_of(self._house, visit)
        return _download(json.dumps(evidence_json(row), indent=2) + "\n", f"evidence-{row.id.hex()[:8]}.json")

    async def prove(self, visit: Visit) -> Response:
        """Have the bank state that a payment was paid, and hand the proof out as a file."""
        row = await exchange_of(self._house, visit)
        shown = {index for index in range(len(row.note.order)) if f"line-{index}" in visit.form}
        async with self._house.vault.wallet() as wallet:
            proof = await prove(wallet, row, shown)
        return _download(proof_text(proof), f"proof-{row.number[:8]}.json")

    async def refund(self, visit: Visit) -> Response:
        paid = await exchange_of(self._house, visit)
        async with self._house.vault.wallet() as wallet:
            row = await collect(wallet, paid, _PATIENCE_MS)
        return onward_to(visit, row)

    async def again(self, visit: Visit) -> Response:
        """Carry on what is open at the bank of an exchange."""
        row = await exchange_of(self._house, visit)
        if not row.open:
            return onward_to(visit, row)
        async with self._house.vault.wallet() as wallet:
            await resume(wallet, bank=row.bank)
            row = await wallet.store.exchange(row.id)
        if row.open and row.kind != REFUND:
            told = "There is no answer yet. Nothing is lost: the wallet goes on trying by itself."
            return visit.onward(f"/history/{row.id.hex()}", told, "info")
        return onward_to(visit, row)


def onward_to(visit: Visit, row: ExchangeRow) -> Response:
    """Go on to the page of an exchange, which says by itself how it stands."""
    return visit.onward(f"/history/{row.id.hex()}")


def _download(text: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/json", headers=headers)
