import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agents.merchant.home import web_keys
from agents.merchant.web.problems import TABLE, Code
from agents.web.guard import MAX_BODY
from tests.agents.merchant.web.storefront import ORIGIN, customer, open_shop, paid, storefront
from tests.agents.world import Town
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy

SONG = {"lines": [{"text": "A song", "price": 13}]}
ORDERS = "/api/orders"


@pytest.fixture
async def shop(founded: Town) -> Town:
    """A shop with pages."""
    await founded.start_bank()
    await open_shop(founded)
    return founded


def key_of(town: Town) -> str:
    return web_keys(town.folder / "shop", SeededEntropy("not needed")).api


@pytest.fixture
async def api(shop: Town) -> AsyncIterator[httpx.AsyncClient]:
    """The shop's own system, which has the key."""
    async with client(shop, key_of(shop)) as asking:
        yield asking


def client(town: Town, key: str = "") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app=storefront(town).guarded, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers)


def check_problem(answer: httpx.Response, code: Code) -> str:
    """The answer is this problem, and nothing else; return its detail."""
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told.keys() == {"type", "title", "status", "detail", "code"}
    assert (told["code"], told["status"]) == (code.value, answer.status_code)
    assert (answer.status_code, told["title"]) == TABLE[code]
    detail: str = told["detail"]
    return detail


async def test_an_order_of_the_shops_own_goods_is_placed(api: httpx.AsyncClient) -> None:
    body = {
        "lines": [{"text": "A song", "price": 13, "goods": "la la"}, {"text": "A card", "price": 5, "quantity": 2}],
        "currency": "USD",
        "bank": "north",
        "reference": "cart-1",
        "return_url": "https://shop.example/thanks",
    }
    answer = await api.post(ORDERS, json=body)
    assert answer.status_code == 201
    order = answer.json()
    assert (order["state"], order["amount"], order["currency"]) == ("waiting", 23, "USD")
    assert (order["reference"], order["lines"]) == ("cart-1", ["1 × A song", "2 × A card"])
    assert order["page"] == f"{ORIGIN}/orders/{order['id']}"
    assert order["link"].startswith("web+ecash:pay/")
    assert answer.headers["location"] == f"/api/orders/{order['id']}"
    assert (await api.get(answer.headers["location"])).json() == order


async def test_an_order_from_the_catalogue_has_its_prices(api: httpx.AsyncClient) -> None:
    answer = await api.post(ORDERS, json={"lines": [{"sku": "novel", "quantity": 2}, {"sku": "song"}]})
    assert answer.status_code == 201
    assert (answer.json()["amount"], answer.json()["lines"]) == (31, ["2 × A novel of manners", "1 × Bluesky"])


