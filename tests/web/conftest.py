import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, Playwright, async_playwright

from broker.embedded import embedded_broker
from tests.conftest import free_port
from tests.processes.process import processes

from .street import CHROMIUM, Street, enter, let_links_open_here, person


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="needs Debian's chromium (apt install chromium)")
    for item in items:
        if "tests/web" in item.path.as_posix() and shutil.which(CHROMIUM) is None:
            item.add_marker(missing)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def street(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Street]:
    """A bank, a shop and Alice's wallet with their pages, for all tests."""
    folder = tmp_path_factory.mktemp("street")
    with embedded_broker(free_port(), folder / "broker") as url:
        async with processes() as started:
            street = Street(folder, str(url), started)
            await street.prepare()
            yield street


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def playwright() -> AsyncIterator[Playwright]:
    async with async_playwright() as playwright:
        yield playwright


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def buyer(
    playwright: Playwright, street: Street, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BrowserContext]:
    """Alice's browser, in which her wallet is unlocked."""
    async with person(playwright, tmp_path_factory.mktemp("buyer")) as context:
        page = await context.new_page()
        await page.goto(street.url("alice"))
        await enter(page)
        await let_links_open_here(page)
        yield context


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shopkeeper(
    playwright: Playwright, street: Street, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BrowserContext]:
    """The shopkeeper's browser, in the office."""
    async with person(playwright, tmp_path_factory.mktemp("shopkeeper")) as context:
        keys = await street.command("merchant", "web", home=street.shop)
        page = await context.new_page()
        await page.goto(f"{street.url('shop')}/office")
        await enter(page, keys["office_key"])
        await page.close()
        yield context


@pytest_asyncio.fixture(loop_scope="session")
async def page(buyer: BrowserContext) -> AsyncIterator[Page]:
    """A page of Alice's browser."""
    page = await buyer.new_page()
    yield page
    await page.close()
