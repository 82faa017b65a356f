from collections.abc import AsyncIterator

import pytest

from agents.merchant.web import crowd
from agents.merchant.web.buyer import COOKIE
from protocol.messages import Certificate
from tests.agents.merchant.south import SOUTH, South
from tests.agents.world import Town
from tests.simulation.clock import VirtualClock

from .storefront import HOSTILE, Storefront, open_shop, ordered, storefront


@pytest.fixture
async def site(founded: Town) -> Storefront:
    await founded.start_bank()
    await open_shop(founded)
    return storefront(founded)


@pytest.fixture
async def two_currencies(founded: Town) -> AsyncIterator[Storefront]:
    south = South(founded)
    await south.found()
    await founded.start_bank()
    await south.start()
    await founded.start_shop()
    yield storefront(founded)
    await founded.stop_shop()
    await south.stop()


async def count(site: Storefront) -> int:
    return len(await site.town.shop.orders.recent())


async def test_the_catalogue_shows_what_is_sold_and_who_certifies_the_shop(site: Storefront) -> None:
    async with site.browser() as browser:
        page = (await browser.get("/")).text
    assert "A novel of manners" in page
    assert "In three volumes." in page
    assert "0.13" in page
    assert "<strong>north</strong> certifies it as <strong>The Bookshop</strong>" in page
    assert COOKIE not in browser.cookies


async def test_a_hostile_catalogue_stays_text(site: Storefront) -> None:
    async with site.browser() as browser:
        page = (await browser.get("/")).text
        assert HOSTILE not in page
        assert "&lt;script&gt;alert(1)" in page
        shown = (await browser.get(await ordered(browser, buy="evil"))).text
    assert HOSTILE not in shown
    assert "&lt;script&gt;alert(1)" in shown


async def test_the_quantities_of_a_form_become_one_order(site: Storefront) -> None:
    async with site.browser() as browser:
        path = await ordered(browser, **{"quantity-novel": "2", "quantity-song": "1", "quantity-evil": "0"})
        page = (await browser.get(path)).text
    [sight] = await site.town.shop.orders.recent()
    assert path == f"/orders/{sight.order.id}"
    assert sight.sale.amount == 31
    assert "2 × A novel of manners" in page
    assert "1 × Bluesky" in page


@pytest.mark.parametrize(("typed", "amount"), [("", 13), ("0", 13), ("3", 39)])
async def test_buy_takes_one_article_alone(site: Storefront, typed: str, amount: int) -> None:
    async with site.browser() as browser:
        await ordered(browser, **{"buy": "novel", "quantity-novel": typed, "quantity-song": "5"})
    [sight] = await site.town.shop.orders.recent()
    assert sight.sale.amount == amount


async def test_a_browser_is_known_by_the_hash_of_its_cookie(site: Storefront) -> None:
    async with site.browser() as browser:
        answer = await browser.post("/orders", data={"bank": "north", "buy": "novel"})
        secret = browser.cookies[COOKIE]
        set_cookie = answer.headers["set-cookie"].lower()
        await ordered(browser, buy="song")
        assert browser.cookies[COOKIE] == secret
    assert len(bytes.fromhex(secret)) == 32
    assert "httponly" in set_cookie
    assert "samesite=lax" in set_cookie
    assert "secure" not in set_cookie
    buyers = {sight.order.buyer for sight in await site.town.shop.orders.recent()}
    assert len(buyers) == 1
    assert secret.encode() not in (site.town.folder / "shop" / "sales.db").read_bytes()


