"""The lecture's figure 2 in a browser: from choosing an order to the goods in the same page."""

import statistics
import sys

import pytest
from playwright.async_api import BrowserContext, Page

from .street import FILE, Street, order_number, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

PURCHASES = 9
WHEN_IT_COMES = """selector => new Promise(done => {
    const look = () => { if (document.querySelector(selector)) { done(Date.now()); return true; } };
    if (!look()) new MutationObserver((_, watching) => { if (look()) watching.disconnect(); })
        .observe(document.body, {childList: true, subtree: true});
})"""
WHEN_IT_IS_SENT = """() => document.querySelector('form[action="/pay"]')
    .addEventListener('submit', () => sessionStorage.setItem('sent', Date.now()), {capture: true})"""


async def ordered(page: Page, street: Street, article: str) -> str:
    """Choose an article in the shop; return the number of the order, whose page it is then."""
    await page.goto(street.url("shop"))
    await page.get_by_role("button", name=f"Buy {article}").click()
    await page.wait_for_url("**/orders/*")
    return order_number(page.url)


async def asked(context: BrowserContext, shop: Page) -> Page:
    """Click on *Pay with e-cash*; return the wallet's page that asks."""
    async with context.expect_page() as opening:
        await shop.get_by_role("link", name="Pay with e-cash").click()
    wallet = await opening.value
    await wallet.wait_for_load_state()
    return wallet


async def test_from_an_order_to_the_goods_in_nine_steps(
    street: Street, buyer: BrowserContext, shopkeeper: BrowserContext, page: Page
) -> None:
    office = await shopkeeper.new_page()

    await ordered(page, street, "Bluesky, a song")  # 1 select order, 2 the merchant's sale starts
    await page.evaluate("window.loadedOnce = true")
    assert "12.34 USD" in await text_of(page)
    await office.goto(f"{street.url('shop')}/office")
    assert "Bluesky, a song" in await text_of(office)

    wallet = await asked(buyer, page)  # 3 payment request
    assert wallet.url.startswith(f"{street.url('alice')}/pay?link=web%2Becash")
    question = await text_of(wallet)
    for told in ("Blue Note Records", "Certified by bank", "1 × Bluesky, a song", "12.34 USD"):
        assert told in question
    assert await street.sold() == []

    await wallet.get_by_role("button", name="Pay 12.34 USD").click()  # 4 payment, 5 deposit, 6 accepted
    await wallet.wait_for_url("**/history/*")
    assert "Bluesky, a song" in await text_of(wallet)  # 7 receipt
    assert "The words: blue skies" in await wallet.locator("#goods").input_value()

    await page.locator("#goods").wait_for()  # 8 send goods, 9 goods
    assert "The words: blue skies" in await page.locator("#goods").inner_text()
    assert await page.evaluate("window.loadedOnce") is True
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download bluesky.txt").click()
    assert (await (await downloading.value).path()).read_bytes() == FILE

    await office.reload()
    assert "12.34 USD" in await text_of(office)
    assert [one["amount"] for one in await street.sold()] == [1234]
    await street.books_balance()
    await wallet.close()
    await office.close()


async def test_a_buyer_gets_the_goods_again_and_nobody_else_does(
    street: Street, buyer: BrowserContext, shopkeeper: BrowserContext, page: Page
) -> None:
    await ordered(page, street, "A cup of")
    wallet = await asked(buyer, page)
    await wallet.get_by_role("button", name="Pay").click()
    await page.locator("#goods").wait_for()
    await page.reload()
    assert "Show this at the counter." in await page.locator("#goods").inner_text()

    stranger = await shopkeeper.new_page()
    refused = await stranger.goto(page.url)
    assert refused is not None
    assert refused.status == 404
    assert "counter" not in await text_of(stranger)
    await stranger.close()
    await wallet.close()


async def test_a_refund_goes_back_to_a_buyer_whom_nobody_knows(
    street: Street, buyer: BrowserContext, shopkeeper: BrowserContext, page: Page
) -> None:
    await ordered(page, street, "A cup of")
    wallet = await asked(buyer, page)
    await wallet.get_by_role("button", name="Pay").click()
    await page.locator("#goods").wait_for()
    await wallet.wait_for_url("**/history/*")
    before = await street.in_hand()

    sale = (await street.sold())[-1]["sale"]
    office = await shopkeeper.new_page()
    await office.goto(f"{street.url('shop')}/office/sales/{sale}")
    await office.locator("input[name=amount]").fill("0.20")
    await office.get_by_role("button", name="Refund").click()
    await office.get_by_role("button", name="Grant 0.20 USD").click()
    await office.wait_for_url(f"**/sales/{sale}")
    await page.reload()
    assert "0.20 USD is yours" in await text_of(page)

    await wallet.get_by_role("button", name="Collect").click()
    await wallet.get_by_text("Collected a refund of 0.20 USD").first.wait_for()
    assert await street.in_hand() == before + 20
    await street.books_balance()
    await office.close()
    await wallet.close()


async def test_how_long_it_takes_from_the_click_to_the_goods(
    street: Street, buyer: BrowserContext, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    took = []
    for _ in range(PURCHASES):
        await ordered(page, street, "A cup of")
        wallet = await asked(buyer, page)
        await wallet.evaluate(WHEN_IT_IS_SENT)
        button = wallet.get_by_role("button", name="Pay")
        if "Withdraw" in (await button.inner_text()) or "first" in await text_of(wallet):
            await button.click()  # coins are got ready first: not what is measured
            await page.locator("#goods").wait_for()
            await wallet.close()
            continue
        await button.click()
        came = await page.evaluate(WHEN_IT_COMES, "#goods")
        await wallet.wait_for_url("**/history/*")
        took.append(came - int(await wallet.evaluate("sessionStorage.getItem('sent')")))
        await wallet.close()
    assert took
    figures = f"median {statistics.median(took):.0f} ms, fastest {min(took)} ms, slowest {max(took)} ms"
    with capsys.disabled():
        sys.stdout.write(f"\nFrom the click on Pay to the goods in the shop's page: {figures}, {len(took)} purchases\n")
