"""Attacks on the sites, from pages of others and from programs: each fails, and the books stay right."""

import asyncio
import contextlib
import json
import re
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from html import unescape
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page

from agents.merchant.home import keys_of
from protocol.messages import Payreq, Signed
from protocol.payment_link import PaymentLink
from protocol.signatures import Domain
from tests.processes.process import PASSPHRASE, agent

from .attacker import NAMES, Attacker, attacking
from .street import WITHDRAWN, Street, enter, order_number, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

SITES: Final = ("alice", "shop", "bank")
FORMS: Final = ("/pay", "/send", "/withdraw", "/put-back", "/recover", "/banks", "/lock", "/unlock", "/unlock/leave")
HOSTILE_TITLE: Final = "<img src=x onerror=alert(1)>\u202eShop"
SUBMIT: Final = """<form method="post" action="{}" id="f"><input name="csrf" value=""><input name="amount" value="5.00">
<input name="link" value="{}"><input name="secret" value="guess"></form><script>f.submit()</script>"""


class Scene(NamedTuple):
    """What the attacks need: the secrets of shop and bank, a link that could be paid, and who attacks."""

    street: Street
    attacker: Attacker
    office_key: str
    api_key: str
    webhook_secret: str
    operator_key: str
    order: str
    link: str
    cookie: str

    def at(self, site: str) -> httpx.AsyncClient:
        """A program that speaks to a site, as its own pages would."""
        url = f"http://127.0.0.1:{self.street.ports[site]}"
        # By number, because names below localhost are known to browsers alone.
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=url, headers={"Origin": url}, limits=limits, timeout=30)

    def books(self) -> tuple[int, int, int]:
        """How many sales are paid and how many refunds are granted in the shop, and how many orders there are."""
        with contextlib.closing(sqlite3.connect(self.street.shop / "sales.db")) as db:
            paid = db.execute("SELECT count(*) FROM sale WHERE NOT open AND NOT lapsed").fetchone()[0]
            granted = db.execute("SELECT count(*) FROM granted").fetchone()[0]
            return paid, granted, db.execute("SELECT count(*) FROM web_order").fetchone()[0]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(street: Street, buyer: BrowserContext) -> AsyncIterator[Scene]:
    """The street with coins in the wallet, the bank's pages open, and an order that nobody has paid."""
    if await street.in_hand() < 1_000:
        await street.processes.does(agent("client", "withdraw", WITHDRAWN, "--home", street.alice))
    pages = await street.processes.start(
        agent("bank", "web", "--home", street.bank, "--listen", f":{street.ports['bank']}")
    )
    await pages.logs("is open")
    keys = await street.command("merchant", "web", home=street.shop)
    operator = (street.bank / "keys/web").read_text().strip()
    async with attacking() as attacker:
        shown = (keys["office_key"], keys["api_key"], keys["webhook_secret"], operator)
        found = Scene(street, attacker, *shown, order="", link="", cookie="")
        async with found.at("shop") as shop:
            order, cookie = await ordered(shop)
            link = link_in((await shop.get(f"/orders/{order}")).text)
        yield found._replace(order=order, link=link, cookie=cookie)
    assert await pages.stop() == 0


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def nothing_moves(scene: Scene) -> AsyncIterator[None]:
    """Coins, sales and refunds are the same after each attack."""
    coins, books = await scene.street.in_hand(), scene.books()
    yield
    assert await scene.street.in_hand() == coins
    assert scene.books()[:2] == books[:2]


async def ordered(shop: httpx.AsyncClient, article: str = "coffee") -> tuple[str, str]:
    """Order, and return the order's number and the buyer's secret."""
    answer = await shop.post("/orders", data={"buy": article})
    assert answer.status_code == 303
    return order_number(answer.headers["location"]), answer.cookies["ecash-buyer"]


def link_in(html: str) -> str:
    found = re.search(r'href="(web\+ecash:[^"]+)"', html)
    assert found
    return unescape(found[1])


