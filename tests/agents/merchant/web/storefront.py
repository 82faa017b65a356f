"""The town's shop with its pages, and browsers that look at them."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import httpx
from starlette.applications import Starlette

from agents.client.offer import open_offer, pay_once
from agents.client.store import ExchangeRow
from agents.client.wallet import Wallet
from agents.merchant import home as shop_home
from agents.merchant.web.site import shop_site
from agents.web.guard import Guard
from agents.web.listen import Listen
from protocol.payment_link import PaymentLink
from tests.agents.world import BROKER, SHOP, Town, cash
from tests.simulation.entropy import SeededEntropy

PORT: Final = 8080
ORIGIN: Final = f"http://127.0.0.1:{PORT}"
HOSTILE: Final = '<script>alert(1)</script>"&'
FILES_CATALOG: Final = f"""
[[item]]
sku = "novel"
title = "A novel of manners"
price = "0.13 USD"
goods = "https://shop.example/novel.epub"
description = "In three volumes."

[[item]]
sku = "song"
title = "Bluesky"
price = "0.05 USD"
file = "blue sky.flac"

[[item]]
sku = "evil"
title = '{HOSTILE}'
price = "0.02 USD"
goods = '{HOSTILE}'
description = '{HOSTILE}'
"""
SONG: Final = b"fLaC, more or less"


class Storefront(NamedTuple):
    """The pages of a town's shop."""

    town: Town
    app: Starlette
    guarded: Guard

    def browser(self, **headers: str) -> httpx.AsyncClient:
        """Return a browser of its own, with no cookie yet, whose forms come from the shop's pages."""
        transport = httpx.ASGITransport(app=self.guarded)
        return httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers={"Origin": ORIGIN} | headers)


async def open_shop(town: Town, catalog: str = FILES_CATALOG, **settings: int | str) -> None:
    """Open the town's shop with a catalogue and a file that can be bought."""
    home = town.folder / "shop"
    banks = shop_home.Settings(SHOP, town.shop_banks, BROKER, "presence-of-the-shop")
    shop_home.create(home, banks, SeededEntropy("shop"))
    (home / "catalog.toml").write_text(catalog)
    (home / "goods" / "blue sky.flac").write_bytes(SONG)
    await town.start_shop(**settings)


def storefront(town: Town, listen: str = f":{PORT}", public_url: str = "") -> Storefront:
    """Return the pages of a shop that is open."""
    shown = Listen.parse(listen)
    app, guarded = shop_site(town.shop, town.folder / "shop", town.clock, town.entropy("pages"), shown, public_url)
    app.state.stopping = asyncio.Event()
    return Storefront(town, app, guarded)


@asynccontextmanager
async def customer(town: Town, name: str = "alice", amount: int = 40) -> AsyncIterator[Wallet]:
    """Open a wallet with coins in it."""
    async with town.open_wallet(name) as wallet:
        await town.customer(wallet, name, 200)
        await cash(wallet, amount)
        yield wallet


async def ordered(browser: httpx.AsyncClient, **fields: str) -> str:
    """Order from the catalogue; return the path of the order's page."""
    answer = await browser.post("/orders", data={"bank": "north"} | fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def link_in(page: str) -> str:
    """Return the payment link that a page shows."""
    found = re.search(r'href="(web\+ecash:[^"]+)"', page)
    assert found, page
    return html.unescape(found[1])


async def paid(wallet: Wallet, page: str) -> ExchangeRow:
    """Pay by the link in a page, as the wallet does when it is clicked."""
    link = PaymentLink.parse(link_in(page))
    async with wallet.presence(wallet.bank().address.broker) as requester:
        return await pay_once(wallet, await open_offer(wallet, link, requester), requester)
