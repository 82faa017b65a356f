import asyncio
import json
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from agents.client.refund import collect
from agents.merchant.changes import Bell
from agents.merchant.orders import Line
from agents.merchant.web import order as order_pages
from protocol.payment_link import PaymentLink
from tests.agents.world import BANK, Town, copy_file
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

from .storefront import HOSTILE, SONG, Storefront, customer, link_in, open_shop, ordered, paid, storefront

GOODS = "https://shop.example/novel.epub"
TO_BANK = f"ecash/v1/{BANK}/+/deposit/+"


@pytest.fixture
async def site(founded: Town) -> Storefront:
    await founded.start_bank()
    await open_shop(founded)
    return storefront(founded)


def updates(answer: httpx.Response) -> list[dict[str, Any]]:
    """What a page is sent while it is open."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def placed(site: Storefront, **extra: str) -> str:
    """Let the shop's own system place an order; return the path of its page."""
    lines = [Line("A ticket", 13, goods="Seat 7, row 3")]
    sight, _ = await site.town.shop.orders.place("", "USD", lines, reference="T-1", **extra)
    return f"/orders/{sight.order.id}"


# ---------------------------------------------------------------- from the catalogue to the goods


async def test_an_order_is_paid_by_its_link_and_the_page_gets_the_goods(site: Storefront) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="novel")
        page = (await browser.get(path)).text
        assert "You pay exactly" in page
        assert GOODS not in page
        assert f'data-events="{path}/events"' in page
        watching = asyncio.create_task(browser.get(f"{path}/events"))
        await paid(wallet, page)
        seen = updates(await watching)
        accepted = (await browser.get(path)).text
    last = seen[-1]
    assert last["done"]
    assert not any(one["done"] for one in seen[:-1])
    assert set(last["html"]) == {"state", "panel", "steps"}
    assert GOODS in last["html"]["panel"]
    assert not any(GOODS in one["html"]["panel"] for one in seen[:-1])
    assert last["title"].startswith("Accepted · Order ")
    assert f'<a href="{GOODS}"' in accepted
    assert "Thank you" in accepted
    assert "data-events" not in accepted


async def test_who_comes_late_is_sent_the_end_at_once(site: Storefront) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="novel")
        await paid(wallet, (await browser.get(path)).text)
        [only] = updates(await browser.get(f"{path}/events"))
    assert only["done"]
    assert GOODS in only["html"]["panel"]


async def test_the_link_asks_for_what_was_ordered(site: Storefront) -> None:
    async with site.browser() as browser:
        page = (await browser.get(await ordered(browser, **{"quantity-novel": "2"}))).text
    link = PaymentLink.parse(link_in(page))
    assert link.bank == BANK
    assert link.unverified.amount == 26
    assert link.unverified.order == ("2 × A novel of manners",)
    assert 'target="_blank" rel="noopener"' in page
    assert "<svg" in page
    assert f"{link}</textarea>" in page


async def test_while_the_bank_is_away_the_page_says_that_it_is_paid(site: Storefront, network: Network) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="novel")
        page = (await browser.get(path)).text
        await site.town.stop_bank()
        paying = asyncio.create_task(paid(wallet, page))
        await network.wait_for(1, TO_BANK)
        waiting = (await browser.get(path)).text
        assert "The bank is checking" in waiting
        assert "must not pay again" in waiting
        assert GOODS not in waiting
        assert "web+ecash" not in waiting
        await site.town.restart_bank()
        await paying
        assert GOODS in (await browser.get(path)).text


async def test_a_page_without_scripts_looks_again_by_itself(site: Storefront) -> None:
    async with site.browser() as browser:
        page = (await browser.get(await ordered(browser, buy="novel"))).text
    assert '<noscript><meta http-equiv="refresh"' in page


async def test_goods_that_are_hostile_stay_text(site: Storefront) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="evil")
        await paid(wallet, (await browser.get(path)).text)
        page, [update] = (await browser.get(path)).text, updates(await browser.get(f"{path}/events"))
    for shown in (page, *update["html"].values()):
        assert HOSTILE not in shown
    assert "&lt;script&gt;alert(1)" in update["html"]["panel"]


# ---------------------------------------------------------------- whose order it is


