import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from agents.bank.store import DestinationRow
from agents.client.refund import collect
from agents.merchant.home import web_keys
from agents.merchant.web import office
from agents.merchant.web.site import TEMPLATES, Shop
from agents.merchant.web.takings import STATES, Takings, page, takings
from agents.web.guard import Guard
from agents.web.listen import Listen
from agents.web.pages import Pages, Site
from agents.web.sessions import IDLE_MS
from protocol.merchant import sale
from protocol.messages import Payreq, Signed
from tests.agents.world import BANK, Town, cash
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.entropy import SeededEntropy
from tests.simulation.network import Network

from .storefront import HOSTILE, ORIGIN, customer, open_shop, ordered, paid, storefront
from .test_api import SONG, client, key_of


@pytest.fixture
async def shop(founded: Town) -> Town:
    """A shop with pages."""
    await founded.start_bank()
    await open_shop(founded, webhook="https://system.example/ecash")
    return founded


def shop_of(town: Town) -> Shop:
    """What the pages of a shop share."""
    home, entropy = town.folder / "shop", SeededEntropy("office")
    pages = Pages(TEMPLATES, lambda _: Site("shop", "The Bookshop", [("/office", "Sales")]))
    return Shop(town.shop, pages, home, web_keys(home, entropy), town.clock, entropy, secure=False)


@asynccontextmanager
async def keeper(town: Town, network: Network | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """The shopkeeper, who has entered the office; with a network, banks are asked over that."""
    if network is None:
        guarded = storefront(town).guarded
    else:
        simulated, shared = network, shop_of(town)
        routes = office.routes(shared, lambda _, name: simulated.link(name, persistent=False))
        app = Starlette(routes=routes, exception_handlers={HTTPException: shared.pages.http_problem})
        app.state.stopping = asyncio.Event()
        guarded = Guard(app, Listen("127.0.0.1", 8080).hosts("shop"))
    transport = httpx.ASGITransport(app=guarded)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers={"Origin": ORIGIN}) as browser:
        entered = await browser.post("/office/enter", data={"secret": shop_of(town).keys.office})
        assert (entered.status_code, entered.headers["location"]) == (303, "/office")
        yield browser


async def fields(browser: httpx.AsyncClient, path: str) -> dict[str, str]:
    """The hidden fields of the page's last form."""
    shown = await browser.get(path)
    assert shown.status_code == 200, shown.text
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', shown.text))


async def sold(town: Town, name: str = "alice", **wanted: str) -> str:
    """Sell something on the web, and return the sale's number."""
    async with customer(town, name) as wallet, storefront(town).browser() as browser:
        at = await ordered(browser, **(wanted or {"quantity-novel": "1"}))
        await paid(wallet, (await browser.get(at)).text)
    return (await page(town.sales, 1))[0][0].number


async def granted(town: Town, number: str) -> int:
    return (await town.sales.refundable(bytes.fromhex(number))).granted


async def test_the_office_opens_with_its_key_alone(shop: Town) -> None:
    async with storefront(shop).browser() as stranger:
        for path in ("", "/events", "/sales/" + "0" * 32, "/payout", "/payout/events", "/webhook"):
            away = await stranger.get(f"/office{path}")
            assert (away.status_code, away.headers["location"][:20]) == (303, "/office/enter?next=%")
        for secret in ("", "x", "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aa", key_of(shop)):
            refused = await stranger.post("/office/enter", data={"secret": secret})
            assert refused.status_code == 403
            assert "ecash-office" not in refused.cookies
        assert (await stranger.get("/office")).status_code == 303


async def test_the_key_may_be_typed_as_one_likes(shop: Town) -> None:
    async with storefront(shop).browser() as browser:
        secret = shop_of(shop).keys.office.upper().replace("-", " ")
        entered = await browser.post("/office/enter", data={"secret": secret})
    cookie = entered.headers["set-cookie"].lower()
    assert cookie.startswith("ecash-office=")
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


