"""The first page, withdrawing, and putting back."""

import asyncio
import re
from typing import Any

import pytest

from agents.client.pay import pay
from agents.client.web.purse import purses_of
from protocol.wallet import payment
from tests.agents.client.purses import answers
from tests.agents.world import Town, cash, states
from tests.simulation.network import Network

from .browser import Browser


def once(browser: Browser) -> str:
    found = re.search(r'name="once" value="([0-9a-f]{32})"', browser.page)
    assert found
    return found[1]


async def free(browser: Browser) -> int:
    async with browser.vault.wallet() as wallet:
        return (await states(wallet)).get("free", 0)


class TestThePicture:
    def test_coins_are_added_up_by_bank_and_currency(self) -> None:
        purses = purses_of(
            [
                ("north", "JPY", "free", 1024, 1),
                ("north", "USD", "free", 1024, 2),
                ("north", "USD", "free", 1, 3),
                ("north", "USD", "reserved", 8, 1),
                ("south", "USD", "aside", 4, 1),
                ("south", "USD", "unverified", 4, 1),
                ("south", "USD", "unverified", 2, 2),
            ]
        )
        assert [(one.bank, one.currency, one.free) for one in purses] == [
            ("north", "JPY", 1024),
            ("north", "USD", 2051),
            ("south", "USD", 0),
        ]
        assert purses[1].pile == [("10.24", 2, 8), ("0.01", 3, 1)]
        assert [total for total, _ in purses[1].others] == [8]
        assert [total for total, _ in purses[2].others] == [4, 8]

    def test_every_value_has_a_size_and_a_greater_one_is_not_smaller(self) -> None:
        sizes = [purses_of([("b", "USD", "free", 1 << n, 1)])[0].pile[0][2] for n in range(53)]
        assert sizes == sorted(sizes)
        assert (sizes[0], sizes[-1]) == (1, 8)


class TestTheFirstPage:
    async def test_of_a_new_wallet_leads_to_a_bank(self, owner: Browser) -> None:
        page = await owner.get("/")
        assert "knows no bank yet" in page.text
        assert 'href="/banks"' in page.text
        assert 'action="/withdraw"' not in page.text

    async def test_shows_coins_in_hand_and_what_was_done_lately(self, alice: Browser) -> None:
        assert "No coins in hand" in (await alice.get("/")).text
        async with alice.vault.wallet() as wallet:
            row = await cash(wallet, 7)
        page = (await alice.get("/")).text
        assert "0.07 <span" in page
        assert "coins of north" in page
        assert "Withdrew 0.07 USD from north" in page
        assert f'href="/history/{row.id.hex()}"' in page
        assert "Under way" not in page
        assert 'data-register="registered"' in page

    async def test_shows_what_is_under_way(self, town: Town, alice: Browser, network: Network) -> None:
        async with alice.vault.wallet() as wallet:
            await cash(wallet, 40)
            async with wallet.presence(town.address.broker) as requester:
                quote = await town.order(wallet, requester)
                network.loses = answers
                row = await pay(wallet, quote, requester, patience_ms=0)
        assert isinstance(row.state, payment.Paying)
        page = (await alice.get("/")).text
        assert "Under way" in page
        assert "0.13 <span" in page
        assert "in payments and exchanges that are under way" in page


class TestWithdrawing:
    async def test_the_commission_is_shown_before_and_the_coins_come_once(
        self, alice: Browser, network: Network
    ) -> None:
        page = (await alice.get("/withdraw?amount=0.31")).text
        assert "Withdraw 0.31 USD" in page
        assert "0.34 <span" in page
        assert await free(alice) == 0
        form: dict[str, Any] = {"amount": "0.31 USD", "bank": "north", "once": once(alice)}
        clicks = await asyncio.gather(*(alice.post("/withdraw", **form) for _ in range(3)))
        clicks.append(await alice.post("/withdraw", **form))
        assert {click.headers["location"] for click in clicks} == {"/"}
        assert "Withdrew 0.31 USD from north (commission 0.03 USD)" in (await alice.get("/")).text
        assert await free(alice) == 31

    @pytest.mark.parametrize(
        ("typed", "wrong"), [("x", "not an amount"), ("1.234", "too fine"), ("0", "nothing"), ("5 EUR", "not in USD")]
    )
    async def test_what_is_no_amount_is_told_where_it_was_typed(self, alice: Browser, typed: str, wrong: str) -> None:
        page = await alice.get(f"/withdraw?amount={typed}")
        assert page.status_code == 422
        assert wrong in page.text
        assert 'aria-invalid="true"' in page.text

    async def test_a_form_that_was_tampered_with_withdraws_nothing(self, alice: Browser) -> None:
        forms: list[dict[str, Any]] = [
            {"amount": "x", "bank": "north"},
            {"amount": "", "bank": "north"},
            {"amount": "0.05 USD", "bank": "south"},
            {"amount": "0.05 EUR", "bank": "north"},
        ]
        for form in forms:
            sent = await alice.post("/withdraw", once="1", **form)
            assert sent.status_code == 303
            assert 'class="notice bad"' in (await alice.get("/")).text
        assert await free(alice) == 0

    async def test_more_than_the_account_holds_is_refused_and_told(self, alice: Browser) -> None:
        async with alice.vault.wallet() as wallet:
            for _ in range(2):
                await cash(wallet, 40)
        await alice.get("/withdraw?amount=0.20")
        await alice.post("/withdraw", amount="0.20 USD", bank="north", once=once(alice))
        assert "refused to pay out 0.20 USD" in (await alice.get("/")).text

    async def test_without_an_answer_it_goes_on_by_itself(self, alice: Browser, network: Network) -> None:
        network.loses = answers
        await alice.get("/withdraw?amount=0.05")
        alice.vault._patience_s = 1.0
        sent = await alice.post("/withdraw", amount="0.05 USD", bank="north", once=once(alice))
        assert sent.headers["location"] == "/"
        assert "goes on by itself" in (await alice.get("/")).text

    async def test_without_an_account_it_leads_to_one(self, owner: Browser) -> None:
        assert (await owner.get("/withdraw")).headers["location"] == "/banks"


class TestPuttingBack:
    async def test_an_amount_or_all_of_it(self, alice: Browser) -> None:
        async with alice.vault.wallet() as wallet:
            await cash(wallet, 40)
        await alice.get("/put-back?amount=0.04")
        form: dict[str, Any] = {"amount": "0.04 USD", "bank": "north", "once": once(alice)}
        for _ in range(2):
            assert (await alice.post("/put-back", **form)).headers["location"] == "/"
        assert await free(alice) == 36
        assert "Credited to your account at north: 0.04 USD" in (await alice.get("/")).text
        page = await alice.get("/put-back?amount=&all=yes")
        assert "Put 0.36 USD back" in page.text
        await alice.post("/put-back", bank="north", once=once(alice))
        assert await free(alice) == 0

    async def test_without_coins_there_is_nothing_to_confirm(self, alice: Browser) -> None:
        page = await alice.get("/put-back?all=yes")
        assert 'name="once"' not in page.text
