import re

import pytest

from agents.invitation import hash_invitation, read_invitation
from tests.agents.bank.web.conftest import ORIGIN, Operator

INVITATION = re.compile(r"\b(?:[a-z2-7]{4}-){6}[a-z2-7]{2}\b")


async def test_an_account_is_opened_and_its_invitation_is_shown_once(operator: Operator) -> None:
    page = await operator.send("/accounts", "/accounts", kind="client", name="alice", title="Alice B.")
    assert "Account 1002 is open." in page
    (invitation,) = set(INVITATION.findall(page))
    books = operator.town.books
    opened = await books.account_by_invitation(hash_invitation(read_invitation(invitation)))
    assert opened is not None
    assert (opened.number, opened.kind, opened.name, opened.title) == (1002, "client", "alice", "Alice B.")
    assert str(operator.town.address) in page
    assert not INVITATION.search(await operator.see("/accounts/1002"))


async def test_an_invitation_is_in_no_address_and_on_no_other_page(operator: Operator) -> None:
    form = {"kind": "merchant", "name": "shop", "csrf": await operator.csrf()}
    sent = await operator.browser.post("/accounts", data=form, headers=ORIGIN)
    assert sent.headers["location"] == "/accounts/1002"
    assert not INVITATION.search(sent.text)
    for path in ("/accounts", "/accounts/1001", "/"):
        assert not INVITATION.search(await operator.see(path))
    assert (await operator.browser.head("/accounts/1002")).status_code == 200
    assert INVITATION.search(await operator.see("/accounts/1002"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"kind": "bank", "name": "alice"}, "a client’s or a merchant’s"),
        ({"kind": "client", "name": "Alice"}, "is no name"),
        ({"kind": "client", "name": ""}, "is no name"),
        ({"kind": "merchant", "name": "north"}, "the bank’s own name"),
        ({"kind": "client", "name": "alice", "title": "x" * 121}, "1 to 120 characters"),
        ({"kind": "client", "name": "alice", "title": "Al\u202eice"}, "1 to 120 characters"),
        ({"kind": "merchant", "name": "bookshop"}, "there is a merchant named 'bookshop' already"),
        ({}, "a client’s or a merchant’s"),
    ],
)
async def test_what_is_no_account_is_not_opened(operator: Operator, fields: dict[str, str], why: str) -> None:
    page = await operator.send("/accounts", "/accounts", **fields)
    assert "No account was opened" in page
    assert why in page
    assert len(await operator.town.books.accounts()) == 1


async def test_the_same_credit_again_changes_nothing(operator: Operator) -> None:
    form = {"amount": "12.50", "reference": "statement 7"}
    page = await operator.send("/accounts/1001/credit", "/accounts/1001", **form)
    assert "Account 1001 is credited with 12.50 USD." in page
    assert "Credited: statement 7 1 12.50 USD" in page
    done = await operator.town.books.business()
    again = await operator.send("/accounts/1001/credit", "/accounts/1001", **form)
    assert "This was credited before, under the same reference: nothing has changed." in again
    assert await operator.town.books.business() == done


@pytest.mark.parametrize(
    ("amount", "reference", "why"),
    [
        ("", "x", "is not an amount"),
        ("-1", "x", "is not an amount"),
        ("0", "x", "the amount is 0"),
        ("1.001", "x", "too fine"),
        ("1.00 EUR", "x", "not in USD"),
        ("9" * 30, "x", "is not an amount"),
        ("1.00", "", "the reference is a line"),
        ("1.00", "x" * 121, "the reference is a line"),
        ("1.00", "a\x00b", "the reference is a line"),
        ("2.00", "known", "was booked as 100 for account 1001"),
    ],
)
async def test_what_is_no_credit_is_not_booked(operator: Operator, amount: str, reference: str, why: str) -> None:
    await operator.town.books.credit(1001, 100, "known")
    page = await operator.send("/accounts/1001/credit", "/accounts/1001", amount=amount, reference=reference)
    assert "Nothing was credited" in page
    assert why in page
    assert await operator.town.books.balance(1001) == 100


async def test_an_account_that_does_not_exist_is_not_credited(operator: Operator) -> None:
    form = {"amount": "1.00", "reference": "x", "csrf": await operator.csrf()}
    assert (await operator.browser.post("/accounts/4711/credit", data=form, headers=ORIGIN)).status_code == 404


async def test_a_statement_tells_what_moved_the_account(trade: Operator) -> None:
    page = await trade.see(f"/accounts/{trade.town.shop_number}")
    assert re.search(r"Payout \d −0\.25 USD .* Payout \d −0\.10 USD .* Credited: takings \d 1\.00 USD", page)