async def unlocked(wallet: httpx.AsyncClient) -> str:
    """Unlock the wallet in a session of its own; return the token of its forms."""
    answer = await wallet.post("/unlock", data={"secret": PASSPHRASE})
    assert answer.status_code == 303
    return token_in((await wallet.get("/pay")).text)


def token_in(html: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', html)
    assert found
    return found[1]


async def spoken(port: int, data: bytes, patience_s: float = 60) -> bytes:
    """Send bytes to a site and return how its answer begins."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(patience_s):
            return await reader.read(4096)
    finally:
        writer.close()


# ---- from a page of somebody else, in the browser in which the wallet is unlocked


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def by_number(scene: Scene, buyer: BrowserContext) -> str:
    """Unlock the wallet under its number too, so that the browser sends its cookie to all ports of that host."""
    page, url = await buyer.new_page(), f"http://127.0.0.1:{scene.street.ports['alice']}"
    await page.goto(url)
    await enter(page)
    await page.close()
    return url


def targets(scene: Scene, by_number: str) -> dict[str, str]:
    """The wallet's address that is nearest to the attacker's: same host where that can be."""
    return {"evil.localhost": scene.street.url("alice"), "127.0.0.1": by_number}


@pytest.mark.parametrize("name", NAMES)
async def test_a_form_of_another_origin_changes_nothing(scene: Scene, by_number: str, page: Page, name: str) -> None:
    wallet = targets(scene, by_number)[name]
    for path in FORMS:
        scene.attacker.page = SUBMIT.format(wallet + path, scene.link)
        async with page.expect_response(wallet + path) as answering:
            await page.goto(scene.attacker.origin(name))
        assert (await answering.value).status == 403, path
    await page.goto(wallet)
    assert "/unlock" not in page.url


@pytest.mark.parametrize("name", NAMES)
async def test_a_program_of_another_origin_reads_and_changes_nothing(
    scene: Scene, by_number: str, page: Page, name: str
) -> None:
    scene.attacker.page = "<h1>Win a prize</h1>"
    await page.goto(scene.attacker.origin(name))
    wallet = targets(scene, by_number)[name]
    got = await page.evaluate(
        """async ([wallet, link]) => {
            const got = [];
            for (const mode of ["cors", "no-cors", "same-origin"])
                for (const method of ["GET", "POST"])
                    for (const path of ["/", "/pay", "/send", "/unlock", "/history", "/static/site.js"]) {
                        const form = method === "POST" ? new URLSearchParams({link, amount: "5.00"}) : undefined;
                        try {
                            const answer = await fetch(wallet + path, {mode, method, credentials: "include", body: form});
                            got.push(`${answer.type} ${answer.status} ${await answer.text()}`);
                        } catch { got.push("failed"); }
                    }
            navigator.sendBeacon(wallet + "/lock", new URLSearchParams({csrf: ""}));
            const stream = new EventSource(wallet + "/history", {withCredentials: true});
            got.push(await new Promise(done => { stream.onerror = () => done("failed"); stream.onopen = () => done("open"); }));
            const socket = new WebSocket(wallet.replace("http", "ws") + "/");
            got.push(await new Promise(done => { socket.onerror = () => done("failed"); socket.onopen = () => done("open"); }));
            return got;
        }""",  # noqa: E501 - a program
        [wallet, scene.link],
    )
    assert len(got) == 38
    assert set(got) <= {"failed", "opaque 0 "}
    await page.goto(wallet)
    assert "/unlock" not in page.url


@pytest.mark.parametrize("element", ["iframe src", "object data", "embed src"])
async def test_no_page_is_shown_inside_another(scene: Scene, by_number: str, page: Page, element: str) -> None:
    tag, _, attribute = element.partition(" ")
    urls = [by_number, *map(scene.street.url, SITES), f"{scene.street.url('alice')}/pay?link={quote(scene.link)}"]
    scene.attacker.page = "".join(f'<{tag} {attribute}="{url}"></{tag}>' for url in urls)
    await page.goto(scene.attacker.origin("evil.localhost"), wait_until="load")
    assert [frame.url for frame in page.frames[1:] if frame.url.startswith("http")] == []


async def test_a_window_that_was_opened_is_out_of_reach(scene: Scene, buyer: BrowserContext, page: Page) -> None:
    wallet = scene.street.url("alice")
    scene.attacker.page = f"""<button onclick="window.w = window.open('{wallet}/history')">Look</button>"""
    await page.goto(scene.attacker.origin("evil.localhost"))
    await page.get_by_role("button").click()
    await page.wait_for_function("w.closed")  # so it seems to who has opened it: the two are in separate groups
    opened = next(one for one in buyer.pages if one.url == f"{wallet}/history")
    before = len(scene.attacker.seen)
    reached = await page.evaluate(
        """() => {
            const attempts = [() => w.document.title, () => w.location.href, () => w.eval("1"), () => w[0].name,
                () => { w.postMessage("hello", "*"); throw 0; }, () => { w.location = location.href; throw 0; }];
            return attempts.map(attempt => { try { return attempt(); } catch { return "refused"; } });
        }"""
    )
    assert [one for one in reached if one not in ("refused", "")] == []
    assert await page.evaluate("w.length") == 0
    assert len(scene.attacker.seen) == before
    assert opened.url == f"{wallet}/history"
    assert await opened.evaluate("window.opener") is None
    await opened.close()


async def test_what_a_page_of_another_loads_does_not_tell_whether_the_wallet_is_open(scene: Scene, page: Page) -> None:
    await page.goto(scene.attacker.origin("evil.localhost"))
    told = await page.evaluate(
        """async wallet => {
            const told = [];
            for (const tag of ["script", "img", "link", "video", "audio"])
                for (const path of ["/", "/unlock", "/history", "/static/style.css", "/static/icon.svg"]) {
                    const one = document.createElement(tag);
                    told.push(await new Promise(done => {
                        one.onload = one.onloadeddata = () => done(`${tag} ${path} loaded`);
                        one.onerror = () => done("failed");
                        if (tag === "link") { one.rel = "stylesheet"; one.href = wallet + path; }
                        else one.src = wallet + path;
                        document.body.append(one);
                    }));
                }
            return told;
        }""",
        scene.street.url("alice"),
    )
    assert set(told) == {"failed"}


async def test_cookies_are_out_of_reach_of_programs_and_stay_at_home(
    scene: Scene, buyer: BrowserContext, page: Page
) -> None:
    street, sent = scene.street, list[str]()

    async def note(request: Any) -> None:
        sent.append(f"{request.url} {(await request.all_headers()).get('cookie', '')}")

    page.on("requestfinished", note)
    await page.goto(street.url("shop"))
    await page.get_by_role("button", name="Buy A cup of").click()
    await page.wait_for_url("**/orders/*")
    html = await page.content()
    assert await page.evaluate("document.cookie") == ""
    await page.goto(scene.attacker.origin("evil.localhost"))
    assert not any("ecash-wallet" in one for one in sent)
    assert "ecash" not in scene.attacker.seen[-1].head
    assert all(one.startswith((street.url("shop"), scene.attacker.origin("evil.localhost"))) for one in sent), sent
    for cookie in await buyer.cookies():
        assert cookie["httpOnly"]
        assert cookie["sameSite"] in {"Lax", "Strict"}
        assert not cookie["domain"].startswith(".")
    assert "wallet.localhost" not in html
    assert f":{street.ports['alice']}" not in html


# ---- links that want to deceive


async def test_looking_at_a_link_never_pays(scene: Scene, page: Page) -> None:
    for _ in range(5):
        await page.goto(f"{scene.street.url('alice')}/pay?link={quote(scene.link, safe='')}")
        await page.get_by_role("button", name="Pay").wait_for()


def forged(scene: Scene, *lines: str, **changes: Any) -> str:
    """A link that the shop itself has signed, with lines of its own."""
    link = PaymentLink.parse(scene.link)
    payreq = msgspec.structs.replace(link.unverified, order=lines, payment_id=secrets.token_bytes(16), **changes)
    signed = Signed.make(keys_of(scene.street.shop).identity, Domain.PAYREQ, payreq).encode()
    return str(msgspec.structs.replace(link, payreq=signed))


async def test_what_a_hostile_shop_asks_for_is_shown_as_text(scene: Scene, page: Page) -> None:
    hostile = (
        "<img src=x onerror=alert(1)><script>alert(2)</script>",
        "</bdi></p><form action=//evil.example>",
        "\u202eDSU 00.0 \u2066",
        "{{ 7*7 }} {% raw %} ${7*7}",
        "javascript:alert(3)",
        "a" * 120,
    )
    errors: list[str] = []
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{scene.street.url('alice')}/pay?link={quote(forged(scene, *hostile), safe='')}")
    assert await page.get_by_role("button", name="Pay 0.50 USD").count() == 1
    shown = await page.locator("main bdi").all_text_contents()
    assert [one for one in shown if one in hostile] == list(hostile)
    assert await page.locator("main img, main script, form[action*=evil]").count() == 0
    assert await page.locator("a[href^='javascript']").count() == 0
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert errors == []


@pytest.mark.parametrize("change", ["amount", "signature", "account", "expired", "broker"])
async def test_a_link_that_somebody_has_changed_is_not_paid(scene: Scene, page: Page, change: str) -> None:
    link = PaymentLink.parse(scene.link)
    signed = Signed.decode(link.payreq)
    payreq = Payreq.decode(signed.statement)
    if change == "signature":
        signed = msgspec.structs.replace(signed, signature=bytes(64))
    elif change == "amount":
        signed = msgspec.structs.replace(signed, statement=msgspec.structs.replace(payreq, amount=1).encode())
    changed = str(msgspec.structs.replace(link, payreq=signed.encode()))
    if change == "account":
        changed = forged(scene, "1 × Coffee", account=payreq.account + 1)
    if change == "expired":
        changed = forged(scene, "1 × Coffee", timestamp=1, expires=2, deposit_before=3)
    if change == "broker":
        changed = str(msgspec.structs.replace(link, broker="mqtt://127.0.0.1:9", fingerprint=bytes(32)))
    await page.goto(f"{scene.street.url('alice')}/pay?link={quote(changed, safe='')}")
    assert await page.get_by_role("button", name="Pay").count() == 0
    assert "othing was paid" in await text_of(page)


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,<script>", "web+ecash:pay/", "<svg onload=x>"])
async def test_a_link_that_is_none_is_told_so(scene: Scene, page: Page, link: str) -> None:
    answer = await page.goto(f"{scene.street.url('alice')}/pay?link={quote(link, safe='')}")
    assert answer is not None
    assert answer.status == 400
    assert await page.get_by_role("button", name="Pay").count() == 0


async def test_a_hostile_title_in_a_certificate_is_shown_as_text(
    scene: Scene, page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    street, home = scene.street, tmp_path_factory.mktemp("stall")
    title = ("--kind", "merchant", "--title", HOSTILE_TITLE)
    account = await street.command("bank", "open-account", "stall", *title, home=street.bank)
    await street.command("merchant", "init", "stall", "--bank", street.address, home=home)
    (home / "catalog.toml").write_text('[[item]]\nsku = "x"\ntitle = "Nothing"\nprice = "0.50 USD"\n')
    open_it = ("--web", f":{street.ports['stall']}", "--invitation", account["invitation"])
    stall = await street.processes.start(agent("merchant", "run", "--home", home, *open_it))
    await stall.logs("is open")
    try:
        async with scene.at("stall") as shop:
            assert "<img src=x" not in (await shop.get("/")).text
            order, _ = await ordered(shop, "x")
            link = link_in((await shop.get(f"/orders/{order}")).text)
        await page.goto(f"{street.url('alice')}/pay?link={quote(link, safe='')}")
        assert HOSTILE_TITLE in await page.locator("h1 bdi").inner_text()
        assert await page.locator("main img").count() == 0
    finally:
        assert await stall.stop() == 0


# ---- from a program: names, forms of HTTP, slowness


@pytest.mark.parametrize("site", SITES)
async def test_a_site_answers_under_its_own_names_only(scene: Scene, site: str) -> None:
    port = scene.street.ports[site]
    own = scene.street.url(site).removeprefix("http://")
    for host, status in {
        own: "HTTP/1.1 [23]",
        f"evil.example:{port}": "HTTP/1.1 421",
        "evil.example": "HTTP/1.1 421",
        own.replace(":", ".:"): "HTTP/1.1 421",
        f"{own}\r\nHost: evil.example": "HTTP/1.1 400",
        f"evil.example\r\nX-Forwarded-Host: {own}": "HTTP/1.1 421",
        f"{own}, evil.example": "HTTP/1.1 421",
        "": "HTTP/1.1 421",
    }.items():
        answer = (await spoken(port, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())).decode()
        assert re.match(status, answer), (host, answer[:80])
    absolute = f"GET http://evil.example/ HTTP/1.1\r\nHost: {own}\r\n\r\n".encode()
    assert b" 404 " in (await spoken(port, absolute))[:20]


@pytest.mark.parametrize("site", SITES)
async def test_odd_requests_are_refused_and_the_site_stays_open(scene: Scene, site: str) -> None:
    port, url = scene.street.ports[site], scene.street.url(site)
    head = f" HTTP/1.1\r\nHost: {url[7:]}\r\nOrigin: {url}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    path = {"alice": "/unlock", "shop": "/orders", "bank": "/enter"}[site]
    endless = "".join("8000\r\n" + "a" * 0x8000 + "\r\n" for _ in range(4)) + "0\r\n\r\n"
    for request, statuses in {
        f"POST {path}{head}Transfer-Encoding: chunked\r\n\r\n{endless}": {413},
        f"POST {path}{head}Content-Length: 99999999\r\n\r\n": {413},
        f"POST {path}{head}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde": {400},
        f"POST {path}{head}Transfer-Encoding: gzip, chunked\r\n\r\n": {400, 501},
        f"POST {path}{head}Content-Length: 3\r\n\r\n\xff\xfe&": {400},
        f"GET /{head}X: {'a' * 400_000}\r\n\r\n": {400, 431},
        f"GET /static/../../../pyproject.toml{head}\r\n": {404},
        f"GET /static/%2e%2e/%2e%2e/guard.py{head}\r\n": {404},
        f"GET /static/..%2f..%2fguard.py{head}\r\n": {404},
        f"GET /static//etc/passwd{head}\r\n": {404},
        f"GET /static/%00{head}\r\n": {404},
        f"GET //evil.example/..{head}\r\n": {404},
        f"GET [evil{head}\r\n": {404},
        f"TRACE /{head}\r\n": {405},
    }.items():
        try:
            answer = await spoken(port, request.encode("latin-1"))
        except ConnectionResetError:
            continue  # it has hung up before all was sent
        assert int(answer.split(b" ")[1]) in statuses, (request[:100], answer[:100])
    async with scene.at(site) as asking:
        assert (await asking.get(path if site != "shop" else "/")).status_code == 200


async def test_who_is_slow_keeps_nobody_waiting(scene: Scene) -> None:
    for site in SITES:
        port, url = scene.street.ports[site], scene.street.url(site)
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        head = f"POST /orders HTTP/1.1\r\nHost: {url[7:]}\r\nOrigin: {url}\r\nContent-Length: 1000\r\n"
        for number, (_, writer) in enumerate(slow):
            writer.write(["", head, f"{head}\r\n", f"{head}\r\nbuy="][number % 4].encode())
        async with scene.at(site) as asking, asyncio.timeout(30):
            assert (await asking.get("/static/style.css")).status_code == 200
        for _, writer in slow:
            writer.close()


async def test_many_open_streams_are_bounded_and_others_are_served(scene: Scene) -> None:
    async with scene.at("shop") as shop, contextlib.AsyncExitStack() as streams:
        order, _ = await ordered(shop)

        async def watch() -> int:
            return (await streams.enter_async_context(shop.stream("GET", f"/orders/{order}/events"))).status_code

        assert Counter(await asyncio.gather(*(watch() for _ in range(40)))) == {200: 8, 503: 32}
        async with scene.at("shop") as other:
            assert (await other.get("/")).status_code == 200
            order, _ = await ordered(other)
            async with other.stream("GET", f"/orders/{order}/events") as live:
                assert live.status_code == 200
    async with scene.at("shop") as shop:
        shop.cookies.set("ecash-buyer", scene.cookie)
        async with shop.stream("GET", f"/orders/{scene.order}/events") as live:
            assert live.status_code == 200


async def test_one_browser_orders_so_much_and_no_more_even_all_at_once(scene: Scene) -> None:
    async with scene.at("shop") as shop:
        shop.cookies.set("ecash-buyer", secrets.token_hex(32))
        answers = await asyncio.gather(*(shop.post("/orders", data={"buy": "coffee"}) for _ in range(40)))
    assert Counter(one.status_code for one in answers) == {303: 20, 429: 20}


# ---- from a program: sessions, secrets, orders of others


async def test_a_session_that_was_planted_is_not_the_one_that_opens(scene: Scene) -> None:
    planted = secrets.token_hex(32)
    async with scene.at("alice") as wallet:
        answer = await wallet.post(
            "/unlock", data={"secret": PASSPHRASE}, headers={"Cookie": f"ecash-wallet={planted}"}
        )
        assert answer.cookies["ecash-wallet"] != planted
        wallet.cookies.clear()
        refused = await wallet.get("/history", headers={"Cookie": f"ecash-wallet={planted}"})
    assert refused.headers["location"].startswith("/unlock?next=")


async def test_a_token_is_good_in_its_own_session_only_and_a_session_ends_when_it_is_left(scene: Scene) -> None:
    async with scene.at("alice") as one, scene.at("alice") as two:
        token, other = await unlocked(one), await unlocked(two)
        form = {"amount": "5.00", "bank": "", "once": "1"}
        for wrong in (other, "", token[:-1], token.upper(), "é"):
            for path in ("/send", "/withdraw", "/put-back", "/lock", "/unlock/leave"):
                assert (await one.post(path, data={**form, "csrf": wrong})).status_code == 403
        kept = dict(one.cookies)
        assert (await one.post("/unlock/leave", data={"csrf": token})).status_code == 303
        one.cookies.update(kept)
        assert (await one.get("/history")).headers["location"].startswith("/unlock")
        assert (await one.post("/send", data={**form, "csrf": token})).headers["location"].startswith("/unlock")
        assert (await two.get("/history")).status_code == 200


@pytest.mark.parametrize(
    "onward",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/\t/evil.example",
     "\\\\evil.example", "/\r\nSet-Cookie: a=b", " //evil.example"],
)  # fmt: skip
async def test_no_other_site_can_be_the_next_page(scene: Scene, onward: str) -> None:
    async with scene.at("alice") as wallet:
        asked = await wallet.get("/unlock", params={"next": onward})
        assert "evil.example" not in asked.text
    async with scene.at("shop") as shop:
        form = {"secret": scene.office_key, "next": onward}
        entered = await shop.post("/office/enter", data=form)
        assert entered.headers["location"] == "/office"
        assert (await shop.get("/office/enter", params={"next": onward})).headers["location"] == "/office"
        assert entered.headers.get_list("set-cookie")[-1].startswith("ecash-office=")


async def test_keys_and_passphrases_are_in_no_page_and_no_log(scene: Scene) -> None:
    pages = []
    async with scene.at("shop") as shop:
        shop.cookies.set("ecash-buyer", scene.cookie)
        shown = ["/", "/about", f"/orders/{scene.order}", "/office/enter", "/api/openapi.json", "/api/health"]
        pages += [await shop.get(path) for path in shown]
        await shop.post("/office/enter", data={"secret": "aaaa"})
        entered = await shop.post("/office/enter", data={"secret": scene.office_key})
        assert scene.office_key not in str(entered.headers)
        pages += [await shop.get(path) for path in ("/office", "/office/payout", "/office/webhook")]
        key = {"Authorization": f"Bearer {scene.api_key}"}
        pages += [await shop.get(path, headers=key) for path in ("/api/orders", "/api/nothing")]
    async with scene.at("bank") as bank:
        await bank.post("/enter", data={"secret": scene.operator_key})
        pages += [
            await bank.get(path) for path in ("/", "/accounts", "/accounts/2", "/keys", "/payouts", "/commission")
        ]
    async with scene.at("alice") as wallet:
        await unlocked(wallet)
        pages += [await wallet.get(path) for path in ("/", "/banks", "/history", "/recover")]
    logs = [process.log for process in scene.street.processes._started]
    assert sum(page.status_code == 200 for page in pages) > 15
    hidden = (scene.office_key, scene.api_key, scene.webhook_secret, scene.operator_key, PASSPHRASE)
    for text in [*(page.text for page in pages), *logs]:
        for secret in hidden:
            assert secret not in text
            assert secret.replace("-", "") not in text


async def test_an_order_is_for_its_own_buyer(scene: Scene) -> None:
    async with scene.at("shop") as shop:
        assert (await shop.get(f"/orders/{scene.order}")).status_code == 404
        other, _ = await ordered(shop)
        page = f"/orders/{scene.order}"
        for path in (page, f"{page}/events", f"{page}/files/0", f"/orders/{'0' * 32}", "/orders/%00",
                     f"{page[:-1]}%00", f"{page}%2f..%2f{other}", f"/orders/{scene.order.upper()}"):  # fmt: skip
            answer = await shop.get(path)
            assert answer.status_code in {404, 405}, path
            assert scene.link not in answer.text
        assert (await shop.post(f"{page}/again")).status_code == 404
        for office in ("/office", f"/office/sales/{other}", "/office/events"):
            assert (await shop.get(office)).headers["location"].startswith("/office/enter")
        assert (await shop.post("/office/payout", data={"all": "1"})).headers["location"].startswith("/office/enter")
        for file in ("0", "1", "-1", "..%2f..%2fkeys%2fweb.toml", "%2e%2e", "bluesky.txt", "0%00"):
            assert (await shop.get(f"/orders/{other}/files/{file}")).status_code == 404, file


# ---- the API


def order_of(**line: Any) -> dict[str, Any]:
    return {"lines": [{"text": "x", "price": 1, **line}], "currency": "USD"}


WRONG_ORDERS: Final[dict[str, str | bytes]] = {
    "no JSON": "lines",
    "nothing": "",
    "UTF-16": b"\xff\xfe{\x00",
    "a float": json.dumps(order_of(price=1.5)),
    "a float that is whole": json.dumps(order_of(price=1.0)),
    "not a number": json.dumps(order_of(price=float("nan"))),
    "infinity": '{"lines":[{"text":"x","price":1e999}],"currency":"USD"}',
    "too much": json.dumps(order_of(price=2**53)),
    "far too much": json.dumps(order_of(price=2**64)),
    "too much in all": json.dumps(order_of(price=2**53 - 1, quantity=10_000)),
    "less than nothing": json.dumps(order_of(price=-1)),
    "for nothing": json.dumps(order_of(price=0)),
    "no number": json.dumps(order_of(price=True)),
    "a negative quantity": json.dumps(order_of(quantity=-1)),
    "control characters": json.dumps(order_of(text="a\x00b")),
    "turned writing": json.dumps(order_of(text="a\u202eb")),
    "half a character": '{"lines":[{"text":"\\ud800","price":1}],"currency":"USD"}',
    "deep": "[" * 20_000,
    "deep within": '{"lines":' + "[" * 9_000 + "]" * 9_000 + "}",
    "too long": "a" * 70_000,
    "too many lines": json.dumps({"lines": [{"text": "x", "price": 1}] * 51, "currency": "USD"}),
    "a way out": json.dumps({**order_of(), "return_url": "javascript:alert(1)"}),
    "a log-in": json.dumps({**order_of(), "return_url": "https://shop.example@evil.example/"}),
    "another webhook": json.dumps({**order_of(), "webhook": "http://evil.example"}),
    "a file outside": json.dumps(order_of(file="../keys/web.toml")),
    "a hidden file": json.dumps(order_of(file=".hidden")),
    "a price of one's own": json.dumps({"lines": [{"sku": "song", "price": 1}]}),
}


@pytest.mark.parametrize("wrong", WRONG_ORDERS)
async def test_an_impossible_order_of_the_api_is_refused(scene: Scene, wrong: str) -> None:
    body, before = WRONG_ORDERS[wrong], scene.books()
    headers = {"Authorization": f"Bearer {scene.api_key}", "Content-Type": "application/json"}
    async with scene.at("shop") as shop:
        answer = await shop.post("/api/orders", content=body, headers=headers)
    assert answer.status_code in {400, 413, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    assert scene.books() == before


async def test_the_api_takes_its_key_and_nothing_else(scene: Scene) -> None:
    body, before = json.dumps(order_of()).encode(), scene.books()
    async with scene.at("shop") as shop:
        await shop.post("/office/enter", data={"secret": scene.office_key})
        kind = {"Content-Type": "application/json"}
        for shown in (None, "Bearer", f"Basic {scene.api_key}", f"Bearer {scene.office_key}",
                      f"Bearer {scene.api_key[:-1]}", f"Bearer {scene.api_key}x"):  # fmt: skip
            headers = kind | ({"Authorization": shown} if shown is not None else {})
            assert (await shop.post("/api/orders", content=body, headers=headers)).status_code == 401, shown
        for path in (f"/api/orders?key={scene.api_key}", f"/api/orders/{scene.order}"):
            assert (await shop.get(path)).status_code == 401
        assert (await shop.post(f"/api/orders/{scene.order}/refunds", json={"amount": 1})).status_code == 401
        key = {"Authorization": f"Bearer {scene.api_key}"}
        for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = await shop.post("/api/orders", content=body, headers=key | {"Content-Type": media})
            assert answer.status_code == 415, media
        refused = await shop.post(f"/api/orders/{scene.order}/refunds", json={"amount": 1}, headers=key)
        assert refused.json()["code"] == "not_paid"
    assert scene.books() == before


async def test_the_same_key_places_one_order_even_all_at_once(scene: Scene) -> None:
    headers = {"Authorization": f"Bearer {scene.api_key}", "Idempotency-Key": secrets.token_hex(8)}
    async with scene.at("shop") as shop:
        answers = await asyncio.gather(*(shop.post("/api/orders", json=order_of(), headers=headers) for _ in range(20)))
        other = await shop.post("/api/orders", json=order_of(price=2), headers=headers)
    assert Counter(one.status_code for one in answers) == {201: 1, 200: 19}
    assert len({one.json()["id"] for one in answers}) == 1
    assert other.status_code == 409


async def test_after_all_this_the_books_balance(scene: Scene) -> None:
    await scene.street.books_balance()
    assert not [process.log for process in scene.street.processes._started if "Traceback" in process.log]
