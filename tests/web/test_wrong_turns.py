"""Wrong turns: each ends in a page that says what happened and what to do, and in right books."""

import asyncio

import pytest
from playwright.async_api import BrowserContext, Page, Playwright

from .street import Street, enter, person, text_of
from .test_nine_steps import asked, ordered

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_locked_wallet_asks_for_the_passphrase_and_goes_on(
    street: Street, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with person(playwright, tmp_path_factory.mktemp("locked")) as context:
        shop = await context.new_page()
        await ordered(shop, street, "A cup of")
        link = await shop.get_by_role("link", name="Pay with e-cash").get_attribute("href")
        wallet = await context.new_page()
        await wallet.goto(f"{street.url('alice')}/pay")
        assert "/unlock" in wallet.url
        await wallet.locator("input[type=password]").fill("not the passphrase")
        await wallet.locator("input[type=password]").press("Enter")
        await wallet.get_by_text("not this wallet’s passphrase").wait_for()
        await enter(wallet)
        assert wallet.url.endswith("/pay")
        await wallet.locator("textarea[name=link]").fill(link or "")
        await wallet.get_by_role("button", name="See what it asks for").click()
        await wallet.get_by_role("button", name="Pay").click()
        await shop.locator("#goods").wait_for()
    await street.books_balance()


async def test_not_enough_money(street: Street, buyer: BrowserContext, page: Page) -> None:
    held, sold = await street.in_hand(), len(await street.sold())
    await ordered(page, street, "A grand piano")
    wallet = await asked(buyer, page)
    told = await text_of(wallet)
    assert "Not enough money" in told
    assert "The shop asks for 90.00 USD." in told
    assert "Bring money to the bank" in told
    assert len(await street.sold()) == sold
    assert await street.in_hand() == held
    await street.books_balance()
    await wallet.close()


async def test_a_double_click_pays_once(street: Street, buyer: BrowserContext, page: Page) -> None:
    sold, held = len(await street.sold()), await street.in_hand()
    await ordered(page, street, "A cup of")
    wallet = await asked(buyer, page)
    await wallet.get_by_role("button", name="Pay").dblclick()
    await page.locator("#goods").wait_for()
    await wallet.wait_for_url("**/history/*")
    assert len(await street.sold()) == sold + 1
    assert held - await street.in_hand() == 50
    await wallet.close()


async def test_two_pages_with_the_same_question_pay_once(street: Street, buyer: BrowserContext, page: Page) -> None:
    sold = len(await street.sold())
    await ordered(page, street, "A cup of")
    both = [await asked(buyer, page), await asked(buyer, page)]
    await asyncio.gather(*(one.get_by_role("button", name="Pay").click() for one in both))
    for one in both:
        await one.wait_for_url("**/history/*")
        assert "Paid 0.50 USD" in await text_of(one)
        await one.close()
    assert len(await street.sold()) == sold + 1


async def test_reload_and_back_button_pay_nothing_again(street: Street, buyer: BrowserContext, page: Page) -> None:
    await ordered(page, street, "A cup of")
    await page.reload()  # in the middle: the same order
    wallet = await asked(buyer, page)
    await wallet.reload()
    await wallet.get_by_role("button", name="Pay").click()
    await wallet.wait_for_url("**/history/*")
    paid = wallet.url
    sold = len(await street.sold())
    await wallet.reload()
    assert "Paid 0.50 USD" in await text_of(wallet)
    await wallet.go_back()
    button = wallet.get_by_role("button", name="Pay")
    if await button.count():  # the page as it was before, from the browser's memory
        await button.click()
        await wallet.wait_for_url("**/history/*")
    assert wallet.url == paid
    assert len(await street.sold()) == sold
    await street.books_balance()
    await wallet.close()


async def test_an_offer_that_has_expired(street: Street, buyer: BrowserContext, page: Page) -> None:
    sold = len(await street.sold())
    await street.hasty_shop(minutes=0.05)
    try:
        await ordered(page, street, "A cup of")
        wallet = await asked(buyer, page)
        await page.get_by_text("The time for this order is over").first.wait_for()
        assert not await wallet.get_by_role("button", name="Pay").is_visible()
        await wallet.get_by_text("The time for this offer is over").first.wait_for()
        assert "order again" in (await text_of(wallet)).lower()
        await page.reload()
        assert "Nothing was paid" in await text_of(page)
        assert len(await street.sold()) == sold
        await street.books_balance()
        await wallet.close()
    finally:
        await street.close_shop()
        await street.open_shop()


async def test_a_merchant_who_is_away_when_the_question_is_asked(
    street: Street, buyer: BrowserContext, page: Page
) -> None:
    await ordered(page, street, "A cup of")
    wallet = await asked(buyer, page)
    await street.close_shop()
    try:
        await wallet.get_by_role("button", name="Pay").click()
        await wallet.wait_for_url("**/history/*")
        told = await text_of(wallet)
        assert "no receipt yet" in told or "has not" in told
        lost = page.get_by_text("The connection to the shop is lost")
        await lost.wait_for()
    finally:
        await street.open_shop()
    await page.locator("#goods").wait_for(timeout=60_000)  # the wallet goes on by itself, and so does the shop's page
    await wallet.get_by_text("Paid 0.50 USD").first.wait_for()
    await street.books_balance()
    await wallet.close()


async def test_a_link_that_is_none(street: Street, page: Page) -> None:
    for link in ("web+ecash:pay/abcdef", "https://evil.example/", "web+ecash:pay/" + "a" * 20_000):
        await page.goto(f"{street.url('alice')}/pay")
        await page.locator("textarea[name=link]").fill(link)
        await page.get_by_role("button", name="See what it asks for").click()
        await page.get_by_text("payment link").first.wait_for()
        assert await page.get_by_role("button", name="Pay").count() == 0
