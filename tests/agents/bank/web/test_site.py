"""Who gets in, and that nobody else does."""

import re

import httpx
import pytest

from tests.agents.bank.web.conftest import HERE, ORIGIN, Operator, text_of
from tests.agents.world import Town

PAGES = ("/", "/accounts", "/accounts/1001", "/payouts", "/payouts/files/1", "/keys", "/commission", "/audit")
FORMS = ("/accounts", "/accounts/1001/credit", "/payouts", "/audit")
HOSTILE = "<script>alert(1)</script>\u202egnp.exe"


@pytest.mark.parametrize("path", [*PAGES, "/audit/events"])
async def test_without_the_key_no_page_is_shown(stranger: Operator, path: str) -> None:
    away = await stranger.browser.get(path)
    assert (away.status_code, away.headers["location"].partition("?")[0]) == (303, "/enter")


@pytest.mark.parametrize("typed", ["", "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aa", "what?", "ä" * 26])
async def test_a_wrong_key_opens_nothing(stranger: Operator, typed: str) -> None:
    wrong = await stranger.browser.post("/enter", data={"secret": typed}, headers=ORIGIN)
    assert wrong.status_code == 403
    assert "That is not the key." in text_of(wrong.text)
    assert (await stranger.browser.get("/")).status_code == 303


async def test_the_key_opens_however_it_is_spaced(stranger: Operator) -> None:
    stranger.key = stranger.key.replace("-", " ").upper()
    assert (await stranger.enter()).headers["location"] == "/"
    assert "Overview" in await stranger.see("/")


@pytest.mark.parametrize("path", FORMS)
async def test_a_form_of_another_site_or_without_its_token_does_nothing(operator: Operator, path: str) -> None:
    fields = {"kind": "client", "name": "mallory", "amount": "1.00", "reference": "x"}
    csrf = await operator.csrf()
    before = await operator.town.books.business()
    for form, headers in (
        (fields | {"csrf": csrf}, {"Origin": "http://evil.example"}),
        (fields | {"csrf": csrf}, {}),
        (fields, ORIGIN),
        (fields | {"csrf": csrf[:-1]}, ORIGIN),
    ):
        assert (await operator.browser.post(path, data=form, headers=headers)).status_code == 403
    assert await operator.town.books.business() == before
    assert [account.name for account, _ in await operator.town.books.accounts()] == ["bookshop"]
    assert not operator.auditor.running


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "bank.localhost", "bank.localhost:8082"])
async def test_the_site_answers_under_its_own_names_only(operator: Operator, host: str) -> None:
    assert (await operator.browser.get("/", headers={"Host": host})).status_code == 421
    assert (await operator.browser.get("/enter", headers={"Host": "bank.localhost:8081"})).status_code == 303


async def test_pages_allow_no_script_or_style_in_them(trade: Operator) -> None:
    for path in PAGES[:4] + PAGES[5:]:
        page = await trade.browser.get(path)
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"
        assert not re.search(r"<[^>]+\s(on\w+|style)=", page.text)
        assert not re.search(r"<script(?![^>]*src=)", page.text)
        assert "<style" not in page.text


async def test_titles_and_references_are_text(operator: Operator) -> None:
    account = await operator.town.books.open_account("client", "eve", HOSTILE, "USD", bytes(31) + b"\x01", b"")
    await operator.town.books.credit(account.number, 5, HOSTILE)
    for path in ("/accounts", f"/accounts/{account.number}"):
        page = (await operator.browser.get(path)).text
        assert "<script>alert" not in page
        assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;\u202egnp.exe</bdi>" in page


@pytest.mark.parametrize("path", ["/nowhere", "/accounts/4711", "/accounts/x", "/payouts/files/0", "/payouts/files/7"])
async def test_a_wrong_turn_is_told(operator: Operator, path: str) -> None:
    assert (await operator.browser.get(path)).status_code == 404
    assert (await operator.browser.get(f"/accounts/{'9' * 5000}")).status_code == 404


async def test_books_that_fail_are_told(operator: Operator, founded: Town) -> None:
    await founded.books.close()
    answer: httpx.Response = await operator.browser.get(f"{HERE}/accounts")
    assert answer.status_code == 503
    assert "the books are closed" in text_of(answer.text)
