"""Sending coins to another wallet: as a text and a picture that whoever reads them can claim, or to a request."""

import hashlib
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.port import LinkError
from protocol.errors import PeerError
from protocol.money import MoneyError
from protocol.token import Acknowledgement, TokenRequest
from protocol.wallet.transfer import TRANSFER, Closing, Sent

from ...address import BankAddress
from ...web.events import Update
from ...web.forms import Form
from ...web.gate import Visit
from ...web.qr import drawn
from ..inbox import bank_of
from ..show import describe, meaning
from ..store import ExchangeRow
from ..transfer import DAYS, Gift, amount_of, deliver, give, look, take_back, token_of
from ..wallet import Bank, Wallet, WalletError
from . import receiving, requests
from .forms import checked_memo, whole_number
from .history import entry_of, exchange_of, onward_to
from .house import House
from .live import watched
from .telling import sentence

MOST_DAYS: Final = 365
_PATIENCE_MS: Final = 8_000
_UNPROCESSABLE: Final = 422
_TOKEN_BYTES: Final = 16


def routes(house: House) -> list[BaseRoute]:
    """Return the pages on which coins go from wallet to wallet."""
    sending = _Sending(house)
    one = "/send/{number}"
    return [
        Route("/send", house.page(sending.ask), methods=["GET"]),
        Route("/send", house.page(sending.give), methods=["POST"]),
        Route(one, house.page(sending.show), methods=["GET"]),
        Route(f"{one}/live", house.page(sending.live), methods=["GET"]),
        Route(f"{one}/look", house.page(sending.look), methods=["POST"]),
        Route(f"{one}/take-back", house.page(sending.take_back), methods=["POST"]),
        *requests.routes(house),
        *receiving.routes(house),
    ]


class _Sending:
    def __init__(self, house: House) -> None:
        self._house = house

    async def ask(self, visit: Visit) -> Response:
        return await self._form(visit, {"to": visit.request.query_params.get("to", "")}, {})

    async def _form(self, visit: Visit, values: dict[str, str], wrong: dict[str, str]) -> Response:
        async with self._house.vault.store() as store:
            banks = [(row.name, row.name) for row in await store.banks()]
        filled = {"amount": "", "to": "", "memo": "", "days": str(DAYS), "bank": ""} | values
        filled["once"] = self._house.entropy.bytes(_TOKEN_BYTES).hex()
        status = _UNPROCESSABLE if wrong else 200
        return self._house.pages.show(
            visit.request, "send.html", visit.session, status, title="Send", values=filled, wrong=wrong, banks=banks
        )

    async def give(self, visit: Visit) -> Response:
        """Set coins apart, and put them into the inbox of whoever asked for them; the same form again does no more."""
        form, wrong = visit.form, dict[str, str]()
        request = None
        try:
            request = TokenRequest.parse(form["to"]) if form.get("to") else None
        except PeerError as error:
            wrong["to"] = f"That is no request: {error.detail}."
        memo = checked_memo(form, wrong)
        days = whole_number(form, "days", DAYS, MOST_DAYS, wrong)
        if wrong:
            return await self._form(visit, form, wrong)
        task = await self._house.vault.once(_name(form), lambda: self._give(visit, request, memo, days))
        if not task.done():
            return visit.onward("/history", "It takes a while. It goes on by itself; see below.", "info")
        return task.result()

    async def _give(self, visit: Visit, request: TokenRequest | None, memo: str, days: int) -> Response:
        form = visit.form
        async with self._house.vault.wallet() as wallet:
            try:
                bank = await bank_of(wallet, request, _no_coins) if request else wallet.bank(form.get("bank") or None)
                amount = amount_of(bank, form.get("amount", ""), request)
            except (MoneyError, WalletError) as error:
                return await self._form(visit, form, {"amount": sentence(str(error))})
            return await self._given(visit, wallet, bank, Gift(amount, memo, days, request))

    async def _given(self, visit: Visit, wallet: Wallet, bank: Bank, gift: Gift) -> Response:
        row = await give(wallet, bank, gift)
        here = f"/send/{row.id.hex()}"
        if gift.request is None:
            return visit.onward(here)
        try:
            row, said = await deliver(wallet, row, self._house.attend, _PATIENCE_MS)
        except LinkError:
            told = "The way to the receiver is broken just now. Hand the coins over as they are shown here instead."
            return visit.onward(here, told, "bad")
        told, kind = _answer(row, said)
        return visit.onward(here, told, kind)

    async def _transfer(self, visit: Visit) -> ExchangeRow:
        row = await exchange_of(self._house, visit)
        if row.kind != TRANSFER:
            raise HTTPException(404, "These coins were not sent to another wallet.")
        return row

    async def show(self, visit: Visit) -> Response:
        row = await self._transfer(visit)
        if not isinstance(row.state, Sent | Closing):
            return onward_to(visit, row)
        async with self._house.vault.wallet() as wallet:
            token = await token_of(wallet, row)
        now = self._house.clock.now()
        left = max(0, row.state.transfer.expires - now) // 1000
        text = str(token)
        shown = {"text": text, "code": await drawn(text), "left": left, "transfer": row.state.transfer}
        return self._house.pages.show(
            visit.request, "send_one.html", visit.session, 200, title="Hand over", entry=entry_of(row), **shown
        )

    async def live(self, visit: Visit) -> Response:
        await self._transfer(visit)

        async def seen() -> Update:
            row = await self._transfer(visit)
            html = self._house.pages.part("send_state.html", session=visit.session, entry=entry_of(row))
            return Update({"state": html}, done=not row.open)

        return watched(self._house, visit, seen)

    async def look(self, visit: Visit) -> Response:
        row = await self._transfer(visit)
        async with self._house.vault.wallet() as wallet:
            row = await look(wallet, row)
        if row.open:
            return visit.onward(f"/send/{row.id.hex()}", "Nobody has claimed these coins yet, says the bank.", "info")
        return visit.onward(f"/history/{row.id.hex()}", describe(row))

    async def take_back(self, visit: Visit) -> Response:
        row = await self._transfer(visit)
        async with self._house.vault.wallet() as wallet:
            row = await take_back(wallet, row)
        return visit.onward(f"/history/{row.id.hex()}", describe(row), "info")


def _name(form: Form) -> str:
    """Return what tells a form from the same one with something else in it, and from another one."""
    return f"sending {hashlib.sha256(repr(sorted(form.items())).encode()).hexdigest()}"


def _answer(row: ExchangeRow, said: Acknowledgement | None) -> tuple[str, str]:
    if said is not None and said.refusal:
        told = f"The receiver does not take these coins: {meaning(said.refusal)} You can take them back."
        return told, "bad"
    if not row.open:
        return "The receiver has the coins.", "good"
    if said is not None:
        return "The receiver says that it has the coins.", "good"
    return "The receiver does not answer now. The coins wait for it, or hand them over as they are shown here.", "info"


async def _no_coins(address: BankAddress) -> bool:
    raise WalletError(f"this wallet has no coins of bank {address.bank}, which the request is for")
