import logging
import socket

import httpx
import pytest

from agents.home import HomeError
from agents.merchant.web.address import names_of
from agents.merchant.web.serving import open_pages
from agents.web.listen import Listen
from tests.agents.world import Town

from .storefront import ORIGIN, storefront


async def test_every_page_carries_the_headers_that_bind_a_browser(town: Town) -> None:
    async with storefront(town).browser() as browser:
        for path in ("/", "/about", "/nowhere", "/static/style.css"):
            answer = await browser.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/about"])
async def test_no_page_needs_an_inline_script_or_style(town: Town, path: str) -> None:
    async with storefront(town).browser() as browser:
        page = (await browser.get(path)).text
    assert "style=" not in page
    assert "<script>" not in page
    assert " on" + "click" not in page


async def test_a_shop_on_this_machine_answers_to_no_other_name(town: Town) -> None:
    site = storefront(town)
    async with site.browser(Host="shop.localhost:8080") as own, site.browser(Host="evil.example:8080") as rebound:
        assert (await own.get("/")).status_code == 200
        assert (await rebound.get("/")).status_code == 421


async def test_behind_a_proxy_the_public_name_counts_and_cookies_go_over_https_alone(town: Town) -> None:
    site = storefront(town, "0.0.0.0:8080", "https://shop.example")
    async with site.browser(Host="shop.example", Origin="https://shop.example") as browser:
        answer = await browser.post("/orders", data={"bank": "north", "buy": "novel"})
        assert answer.status_code == 303
        assert answer.headers["set-cookie"].startswith("__Host-ecash-buyer=")
        assert "Secure" in answer.headers["set-cookie"]
    own = answer.headers["set-cookie"].partition(";")[0]
    for cookie, status in ((own, 200), (own.removeprefix("__Host-"), 404)):
        async with site.browser(Host="shop.example", Cookie=cookie) as browser:
            assert (await browser.get(answer.headers["location"])).status_code == status
    async with site.browser(Host="127.0.0.1:8080", Origin="https://shop.example") as proxied:
        assert (await proxied.post("/orders", data={"bank": "north", "buy": "novel"})).status_code == 303


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8090"])
async def test_a_page_of_another_site_cannot_order(town: Town, origin: str) -> None:
    async with storefront(town).browser(Origin=origin) as browser:
        assert (await browser.post("/orders", data={"bank": "north", "buy": "novel"})).status_code == 403
    assert await town.shop.orders.recent() == []


async def test_a_form_without_an_origin_is_refused(town: Town) -> None:
    site = storefront(town)
    async with site.browser() as browser:
        del browser.headers["origin"]
        assert (await browser.post("/orders", data={"bank": "north", "buy": "novel"})).status_code == 403


async def test_what_is_not_there_is_told_in_a_page(town: Town) -> None:
    async with storefront(town).browser() as browser:
        answer = await browser.get("/nowhere")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
    assert 'href="/"' in answer.text


async def test_the_shop_has_the_name_that_the_bank_certifies(town: Town) -> None:
    async with storefront(town).browser() as browser:
        assert "The Bookshop" in (await browser.get("/about")).text


def test_buyers_are_told_the_public_address_or_the_one_on_this_machine() -> None:
    here, everywhere = Listen.parse(":8080"), Listen.parse("0.0.0.0:8080")
    assert names_of(here, "").url == "http://shop.localhost:8080"
    assert "shop.localhost:8080" in names_of(here, "").hosts
    assert names_of(everywhere, "https://Shop.example/").url == "https://shop.example"
    assert names_of(here, "http://shop.example:81").origins == {"http://shop.example:81"}
    assert ORIGIN.removeprefix("http://") in names_of(here, "https://shop.example").hosts


def test_a_shop_that_everybody_can_reach_needs_a_name() -> None:
    with pytest.raises(HomeError, match="--public-url"):
        names_of(Listen.parse("0.0.0.0:8080"), "")
    with pytest.raises(HomeError, match="choose a port"):
        names_of(Listen.parse(":0"), "")
    with pytest.raises(ValueError, match="no address of a web site"):
        names_of(Listen.parse(":8080"), "shop.example")


async def test_the_pages_are_served_beside_the_agent_and_said_where(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        listen = Listen.parse(f":{probe.getsockname()[1]}")
    with caplog.at_level(logging.INFO, "ecash.merchant"):
        async with (
            open_pages(town.shop, town.folder / "shop", town.clock, town.entropy("pages"), listen, ""),
            httpx.AsyncClient(trust_env=False) as browser,
        ):
            answer = await browser.get(f"http://{listen}/")
    assert "A novel of manners" in answer.text
    assert f"http://shop.localhost:{listen.port}/office" in caplog.text
