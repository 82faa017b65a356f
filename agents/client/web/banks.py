"""The banks that the wallet knows: accounts at them, and how to add one."""

from typing import Final, NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protocol.money import format_minor

from ...address import BankAddress
from ...invitation import read_invitation
from ...web.gate import Visit
from ..store import BankRow
from ..wallet import InUse
from .forms import Wrong
from .house import House
from .telling import sentence

_TAKE_OVER: Final = "/banks/take-over"
_UNPROCESSABLE: Final = 422


def routes(house: House) -> list[BaseRoute]:
    """Return the pages of the banks."""
    banks = _Banks(house)
    return [
        Route("/banks", house.page(banks.list), methods=["GET"]),
        Route("/banks", house.page(banks.add), methods=["POST"]),
        Route("/banks/look", house.page(banks.look), methods=["POST"]),
        Route(_TAKE_OVER, house.page(banks.ask_take_over), methods=["GET"]),
        Route(_TAKE_OVER, house.page(banks.take_over), methods=["POST"]),
    ]


class Balance(NamedTuple):
    """What an account held when it was looked at."""

    value: int
    at: int


class Known(NamedTuple):
    """A bank as its card shows it; `balance` is None if it was not looked at since the wallet was unlocked."""

    row: BankRow
    fingerprint: str
    balance: Balance | None


class _Banks:
    def __init__(self, house: House) -> None:
        self._house = house
        self._balances: dict[str, Balance] = {}
        house.vault.at_lock(self._balances.clear)

    async def list(self, visit: Visit) -> Response:
        return await self._page(visit, {}, {})

    async def _page(self, visit: Visit, values: dict[str, str], wrong: Wrong) -> Response:
        async with self._house.vault.store() as store:
            rows = await store.banks()
        known = [Known(row, BankAddress.parse(row.address).fingerprint, self._balances.get(row.name)) for row in rows]
        filled = {"address": "", "invitation": ""} | values
        status = _UNPROCESSABLE if wrong else 200
        return self._house.pages.show(
            visit.request, "banks.html", visit.session, status, title="Banks", banks=known, values=filled, wrong=wrong
        )

    async def add(self, visit: Visit) -> Response:
        """Claim an account with an invitation; without one, look whether this wallet's words have one there."""
        form, wrong, invitation = visit.form, Wrong(), b""
        address = _address(form.get("address", ""), wrong)
        try:
            invitation = read_invitation(form["invitation"]) if form.get("invitation") else b""
        except ValueError as error:
            wrong["invitation"] = sentence(str(error))
        if address is None or wrong:
            return await self._page(visit, form, wrong)
        return await self._register(visit, address, invitation)

    async def look(self, visit: Visit) -> Response:
        async with self._house.vault.store() as store:
            rows = [row for row in await store.banks() if row.name == visit.form.get("bank", "")]
        if not rows:
            raise HTTPException(404, "This wallet does not know that bank.")
        return await self._register(visit, BankAddress.parse(rows[0].address), b"")

    async def _register(
        self, visit: Visit, address: BankAddress, invitation: bytes, *, take_over: bool = False
    ) -> Response:
        try:
            async with self._house.vault.wallet() as wallet:
                answer = await wallet.register(address, invitation, take_over=take_over)
        except InUse:
            return visit.onward(f"{_TAKE_OVER}?{urlencode({'address': str(address)})}")
        self._balances[address.bank] = Balance(answer.balance, self._house.clock.now())
        holds = format_minor(answer.balance, answer.currency)
        told = f"Account {answer.account} at {address.bank}, held by {answer.name}: {holds}."
        return visit.onward("/banks", told)

    async def ask_take_over(self, visit: Visit) -> Response:
        address = _address(visit.request.query_params.get("address", ""), {})
        if address is None:
            raise HTTPException(404, "That is no bank's address.")
        return self._house.pages.show(
            visit.request, "bank_take_over.html", visit.session, title="Take the account over", address=address
        )

    async def take_over(self, visit: Visit) -> Response:
        address = _address(visit.form.get("address", ""), {})
        if address is None:
            raise HTTPException(400, "That is no bank's address.")
        return await self._register(visit, address, b"", take_over=True)


def _address(text: str, wrong: Wrong) -> BankAddress | None:
    try:
        return BankAddress.parse(text)
    except ValueError as error:
        wrong["address"] = sentence(str(error))
        return None
