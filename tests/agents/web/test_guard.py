import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agents.web import guard
from agents.web.guard import MAX_BODY, Guard

HERE = "http://127.0.0.1:8090"
HOSTS = frozenset({"127.0.0.1:8090", "wallet.localhost:8090"})


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {len(await request.body())}")


def site() -> Starlette:
    routes = [Route(path, echo, methods=["GET", "POST"]) for path in ("/", "/api/orders", "/static/style.css")]
    return Starlette(routes=routes)


def browser(*, hosts: frozenset[str] | None = HOSTS, origins: tuple[str, ...] = ()) -> httpx.AsyncClient:
    guarded = Guard(site(), hosts, origins, keyed=("/api/",))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url=HERE)


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "wallet.localhost:8090", "WALLET.localhost:8090"])
async def test_a_site_answers_under_its_own_names(host: str) -> None:
    async with browser() as asking:
        assert (await asking.get("/", headers={"Host": host})).text == "GET 0"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8090", "127.0.0.1", "127.0.0.1:8091", "wallet.localhost.", ""]
)
async def test_a_name_that_somebody_else_points_here_is_refused(host: str) -> None:
    async with browser() as asking:
        refused = await asking.get("/", headers={"Host": host})
    assert refused.status_code == 421


async def test_two_names_at_once_are_refused() -> None:
    async with browser() as asking:
        request = asking.build_request("GET", "/")
        request.headers = httpx.Headers([("host", "127.0.0.1:8090"), ("host", "evil.example")])
        assert (await asking.send(request)).status_code == 421


async def test_a_public_site_may_answer_under_every_name() -> None:
    async with browser(hosts=None) as asking:
        assert (await asking.get("/", headers={"Host": "any.example"})).status_code == 200


@pytest.mark.parametrize(
    "origin", [HERE, None, "null", "http://127.0.0.1:8080", "http://evil.example", "http://127.0.0.1:8090.evil.example"]
)
async def test_a_change_must_be_asked_for_by_the_sites_own_pages(origin: str | None) -> None:
    async with browser() as asking:
        answer = await asking.post("/", headers={"Origin": origin} if origin else {})
    assert answer.status_code == (200 if origin == HERE else 403)


async def test_a_proxy_before_the_site_may_have_an_origin_of_its_own() -> None:
    async with browser(origins=("https://shop.example",)) as asking:
        assert (await asking.post("/", headers={"Origin": "https://shop.example"})).status_code == 200


async def test_where_a_key_counts_any_origin_may_ask() -> None:
    async with browser() as asking:
        assert (await asking.post("/api/orders", headers={"Origin": "http://evil.example"})).status_code == 200


@pytest.mark.parametrize("where", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "dest", "passes"),
    [
        ("navigate", "document", True),
        ("navigate", "iframe", False),
        ("no-cors", "image", False),
        ("cors", "empty", False),
    ],
)
async def test_other_sites_may_link_here_and_load_nothing(where: str, mode: str, dest: str, *, passes: bool) -> None:
    headers = {"Sec-Fetch-Site": where, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    async with browser() as asking:
        assert (await asking.get("/", headers=headers)).status_code == (200 if passes else 403)


async def test_own_pages_load_what_they_need() -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "style"}
    async with browser() as asking:
        style = await asking.get("/static/style.css", headers=headers)
    assert style.status_code == 200
    assert style.headers["cache-control"] == "max-age=3600"


async def test_each_answer_forbids_frames_foreign_scripts_and_keeping() -> None:
    async with browser() as asking:
        for answer in (await asking.get("/"), await asking.post("/")):
            policy = answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "-1", "many", "²"])
async def test_a_body_that_is_too_long_is_refused_before_it_is_read(length: str) -> None:
    async with browser() as asking:
        request = asking.build_request("POST", "/", headers={"Origin": HERE})
        request.headers["content-length"] = length
        assert (await asking.send(request)).status_code == 413


async def test_a_body_that_does_not_say_how_long_it_is_is_refused_when_it_is_too_long() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (MAX_BODY // 2)

    async with browser() as asking:
        assert (await asking.post("/", content=endless(), headers={"Origin": HERE})).status_code == 413


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.05)

    async def never() -> AsyncIterator[bytes]:
        yield b"buy="
        await asyncio.Event().wait()

    async with browser() as asking, asyncio.timeout(120):
        asked = asking.build_request("POST", "/", content=never(), headers={"Origin": HERE})
        assert (await asking.send(asked)).status_code == 408