async def test_another_browser_sees_neither_the_order_nor_its_goods(site: Storefront) -> None:
    async with site.browser() as browser, site.browser() as other, customer(site.town) as wallet:
        path = await ordered(browser, buy="song")
        await paid(wallet, (await browser.get(path)).text)
        await ordered(other, buy="novel")  # it has a cookie of its own
        for below in ("", "/events", "/files/0"):
            answer = await other.get(path + below)
            assert answer.status_code == 404
            assert "belongs to another browser" in answer.text
            assert "Bluesky" not in answer.text
        assert (await other.post(f"{path}/again")).status_code == 404
        [_, sold] = await site.town.shop.orders.recent()
        assert sold.order.delivered_at == 0


async def test_a_browser_without_a_cookie_is_another_one(site: Storefront) -> None:
    async with site.browser() as browser, site.browser() as other:
        path = await ordered(browser, buy="novel")
        assert (await other.get(path)).status_code == 404
        assert (await other.get(f"{path}/events")).status_code == 404


async def test_an_order_of_the_shops_system_belongs_to_the_first_browser_that_opens_it(site: Storefront) -> None:
    path = await placed(site)
    async with site.browser() as browser, site.browser() as other:
        assert (await browser.get(f"{path}/events")).status_code == 404  # only the page claims
        assert (await browser.head(path)).status_code == 404
        assert "A ticket" in (await browser.get(path)).text
        assert (await other.get(path)).status_code == 404
        assert (await browser.get(path)).status_code == 200


async def test_the_first_showing_of_the_goods_is_recorded_and_a_reload_shows_them_again(
    site: Storefront, clock: VirtualClock
) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="novel")
        await paid(wallet, (await browser.get(path)).text)
        first_at = clock.now()
        assert GOODS in (await browser.get(path)).text
        clock.advance(60_000)
        assert GOODS in (await browser.get(path)).text
    [sight] = await site.town.shop.orders.recent()
    assert sight.order.delivered_at == first_at


@pytest.mark.parametrize("number", ["0" * 32, "f" * 31, "F" * 32, "..%2Foffice", "%00", "x" * 5000, "%D9%A3"])
async def test_an_unknown_order_is_told(site: Storefront, number: str) -> None:
    async with site.browser() as browser:
        answer = await browser.get(f"/orders/{number}")
    assert answer.status_code == 404
    assert "There is no such" in answer.text


async def test_search_engines_leave_orders_alone(site: Storefront) -> None:
    async with site.browser() as browser:
        answer = await browser.get(await ordered(browser, buy="novel"))
    assert "noindex" in answer.headers["x-robots-tag"]
    assert '<meta name="robots" content="noindex' in answer.text
    assert answer.headers["cache-control"] == "no-store"


# ---------------------------------------------------------------- files


async def test_a_file_goes_to_the_buyer_once_it_is_paid(site: Storefront) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="song")
        assert (await browser.get(f"{path}/files/0")).status_code == 404
        await paid(wallet, (await browser.get(path)).text)
        assert f'href="{path}/files/0"' in (await browser.get(path)).text
        answer = await browser.get(f"{path}/files/0")
    assert answer.content == SONG
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''blue%20sky.flac"
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("number", ["1", "-1", "00", "9" * 5000, "%D9%A0", "..", "blue%20sky.flac"])
async def test_no_other_file_can_be_had(site: Storefront, number: str) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="song")
        await paid(wallet, (await browser.get(path)).text)
        answer = await browser.get(f"{path}/files/{number}")
    assert SONG not in answer.content


async def test_a_file_that_the_shop_has_lost_is_told(site: Storefront) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="song")
        await paid(wallet, (await browser.get(path)).text)
        (site.town.folder / "shop" / "goods" / "blue sky.flac").unlink()
        answer = await browser.get(f"{path}/files/0")
    assert answer.status_code == 404
    assert "the payment is recorded" in answer.text


# ---------------------------------------------------------------- other ends


async def test_an_order_that_nobody_pays_expires_and_can_be_ordered_again(
    site: Storefront, clock: VirtualClock
) -> None:
    async with site.browser() as browser:
        path = await ordered(browser, **{"quantity-novel": "2", "quantity-song": "1"})
        watching = asyncio.create_task(browser.get(f"{path}/events"))
        clock.advance(16 * 60_000)
        last = updates(await watching)[-1]
        assert last["done"]
        assert "Nothing was paid" in last["html"]["panel"]
        page = (await browser.get(path)).text
        assert f'action="{path}/again"' in page
        assert "web+ecash" not in page
        answer = await browser.post(f"{path}/again")
        assert answer.status_code == 303
        assert answer.headers["location"] != path
        assert "2 × A novel of manners" in (await browser.get(answer.headers["location"])).text


