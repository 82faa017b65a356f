"""Asking another wallet for coins: a request as a picture, and waiting in the background for what comes."""

import asyncio
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protocol.money import MoneyError

from ...web.events import Update
from ...web.gate import Visit
from ...web.qr import drawn
from ..inbox import Asked, ask, give_up, waiting_in, watch
from ..show import describe
from ..store import ExchangeRow
from ..transfer import amount_of
from ..wallet import WalletError
from .forms import Wrong, checked_memo, whole_number
from .history import onward_to
from .house import House
from .live import watched
from .telling import EXPECTED, problem_of, sentence

MINUTES: Final = 30
MOST_MINUTES: Final = 1_440
_MINUTE_MS: Final = 60_000
_UNPROCESSABLE: Final = 422


def routes(house: House) -> list[BaseRoute]:
    """Return the pages on which coins are asked for."""
    asking = _Asking(house)
    one = "/request/{number}"
    return [
        Route("/request", house.page(asking.form), methods=["GET"]),
        Route("/request", house.page(asking.ask), methods=["POST"]),
        Route(one, house.page(asking.show), methods=["GET"]),
        Route(f"{one}/live", house.page(asking.live), methods=["GET"]),
        Route(f"{one}/wait", house.page(asking.wait), methods=["POST"]),
        Route(f"{one}/stop", house.page(asking.stop), methods=["POST"]),
    ]


class Seen(NamedTuple):
    """How a request stands.

    `asked` is None when nobody waits for it any more; `waiting` tells whether this wallet listens just now; `row` is
    the exchange of what came; `problem` says why nobody listens.
    """

    number: str
    asked: Asked | None
    waiting: bool = False
    row: ExchangeRow | None = None
    problem: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will show by itself."""
        return not self.waiting and (self.row is None or not self.row.open)

    @property
    def arrived(self) -> str:
        """What has come, in a sentence."""
        return describe(self.row) if self.row is not None else ""


class _Asking:
    def __init__(self, house: House) -> None:
        self._house = house

    async def form(self, visit: Visit) -> Response:
        return await self._form(visit, {}, {})

    async def _form(self, visit: Visit, values: dict[str, str], wrong: Wrong) -> Response:
        async with self._house.vault.store() as store:
            banks, asked = [(row.name, row.name) for row in await store.banks()], await waiting_in(store)
        filled = {"amount": "", "memo": "", "minutes": str(MINUTES), "bank": ""} | values
        status = _UNPROCESSABLE if wrong else 200
        shown = [self._seen(one.id.hex(), one) for one in asked]
        return self._house.pages.show(
            visit.request, "request.html", visit.session, status, title="Request", values=filled, wrong=wrong,
            banks=banks, requests=shown
        )  # fmt: skip

    async def ask(self, visit: Visit) -> Response:
        form, wrong = visit.form, Wrong()
        memo = checked_memo(form, wrong)
        minutes = whole_number(form, "minutes", MINUTES, MOST_MINUTES, wrong)
        if wrong:
            return await self._form(visit, form, wrong)
        async with self._house.vault.wallet() as wallet:
            try:
                bank = wallet.bank(form.get("bank") or None)
                amount = amount_of(bank, form.get("amount") or "0")
            except (MoneyError, WalletError) as error:
                return await self._form(visit, form, {"amount": sentence(str(error))})
            asked = await ask(wallet, bank, amount, memo, wallet.clock.now() + minutes * _MINUTE_MS)
        self._wait_for(asked)
        return visit.onward(f"/request/{asked.id.hex()}")

    def _wait_for(self, asked: Asked) -> None:
        house, name = self._house, _name(asked.id.hex())
        task = house.vault.task(name)
        if task is None or task.done():
            house.vault.start(name, watch(house.vault.wallet, asked, house.attend))

    async def _find(self, visit: Visit) -> Seen:
        seen = await self._look(visit.request.path_params["number"])
        if seen.asked is None and self._house.vault.task(_name(seen.number)) is None:
            raise HTTPException(404, "This request is over. What has come of it is in the history.")
        return seen

    async def _look(self, number: str) -> Seen:
        async with self._house.vault.store() as store:
            asked = next((one for one in await waiting_in(store) if one.id.hex() == number), None)
            seen = self._seen(number, asked)
            if seen.row is not None and seen.row.open:
                seen = seen._replace(row=await store.exchange(seen.row.id))
        return seen

    def _seen(self, number: str, asked: Asked | None) -> Seen:
        task = self._house.vault.task(_name(number))
        if task is None or not task.done():
            return Seen(number, asked, waiting=task is not None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, EXPECTED):
            return Seen(number, asked, problem=problem_of(error).what)
        if error is not None or task.cancelled():
            return Seen(number, asked, problem="The waiting broke off.")
        return Seen(number, asked, row=task.result())

    async def show(self, visit: Visit) -> Response:
        seen = await self._find(visit)
        code = text = ""
        left = 0
        if seen.asked is not None:
            request = seen.asked.request
            text = str(request)
            code = await drawn(text) or ""
            left = max(0, request.expires - self._house.clock.now()) // 1000
        return self._house.pages.show(
            visit.request, "request_one.html", visit.session, title="Your request", seen=seen, code=code, text=text,
            left=left
        )  # fmt: skip

    async def live(self, visit: Visit) -> Response:
        number = (await self._find(visit)).number

        async def look() -> Update:
            seen = await self._look(number)
            html = self._house.pages.part("request_state.html", session=visit.session, seen=seen)
            title = "Arrived" if seen.row is not None else ""
            return Update({"state": html} | ({"code": ""} if seen.row else {}), title, done=seen.over)

        return watched(self._house, visit, look, keep_open=True)

    async def wait(self, visit: Visit) -> Response:
        """Wait on for what was asked for before the wallet was locked."""
        seen = await self._find(visit)
        if seen.asked is not None:
            self._wait_for(seen.asked)
        return visit.onward(f"/request/{seen.number}")

    async def stop(self, visit: Visit) -> Response:
        """Wait no more."""
        seen = await self._find(visit)
        task = self._house.vault.task(_name(seen.number))
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})
        seen = await self._find(visit)
        if seen.row is not None:
            return onward_to(visit, seen.row)
        if seen.asked is not None:
            async with self._house.vault.store() as store:
                await give_up(store, seen.asked, self._house.attend)
        return visit.onward("/request", "Nobody waits for this request any more.", "info")


def _name(number: str) -> str:
    return f"request {number}"
