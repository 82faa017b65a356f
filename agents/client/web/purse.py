"""The first page: what is in the wallet; and between account and wallet: withdrawing, and putting coins back."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from protocol.commission import Commission
from protocol.money import Amount, MoneyError, format_minor, parse_amount
from protocol.wallet import payment

from ...web.gate import Visit
from ..recover import put_back
from ..show import describe, succeeded
from ..store import ASIDE, FREE, RESERVED, UNVERIFIED, ExchangeRow, WalletStore
from ..verify import Sums, newest
from ..wallet import Bank, Wallet, WalletError
from ..withdraw import withdraw
from .house import House

PATIENCE_MS: Final = 8_000
"""How long a page waits for the bank before it says that the exchange goes on by itself."""
_LATEST: Final = 5
_SIZES: Final = 8  # of coins in the picture
_TOKEN_BYTES: Final = 16
_WORDS_FOR: Final = {
    UNVERIFIED: "to be checked by the bank before they count",
    RESERVED: "in payments and exchanges that are under way",
    ASIDE: "set aside, because the bank disputes them",
}


def routes(house: House) -> list[BaseRoute]:
    """Return the first page, withdrawing and putting back."""
    purses = _Purses(house)
    return [
        Route("/", house.page(purses.show), methods=["GET"]),
        Route("/withdraw", house.page(purses.ask_withdrawal), methods=["GET"]),
        Route("/withdraw", house.page(purses.withdraw), methods=["POST"]),
        Route("/put-back", house.page(purses.ask_return), methods=["GET"]),
        Route("/put-back", house.page(purses.put_back), methods=["POST"]),
    ]


@dataclass
class Purse:
    """Coins of one bank and currency: how much is free, the picture of those, and how much is in other states."""

    bank: str
    currency: str
    free: int = 0
    pile: list[tuple[str, int, int]] = field(default_factory=list)
    others: list[tuple[int, str]] = field(default_factory=list)


def purses_of(holdings: Iterable[tuple[str, str, str, int, int]]) -> list[Purse]:
    """Sort what `WalletStore.holdings` returns into purses."""
    purses: dict[tuple[str, str], Purse] = {}
    sums: dict[tuple[str, str, str], int] = {}
    for bank, currency, state, value, count in holdings:
        purse = purses.setdefault((bank, currency), Purse(bank, currency))
        if state == FREE:
            purse.free += value * count
            face = format_minor(value, currency).rpartition(" ")[0]
            purse.pile.append((face, count, min(_SIZES, 1 + value.bit_length() * 2 // 3)))
        sums[bank, currency, state] = sums.get((bank, currency, state), 0) + value * count
    for (bank, currency, state), total in sums.items():
        if state in _WORDS_FOR:
            purses[bank, currency].others.append((total, _WORDS_FOR[state]))
    return list(purses.values())


class Open(NamedTuple):
    """An exchange that is under way; `seconds` until its coins are free again, if that is what it waits for."""

    row: ExchangeRow
    told: str
    seconds: int | None


class _Wish(NamedTuple):
    """What a form between account and wallet asks for; `wrong` says why it cannot be, if it cannot."""

    bank: Bank | None
    amount: Amount | None
    typed: str
    wrong: str


class _Purses:
    def __init__(self, house: House) -> None:
        self._house = house

    async def show(self, visit: Visit) -> Response:
        house = self._house
        async with house.vault.store() as store:
            known = await store.banks()
            purses = purses_of(await store.holdings())
            rows = await store.exchanges()
        now = house.clock.now()
        context: dict[str, Any] = {
            "purses": purses,
            "banks": [row.name for row in known],
            "accounts": [row.name for row in known if row.account is not None],
            "open": [_open(row, now) for row in reversed(rows) if row.open],
            "latest": [(row, describe(row)) for row in rows[: -_LATEST - 1 : -1]],
            "unwritten": bool(house.vault.new_words),
        }
        return house.pages.show(visit.request, "purse.html", visit.session, title="", **context)

    async def ask_withdrawal(self, visit: Visit) -> Response:
        """Show the commission before anything is done."""
        return await self._ask(visit, "withdraw.html", "Withdraw coins", lambda bank: bank.keyset.tariff.withdrawal)

    async def withdraw(self, visit: Visit) -> Response:
        async def work(wallet: Wallet, name: str, amount: Amount | None) -> tuple[str, str]:
            if amount is None:
                raise WalletError("say how much to withdraw")
            row = await withdraw(wallet, wallet.bank(name), amount, PATIENCE_MS)
            return describe(row), "good" if succeeded(row) else "info" if row.open else "bad"

        return await self._carry_out(visit, work)

    async def ask_return(self, visit: Visit) -> Response:
        """Show the commission before anything is done."""
        return await self._ask(visit, "put_back.html", "Put coins back", lambda bank: bank.keyset.tariff.redemption)

    async def put_back(self, visit: Visit) -> Response:
        async def work(wallet: Wallet, name: str, amount: Amount | None) -> tuple[str, str]:
            credited, notes = await put_back(wallet, await newest(wallet, wallet.bank(name)), amount)
            told = f"Credited to your account at {name}: {_worth(credited)}."
            return " ".join((told, *notes)), "info" if notes else "good"

        return await self._carry_out(visit, work)

    async def _ask(self, visit: Visit, page: str, title: str, tariff: Callable[[Bank], Commission]) -> Response:
        """Show the form or, if it was filled in well, what it will cost."""
        house = self._house
        async with house.vault.store() as store:
            accounts = await accounts_of(store)
            holdings = await store.holdings()
        if not accounts:
            return visit.onward("/banks", "Coins come from an account: enter the bank where you have one.", "info")
        wish = _read(visit.request, accounts)
        asked = wish.amount
        if asked is None and wish.bank is not None and "all" in visit.request.query_params:
            asked = _all_of(wish.bank, holdings)
        context: dict[str, Any] = {
            "accounts": [(one.row.name, one.row.name) for one in accounts],
            "bank": wish.bank,
            "typed": wish.typed,
            "wrong": wish.wrong,
            "amount": asked,
            "everything": asked is not None and wish.amount is None,
            "charge": tariff(wish.bank).charge(asked.value) if wish.bank is not None and asked is not None else 0,
            "once": house.entropy.bytes(_TOKEN_BYTES).hex(),
        }
        return house.pages.show(visit.request, page, visit.session, 422 if wish.wrong else 200, title=title, **context)

    async def _carry_out(
        self, visit: Visit, work: Callable[[Wallet, str, Amount | None], Coroutine[Any, Any, tuple[str, str]]]
    ) -> Response:
        """Do what a form has confirmed; the same form sent again does nothing more."""
        house, form = self._house, visit.form
        try:
            amount = parse_amount(form["amount"]) if form.get("amount") else None
        except MoneyError as error:
            return visit.onward(visit.request.url.path, str(error), "bad")

        async def do() -> tuple[str, str]:
            async with house.vault.wallet() as wallet:
                return await work(wallet, form.get("bank", ""), amount)

        task = await house.vault.once(f"{visit.request.url.path} {form.get('once', '')[:64]}", do)
        if not task.done():
            return visit.onward("/", "The bank has not answered yet. It goes on by itself; see below.", "info")
        told, kind = task.result()
        return visit.onward("/", told, kind)


async def accounts_of(store: WalletStore) -> Sequence[Bank]:
    """Return the banks where the wallet has an account."""
    return [Bank.of(row) for row in await store.banks() if row.account is not None]


def _read(request: Request, accounts: Sequence[Bank]) -> _Wish:
    query = request.query_params
    typed, name = query.get("amount", "").strip(), query.get("bank", "")
    bank = next((one for one in accounts if one.row.name == name), accounts[0] if len(accounts) == 1 else None)
    if not typed:
        return _Wish(bank, None, "", "")
    if bank is None:
        return _Wish(None, None, typed, "Say at which bank.")
    try:
        amount = parse_amount(typed, bank.row.currency)
    except MoneyError as error:
        return _Wish(bank, None, typed, str(error))
    wrong = "" if amount.value else "That is nothing: type how much."
    return _Wish(bank, None if wrong else amount, typed, wrong)


def _all_of(bank: Bank, holdings: Iterable[tuple[str, str, str, int, int]]) -> Amount | None:
    """Return what all free coins of an account's bank and currency are worth; None if there are none."""
    mine = (one for one in purses_of(holdings) if (one.bank, one.currency) == (bank.row.name, bank.row.currency))
    return next((Amount(one.free, one.currency) for one in mine if one.free), None)


def _open(row: ExchangeRow, now: int) -> Open:
    waits = isinstance(row.state, payment.Waiting)
    return Open(row, describe(row), max(0, (row.wake_at - now) // 1000) if waits else None)


def _worth(sums: Sums) -> str:
    return ", ".join(format_minor(value, currency) for currency, value in sums.items()) or "nothing"