async def test_what_the_catalogue_does_not_have_any_more_is_not_ordered_again(
    site: Storefront, clock: VirtualClock
) -> None:
    async with site.browser() as browser:
        path = await ordered(browser, buy="novel")
        site.town.shop.desk.catalog.pop("novel")
        clock.advance(16 * 60_000)
        await browser.get(f"{path}/events")
        assert "/again" not in (await browser.get(path)).text
        answer = await browser.post(f"{path}/again")
    assert answer.status_code == 409
    assert "choose again" in answer.text


@pytest.mark.parametrize("line", ["1 × A novel of manners", "A novel of manners", "² × A novel of manners"])
async def test_an_order_of_the_shops_system_is_not_the_catalogues_to_repeat(
    site: Storefront, clock: VirtualClock, line: str
) -> None:
    sight, _ = await site.town.shop.orders.place("", "USD", [Line(line, 13)], return_url="https://shop.example/done")
    async with site.browser() as browser:
        await browser.get(f"/orders/{sight.order.id}")
        clock.advance(16 * 60_000)
        await browser.get(f"/orders/{sight.order.id}/events")
        page = (await browser.get(f"/orders/{sight.order.id}")).text
    assert "/again" not in page
    assert "Back to the shop" in page


async def test_the_buyer_goes_back_to_the_shops_system_when_it_is_paid(site: Storefront) -> None:
    path = await placed(site, return_url="https://shop.example/done?x=1&y=2")
    async with site.browser() as browser, customer(site.town) as wallet:
        page = (await browser.get(path)).text
        assert "shop.example/done" not in page
        await paid(wallet, page)
        accepted = (await browser.get(path)).text
    assert 'href="https://shop.example/done?x=1&amp;y=2"' in accepted
    assert "Seat 7, row 3" in accepted
    assert "T-1" in accepted


async def test_when_the_bank_declines_the_coins_the_offer_stands_for_another_payment(site: Storefront) -> None:
    town = site.town
    async with customer(town):
        pass
    copy_file(town.folder / "alice.db", town.folder / "backup.db")
    async with site.browser() as browser:
        async with town.open_wallet("alice") as alice:
            await paid(alice, (await browser.get(await ordered(browser, buy="novel"))).text)
        path = await ordered(browser, buy="novel")
        async with town.open_wallet("backup", seed="alice", device="alice") as backup:
            await paid(backup, (await browser.get(path)).text)
        page = (await browser.get(path)).text
        assert "The bank declined that payment" in page
        assert GOODS not in page
        async with customer(town, "bob") as bob:
            await paid(bob, page)
        assert GOODS in (await browser.get(path)).text


async def test_a_refund_is_told_when_it_is_granted_and_when_it_is_collected(site: Storefront) -> None:
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="novel")
        row = await paid(wallet, (await browser.get(path)).text)
        assert "Refund" not in (await browser.get(path)).text
        await site.town.shop.orders.grant(path.removeprefix("/orders/"), 5)
        assert "collect it in your wallet" in (await browser.get(path)).text
        await collect(wallet, row)
        assert "You have collected all of it" in (await browser.get(path)).text


# ---------------------------------------------------------------- many who watch


def watched(site: Storefront, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return what is set when somebody watches an order."""
    begun, orders = asyncio.Event(), site.town.shop.orders
    watch = orders.watch

    def watching(payment_id: bytes) -> AbstractContextManager[Bell]:
        begun.set()
        return watch(payment_id)

    monkeypatch.setattr(orders, "watch", watching)
    return begun


async def test_so_many_pages_may_be_watched_at_once(site: Storefront, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_pages, "MAX_STREAMS_OF_BUYER", 1)
    begun = watched(site, monkeypatch)
    async with site.browser() as browser, customer(site.town) as wallet:
        path = await ordered(browser, buy="novel")
        page = (await browser.get(path)).text
        watching = asyncio.create_task(browser.get(f"{path}/events"))
        await begun.wait()
        assert (await browser.get(f"{path}/events")).status_code == 503
        await paid(wallet, page)
        assert updates(await watching)[-1]["done"]
        assert (await browser.get(f"{path}/events")).status_code == 200


async def test_who_watches_is_let_go_when_the_site_stops(site: Storefront, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = watched(site, monkeypatch)
    async with site.browser() as browser:
        path = await ordered(browser, buy="novel")
        watching = asyncio.create_task(browser.get(f"{path}/events"))
        await begun.wait()
        site.app.state.stopping.set()
        assert not any(one["done"] for one in updates(await watching))
    assert len(site.town.shop.orders._journal.changes) == 0