async def test_a_repeated_order_is_the_same_one(api: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "cart 1"}
    first, second = [await api.post(ORDERS, json=SONG, headers=key) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    other = await api.post(ORDERS, json=SONG | {"reference": "another"}, headers=key)
    check_problem(other, Code.CONFLICT)
    assert len((await api.get(ORDERS)).json()["orders"]) == 1


async def test_an_order_is_seen_to_be_paid_and_refunded(shop: Town, api: httpx.AsyncClient) -> None:
    order = (await api.post(ORDERS, json=SONG)).json()
    at = f"{ORDERS}/{order['id']}"
    check_problem(await api.post(f"{at}/refunds", json={"amount": 13}), Code.NOT_PAID)
    async with customer(shop) as wallet:
        await paid(wallet, f'href="{order["link"]}"')
    seen = (await api.get(at)).json()
    assert (seen["state"], seen["link"], seen["refunded"]) == ("accepted", "", 0)
    assert seen["paid_at"] is not None
    refund = await api.post(f"{at}/refunds", json={"amount": 5})
    assert refund.status_code == 201
    assert (refund.json()["granted"], refund.json()["left"]) == (5, 8)
    assert refund.json()["order"]["id"] == order["id"]
    check_problem(await api.post(f"{at}/refunds", json={"amount": 9}), Code.TOO_MUCH)
    assert (await api.post(f"{at}/refunds", json={"amount": 8})).json()["left"] == 0
    check_problem(await api.post(f"{at}/refunds", json={"amount": 1}), Code.NOTHING_TO_REFUND)


async def test_a_refund_that_is_repeated_is_granted_once(shop: Town, api: httpx.AsyncClient) -> None:
    order = (await api.post(ORDERS, json=SONG)).json()
    async with customer(shop) as wallet:
        await paid(wallet, f'href="{order["link"]}"')
    at, body = f"{ORDERS}/{order['id']}/refunds", {"amount": 5, "granted": 0}
    answers = await asyncio.gather(*(api.post(at, json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    for answer in answers:
        if answer.status_code == 409:
            check_problem(answer, Code.CONFLICT)
    payment_id = (await shop.sales.sales())[0].payment_id
    assert (await shop.sales.refundable(payment_id)).granted == 5


async def test_refunds_at_once_never_come_to_more_than_was_paid(shop: Town, api: httpx.AsyncClient) -> None:
    order = (await api.post(ORDERS, json=SONG)).json()
    async with customer(shop) as wallet:
        await paid(wallet, f'href="{order["link"]}"')
    at = f"{ORDERS}/{order['id']}/refunds"
    answers = await asyncio.gather(*(api.post(at, json={"amount": 5}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 422, 422]
    payment_id = (await shop.sales.sales())[0].payment_id
    assert (await shop.sales.refundable(payment_id)).granted == 10


@pytest.mark.parametrize("same_time", [True, False])
async def test_orders_are_listed_by_pages_and_none_is_left_out(
    shop: Town, api: httpx.AsyncClient, clock: VirtualClock, same_time: bool
) -> None:
    placed = []
    for number in range(7):
        placed.append((await api.post(ORDERS, json=SONG | {"reference": f"cart-{number}"})).json()["id"])
        if not same_time:
            clock.advance(1)
    listed: list[str] = []
    before = ""
    while True:
        page = (await api.get(ORDERS, params={"limit": 3, "before": before})).json()
        listed += [order["id"] for order in page["orders"]]
        before = page["next"]
        if not before:
            break
    assert sorted(listed) == sorted(placed)
    if not same_time:
        assert listed == placed[::-1]


@pytest.mark.parametrize("limit", ["0", "201", "-1", "1.5", "", "x", "٣", "9" * 5000])
async def test_a_page_has_a_sensible_length(api: httpx.AsyncClient, limit: str) -> None:
    check_problem(await api.get(ORDERS, params={"limit": limit}), Code.MALFORMED)


async def test_a_page_begins_after_an_order_that_exists(api: httpx.AsyncClient) -> None:
    check_problem(await api.get(ORDERS, params={"before": "0" * 32}), Code.UNKNOWN_ORDER)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer sk_", "Bearer sk_" + "0" * 64, "Basic c2s6", "Bearer é", "sk_"]
)
async def test_without_the_key_nothing_is_told(shop: Town, header: str) -> None:
    headers = [(b"authorization", header.encode())] if header else []
    async with client(shop) as stranger:
        for answer in [
            await stranger.get(ORDERS, headers=headers),
            await stranger.post(ORDERS, json=SONG, headers=headers),
            await stranger.get(f"{ORDERS}/{'0' * 32}", headers=headers),
            await stranger.post(f"{ORDERS}/{'0' * 32}/refunds", json={"amount": 1}, headers=headers),
        ]:
            check_problem(answer, Code.UNAUTHORIZED)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await shop.sales.sales() == []


async def test_the_key_counts_in_its_header_alone(shop: Town) -> None:
    key = key_of(shop)
    async with client(shop) as stranger:
        for name in ("key", "api_key", "access_token", "authorization"):
            check_problem(await stranger.get(ORDERS, params={name: key}), Code.UNAUTHORIZED)
        stranger.cookies.set("ecash-office", key)
        stranger.cookies.set("authorization", f"Bearer {key}")
        check_problem(await stranger.get(ORDERS), Code.UNAUTHORIZED)
        twice = stranger.build_request("GET", ORDERS)
        twice.headers = httpx.Headers([("host", "127.0.0.1:8080"), *[("authorization", f"Bearer {key}")] * 2])
        check_problem(await stranger.send(twice), Code.UNAUTHORIZED)


async def test_a_shopkeepers_session_opens_no_api(shop: Town) -> None:
    async with storefront(shop).browser() as office:
        secret = web_keys(shop.folder / "shop", SeededEntropy("not needed")).office
        entered = await office.post("/office/enter", data={"secret": secret})
        assert entered.status_code == 303
        check_problem(await office.get(ORDERS), Code.UNAUTHORIZED)


async def test_a_page_of_somebody_else_may_not_read_the_answers(api: httpx.AsyncClient) -> None:
    answer = await api.get(ORDERS, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200  # who has the key may ask, from wherever
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    asked = await api.request("OPTIONS", ORDERS, headers={"Origin": "https://evil.example"})
    check_problem(asked, Code.METHOD_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [
        ("/api/nothing", "GET", Code.NOT_FOUND),
        ("/api/", "GET", Code.NOT_FOUND),
        ("/api/orders/", "GET", Code.NOT_FOUND),
        ("/api/orders", "DELETE", Code.METHOD_NOT_ALLOWED),
        ("/api/health", "POST", Code.METHOD_NOT_ALLOWED),
        ("/api/orders/x/refunds", "GET", Code.METHOD_NOT_ALLOWED),
        (f"/api/orders/{'0' * 32}", "GET", Code.UNKNOWN_ORDER),
        ("/api/orders/%00%ff'--", "GET", Code.UNKNOWN_ORDER),
    ],
)
async def test_wrong_turns_are_told_in_json(api: httpx.AsyncClient, path: str, method: str, code: Code) -> None:
    check_problem(await api.request(method, path), code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"lines": []}',
        b'{"lines": [{"text": "", "price": 1}]}',
        b'{"lines": [{"text": "\xff", "price": 1}]}',
        b'{"lines": [{"text": "\\ud800", "price": 1}]}',
        b'{"lines": [{"text": "x", "price": 0}]}',
        b'{"lines": [{"text": "x", "price": -5}]}',
        b'{"lines": [{"text": "x", "price": 1.5}]}',
        b'{"lines": [{"text": "x", "price": "13"}]}',
        b'{"lines": [{"text": "x", "price": true}]}',
        b'{"lines": [{"text": "x", "price": 9007199254740992}]}',
        b'{"lines": [{"text": "x", "price": 1' + b"0" * 4999 + b"}]}",
        b'{"lines": [{"text": "x", "price": 9007199254740991, "quantity": 2}]}',
        b'{"lines": [{"text": "x", "price": 1, "quantity": 0}]}',
        b'{"lines": [{"text": "x", "price": 1, "quantity": 10001}]}',
        b'{"lines": [{"text": "x\\u202egnp.exe", "price": 1}]}',
        b'{"lines": [{"text": "x\\n", "price": 1}]}',
        b'{"lines": [{"text": "x", "price": 1, "discount": 1}]}',
        b'{"lines": [{"text": "x", "price": 1}], "amount": 1}',
        b'{"lines": [{"text": "x", "price": 1}, {"sku": "novel"}]}',
        b'{"lines": [{"sku": ""}]}',
        b'{"lines": [{"sku": "novel", "price": 1}]}',
        b'{"lines": [{"text": "x", "price": 1}], "currency": "usd"}',
        b'{"lines": [{"text": "x", "price": 1}], "return_url": "javascript:alert(1)"}',
        b'{"lines": [{"text": "x", "price": 1}], "return_url": "//evil.example"}',
        b'{"lines": [{"text": "x", "price": 1}], "reference": "' + b"x" * 121 + b'"}',
        b'{"lines": [{"text": "x", "price": 1}], "reference": "a\\u0000b"}',
        b'{"lines": ' + b"[" * 30_000,
        b'{"x": ' + b'{"x":' * 10_000,
    ],
    ids=lambda body: repr(body[:60]),
)
async def test_what_is_no_order_is_refused(shop: Town, api: httpx.AsyncClient, body: bytes) -> None:
    answer = await api.post(ORDERS, content=body, headers={"Content-Type": "application/json"})
    assert check_problem(answer, Code.MALFORMED)
    assert await shop.sales.sales() == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"lines": [{"sku": "nothing"}]}, Code.UNKNOWN_ITEM),
        ({"lines": [{"sku": "novel"}], "currency": "EUR"}, Code.WRONG_CURRENCY),
        ({"currency": "EUR"}, Code.WRONG_CURRENCY),
        ({"currency": "ZZZ"}, Code.WRONG_CURRENCY),
        ({"currency": "EUR", "bank": "north"}, Code.WRONG_CURRENCY),
        ({"bank": "south"}, Code.WRONG_BANK),
        ({"lines": [{"text": "x", "price": 1, "file": "../merchant.toml"}]}, Code.UNKNOWN_ITEM),
    ],
)
async def test_what_the_shop_has_not_is_refused(api: httpx.AsyncClient, change: dict[str, Any], code: Code) -> None:
    assert check_problem(await api.post(ORDERS, json=SONG | change), code)


