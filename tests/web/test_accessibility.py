"""Every page of the three sites: for those who cannot see it, have a small screen, no mouse, or no JavaScript."""

from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Page, Playwright, ViewportSize

from .street import enter, text_of
from .tour import Stop, Town, tour, town

pytestmark = pytest.mark.asyncio(loop_scope="session")

WIDE: Final[ViewportSize] = {"width": 1280, "height": 800}
NARROW: Final[ViewportSize] = {"width": 360, "height": 740}
AXE: Final = files("axe_playwright_python").joinpath("axe.min.js").read_text()
RULES: Final = {"resultTypes": ["violations"]}
MOST_TABS: Final = 30
ENOUGH: Final = 200
EXPECTED_STOPS: Final = 70


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def open_town(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A street of these tests' own: the tour sells, closes and stops what it likes."""
    async with town(tmp_path_factory.mktemp("tour"), playwright) as made:
        yield made


async def violations(page: Page) -> list[str]:
    """Return what axe-core finds wrong with a page, and where."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE)
    found: dict[str, Any] = await page.evaluate("rules => axe.run(rules)", RULES)
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {', '.join(str(node['target']) for node in one['nodes'])}"
        for one in found["violations"]
    ]


async def faults(stop: Stop, *, dark: bool) -> list[str]:
    """Look at a page on a large screen and on a phone, there in the dark if that is asked for."""
    page, found = stop.page, []
    await page.set_viewport_size(WIDE)
    found += [f"wide: {told}" for told in await violations(page)]
    await page.set_viewport_size(NARROW)
    wide = await page.evaluate("document.documentElement.scrollWidth")
    if wide > NARROW["width"]:
        found.append(f"it is {wide} pixels wide on a phone")
    if await page.locator("h1").count() != 1:
        found.append("it has not one heading of the first rank")
    if dark:
        await page.emulate_media(color_scheme="dark")
        found += [f"dark, narrow: {told}" for told in await violations(page)]
        await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(WIDE)
    return [f"{stop.name}: {told}" for told in found]


async def test_every_page_is_accessible_fits_a_phone_and_keeps_its_policy(open_town: Town) -> None:
    found: list[str] = []
    seen: list[str] = []
    async for stop in tour(open_town):
        found += await faults(stop, dark=len(seen) % 4 == 0)
        seen.append(stop.name)
    assert found == []
    assert open_town.complaints == []
    assert len(set(seen)) == len(seen)
    assert len(seen) >= EXPECTED_STOPS


async def focused(page: Page) -> str:
    """Return what a screen reader would say of the place where the keyboard is, about."""
    told: str = await page.evaluate(
        "(at => (at.getAttribute('aria-label') || at.labels?.[0]?.innerText || at.innerText || at.id).trim())"
        "(document.activeElement)"
    )
    return " ".join(told.split())


async def tab_to(page: Page, name: str) -> list[str]:
    """Press Tab until a control of this name is reached; return the names of all that had the focus."""
    passed: list[str] = []
    while not passed or not passed[-1].startswith(name):
        assert len(passed) < MOST_TABS, f"the keyboard does not reach {name!r}, but {passed}"
        await page.keyboard.press("Tab")
        passed.append(await focused(page))
    return passed


async def with_coins(town: Town) -> Page:
    """Return the page of Alice's wallet, unlocked, with coins in it."""
    page, wallet = town.alice, town.street.url("alice")
    await page.goto(wallet)
    if "/unlock" in page.url:
        await enter(page)
    if await town.street.in_hand() < ENOUGH:
        await page.goto(f"{wallet}/withdraw?amount=5.00")
        await page.get_by_role("button", name="Withdraw").click()
        await page.wait_for_url(f"{wallet}/")
    return page


async def test_a_whole_purchase_with_the_keyboard_alone(open_town: Town) -> None:
    wallet, shop, sold = await with_coins(open_town), open_town.till, len(await open_town.street.sold())
    await shop.bring_to_front()
    await shop.goto(open_town.street.url("shop"))
    assert (await tab_to(shop, "Buy A cup of"))[0] == "Skip to the content"
    await shop.keyboard.press("Enter")
    await shop.wait_for_url("**/orders/*")
    passed = [*await tab_to(shop, "Pay with e-cash"), *await tab_to(shop, "Copy")]
    assert passed[-3:] == ["Pay with e-cash", "text of the code", "Copy the text of the code"]
    await shop.keyboard.press("Enter")
    await shop.get_by_text("Copied", exact=True).first.wait_for()

    await wallet.bring_to_front()
    await wallet.goto(f"{open_town.street.url('alice')}/pay")
    assert await focused(wallet) == "A shop’s payment link"
    await wallet.keyboard.press("Control+V")
    await tab_to(wallet, "See what it asks for")
    await wallet.keyboard.press("Enter")
    await wallet.get_by_role("button", name="Pay 0.50 USD").wait_for()
    passed = await tab_to(wallet, "Pay 0.50 USD")
    assert "Do not pay" not in passed
    await wallet.keyboard.press("Enter")
    await wallet.wait_for_url("**/history/*")
    await shop.locator("#goods").wait_for()
    assert len(await open_town.street.sold()) == sold + 1
    assert open_town.complaints == []


async def test_a_whole_purchase_without_javascript(open_town: Town) -> None:
    await with_coins(open_town)
    street = open_town.street
    context = await open_town.browser.new_context(java_script_enabled=False)
    shop, wallet = await context.new_page(), await context.new_page()
    await shop.goto(street.url("shop"))
    await shop.get_by_role("button", name="Buy A cup of").click()
    await shop.wait_for_url("**/orders/*")
    link = await shop.locator("#link").input_value()
    assert await shop.get_by_role("button", name="Copy").count() == 0
    assert await shop.get_by_role("link", name="Look again whether it is paid").count() == 1

    await wallet.goto(f"{street.url('alice')}/pay")
    await enter(wallet)
    await wallet.get_by_label("payment link").fill(link)
    await wallet.get_by_role("button", name="See what it asks for").click()
    await wallet.get_by_role("button", name="Pay 0.50 USD").click()
    await wallet.wait_for_url("**/history/*")
    assert "Paid 0.50 USD to Blue Note Records" in await text_of(wallet)

    await shop.reload()
    assert "Show this at the counter." in await shop.locator("#goods").inner_text()
    await context.close()
