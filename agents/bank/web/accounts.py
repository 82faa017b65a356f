"""Accounts: the list, one account with its last entries, opening one, crediting one."""

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from protocol.bank.desk import Account
from protocol.errors import PeerError
from protocol.messages import CLIENT, MERCHANT
from protocol.money import parse_amount
from protocol.topics import check_name

from ...invitation import hash_invitation, write_invitation
from ...web.gate import Visit
from ..store import AccountNameTaken, ReferenceReused
from .office import Office, number_in

LAST_ENTRIES: Final = 100
_LONGEST: Final = 120
_MOST_WAITING: Final = 16
_KINDS: Final = (CLIENT, MERCHANT)
MOVED_BY: Final = {
    "funding": "Credited",
    "withdraw": "Withdrawal",
    "deposit": "Deposit",
    "refund": "Refund",
    "redeem": "Redemption",
    "payout": "Payout",
    "payout_return": "Payout returned",
}
"""What a posting that moves an account is called."""


def line_of(text: str, what: str) -> str:
    """Return a line of text that somebody has typed.

    Raises:
        ValueError: if it is empty, too long or cannot be printed, with a sentence.
    """
    if not 0 < len(text) <= _LONGEST or not text.isprintable():
        raise ValueError(f"{what} is a line of 1 to {_LONGEST} characters")
    return text


def holder_of(form: dict[str, str], bank: str) -> tuple[str, str, str]:
    """Return kind, name and title of the account that a form asks for.

    Raises:
        ValueError: with a sentence for the person who typed it.
    """
    kind, name = form.get("kind", ""), form.get("name", "")
    if kind not in _KINDS:
        raise ValueError("an account is a client’s or a merchant’s")
    try:
        check_name(name)
    except PeerError as error:
        raise ValueError(f"{name[:40]!r} is no name: {error.detail}") from error
    if name == bank:
        raise ValueError(f"{name} is the bank’s own name on topics: choose another one")
    return kind, name, line_of(form.get("title", "") or name, "the title")


class _Invitations:
    """Invitations that wait to be shown, once and in the session that made them."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[int, str]] = {}

    def put(self, visit: Visit, account: int, invitation: str) -> None:
        """Keep the invitation to an account for the page that comes next."""
        if len(self._waiting) >= _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[visit.session.csrf] = (account, invitation)

    def take(self, visit: Visit, account: int) -> str:
        """Return the invitation to an account if it was just made here, and forget it."""
        if visit.request.method != "GET" or self._waiting.get(visit.session.csrf, (0, ""))[0] != account:
            return ""
        return self._waiting.pop(visit.session.csrf)[1]


async def account_in(office: Office, request: Request) -> tuple[Account, int]:
    """Return the account that a path names, and its balance.

    Raises:
        HTTPException: 404 if there is none.
    """
    number = number_in(request)
    for account, balance in await office.books.accounts():
        if account.number == number:
            return account, balance
    raise HTTPException(404, f"There is no account {number}.")


def routes(office: Office) -> list[BaseRoute]:
    """Return the routes of the accounts."""
    return [*_opening(office), *_crediting(office)]


def _opening(office: Office) -> list[BaseRoute]:
    invitations = _Invitations()
    currency = office.settings.currency

    async def show_all(visit: Visit) -> Response:
        accounts, kinds = await office.books.accounts(), [(CLIENT, "Client"), (MERCHANT, "Merchant")]
        shown: dict[str, Any] = {"title": "Accounts", "accounts": accounts, "kinds": kinds}
        return office.pages.show(visit.request, "accounts.html", visit.session, **shown)

    async def open_one(visit: Visit) -> Response:
        secret = office.entropy.bytes(16)
        try:
            kind, name, title = holder_of(visit.form, office.settings.name)
            hashed = hash_invitation(secret)
            opened = await office.books.open_account(kind, name, title, currency, b"", hashed)
        except (ValueError, AccountNameTaken) as error:
            return visit.onward("/accounts", f"No account was opened: {error}.", "bad")
        invitations.put(visit, opened.number, write_invitation(secret))
        return visit.onward(f"/accounts/{opened.number}", f"Account {opened.number} is open.")

    async def show(visit: Visit) -> Response:
        account, balance = await account_in(office, visit.request)
        shown: dict[str, Any] = {
            "title": f"Account {account.number}",
            "account": account,
            "balance": balance,
            "rows": await office.books.statement(account.number, LAST_ENTRIES),
            "names": MOVED_BY,
            "invitation": invitations.take(visit, account.number),
            "address": str(await office.address()),
        }
        return office.pages.show(visit.request, "account.html", visit.session, **shown)

    return [
        office.get("/accounts", show_all),
        office.post("/accounts", open_one),
        office.get("/accounts/{number}", show),
    ]


def _crediting(office: Office) -> list[BaseRoute]:
    async def credit(visit: Visit) -> Response:
        account, _ = await account_in(office, visit.request)
        page = f"/accounts/{account.number}"
        try:
            paid = parse_amount(visit.form.get("amount", ""), account.currency)
            reference = line_of(visit.form.get("reference", ""), "the reference")
            if not paid.value:
                raise ValueError("the amount is 0")
            booked = await office.books.credit(account.number, paid.value, reference)
        except (ValueError, ReferenceReused) as error:
            return visit.onward(page, f"Nothing was credited: {error}.", "bad")
        if not booked:
            return visit.onward(
                page, "This was credited before, under the same reference: nothing has changed.", "info"
            )
        return visit.onward(page, f"Account {account.number} is credited with {paid}.")

    return [office.post("/accounts/{number}/credit", credit)]