@pytest.mark.parametrize("body", [{}, {"amount": 0}, {"amount": -1}, {"amount": "1"}, {"amount": 1, "to": "me"}])
async def test_what_is_no_refund_is_refused(api: httpx.AsyncClient, body: dict[str, Any]) -> None:
    order = (await api.post(ORDERS, json=SONG)).json()
    check_problem(await api.post(f"{ORDERS}/{order['id']}/refunds", json=body), Code.MALFORMED)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_is_json_and_says_so(api: httpx.AsyncClient, kind: str) -> None:
    answer = await api.post(ORDERS, content=b'{"lines": []}', headers={"Content-Type": kind})
    check_problem(answer, Code.UNSUPPORTED_MEDIA_TYPE)
    said = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await api.post(ORDERS, content=b'{"lines": [{"sku": "novel"}]}', headers=said)).status_code == 201


async def test_a_body_that_is_too_large_is_not_read(api: httpx.AsyncClient) -> None:
    large = b" " * (MAX_BODY + 1)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield large[: MAX_BODY // 2]

    said = {"Content-Type": "application/json"}
    check_problem(await api.post(ORDERS, content=large, headers=said), Code.TOO_LARGE)
    check_problem(await api.post(ORDERS, content=parts(), headers=said), Code.TOO_LARGE)


async def test_an_order_too_long_for_a_link_is_refused_and_the_list_stays_whole(api: httpx.AsyncClient) -> None:
    long = {"lines": [{"text": "€" * 120, "price": 1}] * 50}
    check_problem(await api.post(ORDERS, json=long), Code.MALFORMED)
    assert (await api.get(ORDERS)).json() == {"orders": [], "next": ""}


@pytest.mark.parametrize("key", ["x" * 256, "a\tb", "é"])
async def test_an_idempotency_key_is_a_word(api: httpx.AsyncClient, key: str) -> None:
    headers = [(b"idempotency-key", key.encode())]
    check_problem(await api.post(ORDERS, json=SONG, headers=headers), Code.MALFORMED)


async def test_a_failure_shows_nothing_of_the_shop(shop: Town, api: httpx.AsyncClient) -> None:
    await shop.sales.write(lambda db: db.execute("ALTER TABLE web_order RENAME TO elsewhere"))
    answer = await api.get(ORDERS)
    check_problem(answer, Code.INTERNAL)
    assert "web_order" not in answer.text


async def test_health_is_told_to_everybody(shop: Town) -> None:
    async with client(shop) as anybody:
        told = await anybody.get("/api/health")
        assert (told.status_code, told.json()) == (200, {"open": True, "banks": ["north"]})
        shop.shop.ready.clear()
        told = await anybody.get("/api/health")
        assert (told.status_code, told.json()["open"]) == (503, False)
    async with client(shop, key_of(shop)) as system:
        check_problem(await system.post(ORDERS, json=SONG), Code.NOT_READY)
