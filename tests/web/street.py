"""A bank, a shop and wallets with their web pages, each a process of its own, and a browser for each person."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from playwright.async_api import BrowserContext, Page, Playwright

from agents.address import BankAddress
from agents.bank.auditing import audit_of
from agents.client.service import open_store
from agents.home import save_settings
from agents.merchant.home import settings_of
from tests.conftest import free_port
from tests.processes.process import PASSPHRASE, Process, Processes, agent

CHROMIUM: Final = "/usr/bin/chromium"
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FUNDED: Final = 5_000
WITHDRAWN: Final = "20.00"
CATALOG: Final = """
[[item]]
sku = "song"
title = "Bluesky, a song"
description = "Three minutes of clear weather."
price = "12.34 USD"
goods = "The words: blue skies, nothing but blue skies."
file = "bluesky.txt"

[[item]]
sku = "coffee"
title = "A cup of <b>coffee</b>"
price = "0.50 USD"
goods = "Show this at the counter."

[[item]]
sku = "piano"
title = "A grand piano"
price = "90.00 USD"
"""
FILE: Final = b"do re mi\n"


class Street:
    """The homes, and the processes that are open."""

    def __init__(self, folder: Path, broker: str, processes: Processes) -> None:
        self.folder = folder
        self.bank, self.shop, self.alice = folder / "bank", folder / "shop", folder / "alice"
        self.broker = broker
        self.processes = processes
        self.ports = {name: free_port() for name in ("shop", "bank", "alice", "bob", "stall")}
        self.shop_process: Process | None = None
        self.bank_process: Process | None = None
        self.address = ""

    def url(self, name: str) -> str:
        """The address of a site: each has a host name of its own, so that no cookie of one goes to another."""
        host = {"alice": "wallet", "bob": "wallet", "stall": "shop"}.get(name, name)
        return f"http://{host}.localhost:{self.ports[name]}"

    async def command(self, name: str, *arguments: object, home: Path) -> Any:
        """Run a command that prints JSON."""
        done = await self.processes.does(agent(name, *arguments, "--home", home, "--json"))
        return done.last_json

    async def prepare(self) -> None:
        """Make the homes, and open everything but the wallet's page."""
        made = await self.command(
            "bank", "init", "--broker", self.broker, "--withdrawal-commission", "1%", "--deposit-commission", "0.5%",
            "--largest-denomination", 11, home=self.bank,
        )  # fmt: skip
        self.address = made["address"]
        self.bank_process = await self.processes.start(agent("bank", "run", "--home", self.bank))
        title = ("--kind", "merchant", "--title", "Blue Note Records")
        account = await self.command("bank", "open-account", "shop", *title, home=self.bank)
        await self.command("merchant", "init", "shop", "--bank", self.address, home=self.shop)
        (self.shop / "catalog.toml").write_text(CATALOG)
        (self.shop / "goods").mkdir(exist_ok=True)
        (self.shop / "goods/bluesky.txt").write_bytes(FILE)
        await self.bank_process.logs("is open")
        await self.open_shop("--invitation", account["invitation"])
        await self.wallet("alice", FUNDED)

    async def open_shop(self, *options: str) -> None:
        """Open the shop with its pages."""
        web = ("--web", f":{self.ports['shop']}")
        self.shop_process = await self.processes.start(agent("merchant", "run", "--home", self.shop, *web, *options))
        await self.shop_process.logs("is open")

    async def close_shop(self) -> None:
        """Close it."""
        assert self.shop_process
        assert await self.shop_process.stop() == 0

    async def wallet(self, name: str, funded: int) -> Path:
        """Make a wallet with an account that holds so much, and open its pages."""
        home = self.folder / name
        account = await self.command("bank", "open-account", name, home=self.bank)
        if funded:
            amount = f"{funded // 100}.{funded % 100:02}"
            cash = (account["account"], amount, "--reference", f"cash of {name}")
            await self.command("bank", "credit", *cash, home=self.bank)
        await self.command("client", "init", home=home)
        await self.command("client", "register", self.address, "--invitation", account["invitation"], home=home)
        await self.open_wallet(name)
        return home

    async def open_wallet(self, name: str) -> Process:
        """Open the pages of a wallet."""
        listen = ("--listen", f":{self.ports[name]}")
        opened = await self.processes.start(agent("client", "web", "--home", self.folder / name, *listen))
        await opened.logs("is open")
        return opened

    async def hasty_shop(self, minutes: float) -> Process:
        """Open another shop of the same merchant's account whose offers expire soon, in place of the first one."""
        await self.close_shop()
        settings = settings_of(self.shop)
        save_settings(self.shop, "merchant", type(settings)(**{**_fields(settings), "offer_minutes": minutes}))
        await self.open_shop()
        save_settings(self.shop, "merchant", settings)
        assert self.shop_process
        return self.shop_process

    async def sold(self) -> list[dict[str, Any]]:
        """The sales by the shop's own books."""
        sales: list[dict[str, Any]] = await self.command("merchant", "sales", home=self.shop)
        return [one for one in sales if one["state"] == "sold"]

    async def in_hand(self, name: str = "alice") -> int:
        """What a wallet's coins are worth, spent ones left out."""
        async with open_store(self.folder / name) as store:
            return sum(value * count for _, _, _, value, count in await store.holdings())

    async def books_balance(self) -> None:
        """Assert that the bank's books are right."""
        report = await audit_of(self.bank)
        assert report.ok, report.faults

    @property
    def identity(self) -> BankAddress:
        """The bank's address."""
        return BankAddress.parse(self.address)


def _fields(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}


@asynccontextmanager
async def person(playwright: Playwright, folder: Path) -> AsyncIterator[BrowserContext]:
    """A browser with a profile of its own, such as a person has; it can be made to open `web+ecash:` links."""
    context = await playwright.chromium.launch_persistent_context(
        folder, executable_path=CHROMIUM, headless=True, args=ARGUMENTS, accept_downloads=True
    )
    context.set_default_timeout(60_000)
    try:
        yield context
    finally:
        await context.close()


async def enter(page: Page, secret: str = PASSPHRASE) -> None:
    """Show the secret to the page that asks for it."""
    await page.locator("input[type=password]").fill(secret)
    await page.locator("input[type=password]").press("Enter")
    await page.wait_for_url(lambda url: not re.search(r"/(unlock|enter)(\?|$)", url))


async def let_links_open_here(page: Page) -> None:
    """Let the wallet's page register itself for `web+ecash:`, and say yes for the person whom the browser asks."""
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Page.setRPHRegistrationMode", {"mode": "autoAccept"})
    button = page.locator("button[data-register]")
    await button.click()
    await page.locator(f"#{await button.get_attribute('data-register')}").filter(has_text="link").wait_for()


async def text_of(page: Page) -> str:
    """What a person reads on a page."""
    return await page.locator("main").inner_text()


def order_number(url: str) -> str:
    """The number of the order whose page is at this address."""
    found = re.search(r"/orders/([0-9a-f]{32})", url)
    assert found, url
    return found[1]