async def test_the_office_can_be_closed(shop: Town) -> None:
    async with keeper(shop) as browser:
        csrf = (await fields(browser, "/office"))["csrf"]
        await browser.post("/office/enter/leave", data={"csrf": csrf})
        assert (await browser.get("/office")).status_code == 303


async def test_forms_of_other_sites_change_nothing(shop: Town) -> None:
    number = await sold(shop)
    async with keeper(shop) as browser:
        form = await fields(browser, f"/office/sales/{number}/refund?amount=0.05")
        for origin in ("https://evil.example", "null", ""):
            for path in (f"/office/sales/{number}/refund", "/office/payout", "/office/webhook/1/again"):
                refused = await browser.post(path, data=form, headers={"Origin": origin})
                assert refused.status_code == 403
        stale = await browser.post(f"/office/sales/{number}/refund", data=form | {"csrf": "0" * 64})
        assert stale.status_code == 403
    assert await granted(shop, number) == 0


async def test_the_sales_of_browsers_and_wallets_are_listed(shop: Town, clock: VirtualClock) -> None:
    async with shop.open_wallet("bob") as wallet:
        await shop.customer(wallet, "bob", 100)
        await cash(wallet, 40)
        await shop.buy(wallet, "song")
    clock.advance(1)
    await sold(shop)
    clock.advance(1)
    async with client(shop, key_of(shop)) as system:
        await system.post("/api/orders", json=SONG | {"reference": "cart-4711"})
    async with keeper(shop) as browser:
        shown = (await browser.get("/office")).text
    assert shown.index("A song") < shown.index("1 × A novel of manners") < shown.index("1 × Bluesky")
    assert "cart-4711" in shown
    assert "2 of 2 sales in all" in shown
    assert "0.18 <span" in shown
    assert "Sold</span>" in shown
    assert "Waiting</span>" in shown


async def test_the_list_goes_on_page_by_page(shop: Town, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office, "_PAGE", 3)
    async with storefront(shop).browser() as buyer:
        for step in (1, 0, 0, 1, 0, 1, 1, 0):
            await ordered(buyer, **{"quantity-song": "1"})
            clock.advance(step)
    async with keeper(shop) as browser:
        seen: list[str] = []
        path: str | None = "/office"
        while path:
            shown = (await browser.get(path)).text
            seen += re.findall(r"/office/sales/(\w{32})", shown)
            older = re.search(r'href="(/office\?before=\w+)"', shown)
            path = older[1] if older else None
    assert len(seen) == len(set(seen)) == 8
    rows = {row.payment_id.hex(): row.begun_at for row in await shop.sales.sales()}
    assert [rows[number] for number in seen] == sorted(rows.values(), reverse=True)


async def test_a_page_that_begins_nowhere_is_the_first(shop: Town) -> None:
    await sold(shop)
    async with keeper(shop) as browser:
        for before in ("x", "0" * 32, "%00", "' OR 1"):
            assert "1 × A novel of manners" in (await browser.get("/office", params={"before": before})).text


async def test_what_was_sold_today_is_told_apart(shop: Town, clock: VirtualClock) -> None:
    await sold(shop)
    clock.advance(48 * HOUR_MS)
    assert await takings(shop.sales, clock.now() - HOUR_MS) == []
    assert await takings(shop.sales) == [Takings("USD", 1, 13, 0, 0)]
    async with keeper(shop) as browser:
        assert "0 of 1 sales in all" in (await browser.get("/office")).text


async def test_the_open_list_follows_what_happens(shop: Town, clock: VirtualClock) -> None:
    following = office.changes(shop_of(shop))
    assert "Nothing was ordered yet" in (await anext(following)).html["sales"]
    coming = asyncio.ensure_future(anext(following))
    await sold(shop)
    clock.advance(2000)
    assert "1 × A novel of manners" in (await coming).html["sales"]
    coming = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    clock.advance(IDLE_MS)
    assert (await coming).done
    assert [update async for update in following] == []