async def test_a_cookie_that_the_shop_did_not_make_is_replaced(site: Storefront) -> None:
    async with site.browser(Cookie=f"{COOKIE}=short") as browser:
        answer = await browser.post("/orders", data={"bank": "north", "buy": "novel"})
    assert "short" not in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "write how many you want"),
        ({"quantity-novel": "0", "quantity-song": ""}, "write how many you want"),
        ({"quantity-novel": "-1"}, "write a number from 1 to 10,000"),
        ({"quantity-novel": "1.5"}, "write a number from 1 to 10,000"),
        ({"quantity-novel": "10001"}, "write a number from 1 to 10,000"),
        ({"quantity-novel": "9" * 5000}, "write a number from 1 to 10,000"),
        ({"quantity-novel": "٣"}, "write a number from 1 to 10,000"),
        ({"quantity-novel": HOSTILE}, "write a number from 1 to 10,000"),
        ({"quantity-opera": "1"}, "is not sold any more"),
        ({"buy": "opera"}, "is not sold any more"),
        ({"buy": HOSTILE}, "is not sold any more"),
        ({"buy": "novel", "bank": "nowhere"}, "takes no coins of this bank"),
        ({"buy": "novel", "bank": "\0" * 60}, "Nothing was ordered"),
    ],
)
async def test_a_wrong_order_is_told_in_the_catalogue(site: Storefront, fields: dict[str, str], told: str) -> None:
    async with site.browser() as browser:
        answer = await browser.post("/orders", data={"bank": "north"} | fields)
    assert answer.status_code == 400
    assert told in answer.text
    assert HOSTILE not in answer.text
    assert await count(site) == 0


async def test_what_was_typed_stays_in_the_form(site: Storefront) -> None:
    async with site.browser() as browser:
        answer = await browser.post("/orders", data={"quantity-novel": "7", "quantity-song": "many"})
    assert 'value="7"' in answer.text
    assert 'role="alert"' in answer.text


async def test_what_is_no_form_is_refused(site: Storefront) -> None:
    async with site.browser() as browser:
        assert (await browser.post("/orders", json={"buy": "novel"})).status_code == 415
        assert (await browser.get("/orders")).status_code == 405


async def test_each_currency_is_an_order_of_its_own(two_currencies: Storefront) -> None:
    async with two_currencies.browser() as browser:
        page = (await browser.get("/")).text
        assert "Paid in USD" in page
        assert "Paid in EUR" in page
        path = await ordered(browser, bank=SOUTH, buy="verse")
        assert "0.11" in (await browser.get(path)).text
        mixed = {"bank": SOUTH, "quantity-verse": "1", "quantity-novel": "1"}
        assert (await browser.post("/orders", data=mixed)).status_code == 400
    assert await count(two_currencies) == 1


async def test_with_several_banks_of_a_currency_the_buyer_chooses(site: Storefront) -> None:
    banks = site.town.shop.desk.banks
    banks["west"] = banks["north"]._replace(certificate=_named(banks["north"].certificate, "The Western Bookshop"))
    async with site.browser() as browser:
        page = (await browser.get("/")).text
    assert "Pay with coins of" in page
    assert '<option value="west">west</option>' in page
    assert "The Western Bookshop" in page


def _named(one: Certificate, name: str) -> Certificate:
    return Certificate(one.bank, one.account, one.currency, one.merchant, name, one.key, one.issued_at)


async def test_a_shop_that_no_bank_certifies_sells_nothing(site: Storefront) -> None:
    site.town.shop.desk.banks.clear()
    async with site.browser() as browser:
        page = await browser.get("/")
        answer = await browser.post("/orders", data={"bank": "north", "buy": "novel"})
    assert "Nothing can be bought at the moment" in page.text
    assert answer.status_code == 400


async def test_an_order_needs_no_bank_that_is_there(site: Storefront) -> None:
    await site.town.stop_bank()
    async with site.browser() as browser:
        path = await ordered(browser, buy="novel")
        assert "Waiting for payment" in (await browser.get(path)).text


async def test_a_browser_may_have_so_many_open_orders(site: Storefront, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "MAX_OPEN_OF_BUYER", 2)
    async with site.browser() as browser, site.browser() as other:
        for _ in range(2):
            await ordered(browser, buy="novel")
        answer = await browser.post("/orders", data={"bank": "north", "buy": "novel"})
        assert answer.status_code == 429
        assert "not paid" in answer.text
        await ordered(other, buy="novel")
    assert await count(site) == 3


async def test_the_shop_may_have_so_many_open_orders_until_they_expire(
    site: Storefront, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "MAX_OPEN", 1)
    async with site.browser() as browser:
        await ordered(browser, buy="novel")
    async with site.browser() as other:
        assert (await other.post("/orders", data={"bank": "north", "buy": "novel"})).status_code == 429
        clock.advance(16 * 60_000)
        await ordered(other, buy="novel")