async def test_a_sale_is_shown_and_no_secret_of_it(shop: Town) -> None:
    number = await sold(shop)
    async with keeper(shop) as browser:
        shown = (await browser.get(f"/office/sales/{number}")).text
    row = await shop.sales.sale(bytes.fromhex(number))
    assert row is not None
    assert isinstance(row.state, sale.Sold)
    for fact in ("Commission of the bank", "0.01 USD", "0.12 USD", row.state.digest.hex(), "1 × A novel of manners"):
        assert fact in shown
    assert Payreq.decode(Signed.decode(row.state.offer.payreq).statement).salt.hex() not in shown
    assert row.state.receipt.hex() not in shown


@pytest.mark.parametrize("number", ["0" * 32, "x", "0" * 31, "Z" * 32, "%2e%2e"])
async def test_an_unknown_sale_is_told(shop: Town, number: str) -> None:
    async with keeper(shop) as browser:
        for path in (f"/office/sales/{number}", f"/office/sales/{number}/refund"):
            assert (await browser.get(path)).status_code == 404
        csrf = (await fields(browser, "/office"))["csrf"]
        assert (await browser.post(f"/office/sales/{number}/refund", data={"csrf": csrf})).status_code == 404


@pytest.mark.parametrize("on_the_web", [True, False])
async def test_a_refund_is_asked_about_granted_once_and_collected(shop: Town, on_the_web: bool) -> None:
    async with customer(shop) as wallet, storefront(shop).browser() as browser:
        if on_the_web:
            at = await ordered(browser, **{"quantity-novel": "1"})
            row = await paid(wallet, (await browser.get(at)).text)
        else:
            row = await shop.buy(wallet)
        number = (await page(shop.sales, 1))[0][0].number
        async with keeper(shop) as desk:
            asking = f"/office/sales/{number}/refund"
            form = await fields(desk, f"{asking}?amount=0.05")
            assert await granted(shop, number) == 0
            answers = await asyncio.gather(*(desk.post(asking, data=form) for _ in range(3)))
            assert {answer.status_code for answer in answers} == {303}
            assert await granted(shop, number) == 5
            await desk.post(asking, data=form)  # the page is loaded anew, or sent from the history
            assert await granted(shop, number) == 5
            assert "Nothing was granted now" in (await desk.get(f"/office/sales/{number}")).text
            await collect(wallet, row)
            shown = (await desk.get(f"/office/sales/{number}")).text
            assert "Refunded</span>" in shown
    assert await takings(shop.sales) == [Takings("USD", 1, 13, 5, 0)]


@pytest.mark.parametrize(
    "amount", ["", "0", "0.00", "-0.05", "0.14", "1e9", "0.001", "5 EUR", "٥", "99999999999999999"]
)
async def test_a_refund_is_no_more_than_was_paid(shop: Town, amount: str) -> None:
    number = await sold(shop)
    async with keeper(shop) as browser:
        path = f"/office/sales/{number}"
        asked = await browser.get(f"{path}/refund", params={"amount": amount})
        assert (asked.status_code, asked.headers["location"]) == (303, path)
        assert 'class="notice bad"' in (await browser.get(path)).text
        csrf = (await fields(browser, path))["csrf"]
        form = {"csrf": csrf, "amount": amount, "granted": "0"}
        assert (await browser.post(f"{path}/refund", data=form)).status_code == 303
    assert await granted(shop, number) == 0


async def test_what_is_not_paid_is_not_refunded(shop: Town) -> None:
    async with storefront(shop).browser() as buyer:
        await ordered(buyer, **{"quantity-novel": "1"})
    number = (await page(shop.sales, 1))[0][0].number
    async with keeper(shop) as browser:
        assert "this sale is not paid" in (await browser.get(f"/office/sales/{number}")).text
        csrf = (await fields(browser, "/office"))["csrf"]
        form = {"csrf": csrf, "amount": "0.05", "granted": "0"}
        await browser.post(f"/office/sales/{number}/refund", data=form)
    assert await granted(shop, number) == 0


async def test_hostile_texts_stay_text(shop: Town) -> None:
    async with client(shop, key_of(shop)) as system:
        body = {"lines": [{"text": HOSTILE, "price": 5, "goods": HOSTILE}], "reference": HOSTILE}
        assert (await system.post("/api/orders", json=body)).status_code == 201
    number = (await page(shop.sales, 1))[0][0].number
    async with keeper(shop) as browser:
        for path in ("/office", f"/office/sales/{number}"):
            shown = (await browser.get(path)).text
            assert "<script>alert" not in shown
            assert "&lt;script&gt;alert" in shown


async def test_a_payout_is_made_once(shop: Town, network: Network) -> None:
    await shop.books.credit(shop.shop_number, 100, "the shopkeeper's own")
    await shop.books.set_destination(shop.shop_number, DestinationRow("011000015", "42", "checking", "The Bookshop"))
    async with keeper(shop, network) as browser:
        assert "Asking bank north" in (await browser.get("/office/payout")).text
        told = (await browser.get("/office/payout/events")).text
        assert "account-north" in told
        assert "1.00 <span" in told
        form = await fields(browser, "/office/payout") | {"bank": BANK, "amount": "0.30"}
        answers = await asyncio.gather(*(browser.post("/office/payout", data=form) for _ in range(2)))
        assert [answer.headers["location"] for answer in answers] == ["/office/payout"] * 2
        assert await shop.books.balance(shop.shop_number) == 70
        assert "Nothing was paid out now" in (await browser.get("/office/payout")).text
        looked = (await browser.get("/office/payout?look=yes")).text
        assert "Queued</span>" in looked
        assert "0.70 <span" in looked
        form = await fields(browser, "/office/payout") | {"bank": BANK, "amount": "", "all": "yes"}
        await browser.post("/office/payout", data=form)
        assert "0.70 USD are on their way" in (await browser.get("/office/payout")).text
    assert await shop.books.balance(shop.shop_number) == 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"amount": ""}, "Say how much"),
        ({"amount": "x"}, "Nothing was paid out"),
        ({"amount": "0"}, "Nothing was paid out"),
        ({"amount": "-1"}, "Nothing was paid out"),
        ({"bank": "south"}, "has no account at south"),
        ({"amount": "1.00"}, "does not pay out"),
        ({"all": "yes"}, "nothing to pay out"),
    ],
)
async def test_what_cannot_be_paid_out_is_told(shop: Town, network: Network, wrong: dict[str, str], told: str) -> None:
    async with keeper(shop, network) as browser:
        form = await fields(browser, "/office/payout") | {"bank": BANK, "amount": "0.30"} | wrong
        assert (await browser.post("/office/payout", data=form)).status_code == 303
        assert told in (await browser.get("/office/payout")).text


async def test_notices_are_shown_and_sent_again(shop: Town) -> None:
    async with client(shop, key_of(shop)) as system:
        order = (await system.post("/api/orders", json=SONG)).json()
    async with customer(shop) as wallet:
        await paid(wallet, f'href="{order["link"]}"')
    (notice,) = await shop.shop.outbox.notices()
    await shop.shop.outbox.record(notice._replace(next_at=0, attempts=9, error=HOSTILE))
    async with keeper(shop) as browser:
        shown = (await browser.get("/office/webhook")).text
        assert "https://system.example/ecash" in shown
        assert "Failed</span>" in shown
        assert HOSTILE not in shown
        assert shop_of(shop).keys.webhook not in shown
        csrf = (await fields(browser, "/office/webhook"))["csrf"]
        sent = await browser.post(f"/office/webhook/{notice.number}/again", data={"csrf": csrf})
        assert (sent.status_code, sent.headers["location"]) == (303, "/office/webhook")
        for number in (notice.number + 1, 2**63):
            assert (await browser.post(f"/office/webhook/{number}/again", data={"csrf": csrf})).status_code == 404
    (again,) = await shop.shop.outbox.notices()
    assert (again.state, again.attempts) == ("waiting", 0)


async def test_office_pages_are_not_kept_or_framed(shop: Town) -> None:
    async with keeper(shop) as browser:
        shown = await browser.get("/office")
    assert shown.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert 'name="robots" content="noindex"' in shown.text


def test_every_state_of_a_sale_has_a_name() -> None:
    assert set(STATES) == set(sale.SaleState.__args__)
