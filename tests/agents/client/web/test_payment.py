"""Paying by a shop's link: from the click to the receipt."""

import asyncio
import re
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from broker.address import BrokerUrl
from broker.port import Link, LinkDown
from protocol.machine import State
from protocol.payment_link import PaymentLink
from protocol.wallet import payment
from tests.agents.client.purses import answers, cash_as
from tests.agents.client.test_offer import PAY, link_to, offered
from tests.agents.world import Town, cash, states
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network
from tests.world import altered

from .browser import Browser


@pytest.fixture
async def buyer(alice: Browser) -> Browser:
    """Alice with 0.40 USD in coins."""
    async with alice.vault.wallet() as wallet:
        await cash(wallet, 40)
    return alice


def at(link: object) -> str:
    return f"/pay?link={quote(str(link), safe='')}"


def unreachable(broker: BrokerUrl, client_id: str) -> Link:
    raise LinkDown("mqtt://127.0.0.1:1883: refused")


async def free(browser: Browser) -> int:
    async with browser.vault.wallet() as wallet:
        return (await states(wallet)).get("free", 0)


def payments(network: Network) -> int:
    return len({message.payload for message in network.heard(PAY)})


async def shown_receipt(browser: Browser, response: Any) -> State:
    """Where a payment leads to: the page of its exchange."""
    assert response.status_code == 303
    found = re.fullmatch(r"/history/([0-9a-f]{32})", response.headers["location"])
    assert found, response.headers["location"]
    async with browser.vault.store() as store:
        return (await store.exchange(bytes.fromhex(found[1]))).state


async def test_a_link_shows_what_is_asked_and_by_whom_and_pays_nothing(
    town: Town, buyer: Browser, network: Network
) -> None:
    link = link_to(town, await offered(town))
    for _ in range(2):
        page = await buyer.get(at(link))
        assert page.status_code == 200
        for text in ("The Bookshop", "A novel of manners", "Certified by north", "Pay 0.13 USD", "PT900S"):
            assert text in page.text, text
    assert "You pay exactly this" in page.text
    assert payments(network) == 0
    assert await free(buyer) == 40


async def test_one_click_pays_and_leads_to_the_receipt(town: Town, buyer: Browser, network: Network) -> None:
    link = link_to(town, await offered(town))
    await buyer.get(at(link))
    state = await shown_receipt(buyer, await buyer.post("/pay", link=str(link)))
    assert isinstance(state, payment.Paid)
    assert await free(buyer) == 27
    assert payments(network) == 1


async def test_a_double_click_a_reload_and_the_back_button_pay_once(
    town: Town, buyer: Browser, network: Network
) -> None:
    link = link_to(town, await offered(town))
    await buyer.get(at(link))
    clicks = await asyncio.gather(*(buyer.post("/pay", link=str(link)) for _ in range(3)))
    clicks.append(await buyer.post("/pay", link=str(link).upper()))
    assert len({click.headers["location"] for click in clicks}) == 1
    assert isinstance(await shown_receipt(buyer, clicks[0]), payment.Paid)
    again = await buyer.get(at(link))
    assert again.headers["location"] == clicks[0].headers["location"]
    assert payments(network) == 1
    assert await free(buyer) == 27


async def test_an_offer_that_is_not_kept_any_more_is_checked_anew(town: Town, buyer: Browser) -> None:
    link = link_to(town, await offered(town))
    assert isinstance(await shown_receipt(buyer, await buyer.post("/pay", link=str(link))), payment.Paid)


async def test_a_click_pays_what_its_own_page_showed_not_another_link_for_the_same_sale(
    town: Town, buyer: Browser
) -> None:
    payreq = await offered(town)
    cheap, dear = link_to(town, payreq), link_to(town, msgspec.structs.replace(payreq, amount=39))
    await buyer.get(at(cheap))
    await buyer.get(at(dear))
    await buyer.post("/pay", link=str(cheap))
    assert await free(buyer) == 27


async def test_a_payer_code_of_the_owners_own_is_kept_for_the_proof(town: Town, buyer: Browser) -> None:
    link = link_to(town, await offered(town))
    await buyer.get(at(link))
    paid = await buyer.post("/pay", link=str(link), code="Bluesky")
    async with buyer.vault.store() as store:
        row = await store.exchange(bytes.fromhex(paid.headers["location"].rpartition("/")[2]))
    assert row.note.code, "it is sealed"
    assert b"Bluesky" not in row.note.code


async def test_what_is_withdrawn_first_is_said_first_and_done(town: Town, alice: Browser) -> None:
    link = link_to(town, await offered(town))
    page = await alice.get(at(link))
    assert "0.32 USD will be withdrawn first, at a commission of 0.03 USD" in page.text
    assert "Withdraw, and pay 0.13 USD" in page.text
    assert isinstance(await shown_receipt(alice, await alice.post("/pay", link=str(link))), payment.Paid)
    assert await free(alice) == 19


async def test_coins_that_do_not_make_the_amount_are_changed_first_which_is_said(
    town: Town, alice: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with alice.vault.wallet() as wallet:
        await cash_as(monkeypatch, wallet, 4, 4, 4, 4)
    link = link_to(town, await offered(town))
    page = await alice.get(at(link))
    assert "are changed for smaller ones first" in page.text
    assert "Pay 0.13 USD" in page.text
    assert isinstance(await shown_receipt(alice, await alice.post("/pay", link=str(link))), payment.Paid)


async def test_hostile_texts_stay_texts(town: Town, buyer: Browser) -> None:
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    payreq = msgspec.structs.replace(await offered(town), order=(evil, "\u202eevil"))
    page = await buyer.get(at(link_to(town, payreq)))
    assert "<script>alert" not in page.text
    assert "<img" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "<bdi>\u202eevil</bdi>" in page.text
    page = await buyer.get(f"/pay?link={quote(evil)}")
    assert page.status_code == 400
    assert evil not in page.text


class TestALinkThatCannotBePaid:
    async def told(self, browser: Browser, link: object, status: int, heading: str) -> str:
        """Both the link and the button say so, and nothing is paid."""
        page = await browser.get(at(link))
        assert page.status_code == status
        assert f"<h1>{heading}</h1>" in page.text
        sent = await browser.post("/pay", link=str(link))
        assert sent.headers["location"].startswith("/pay")
        assert heading in (await browser.get("/pay")).text
        return page.text

    @pytest.mark.parametrize("text", ["x", "web+ecash:pay/", "web+ecash:pay/abc", "ECASHREQ:ABC", "w" * 13_000])
    async def test_garbage(self, buyer: Browser, text: str) -> None:
        await self.told(buyer, text, 400, "That is no payment link")

    async def test_an_expired_one(self, town: Town, buyer: Browser, clock: VirtualClock) -> None:
        link = link_to(town, await offered(town))
        payreq = link.unverified
        clock.advance(payreq.expires - clock.now())
        await buyer.unlock()
        await self.told(buyer, link, 410, "This offer is over")

    async def test_one_that_expires_while_its_page_is_looked_at(
        self, town: Town, buyer: Browser, clock: VirtualClock
    ) -> None:
        link = link_to(town, msgspec.structs.replace(await offered(town), expires=clock.now() + 1000))
        await buyer.get(at(link))
        clock.advance(1000)
        sent = await buyer.post("/pay", link=str(link))
        assert sent.headers["location"] == at(link)
        assert "This offer is over" in (await buyer.get(at(link))).text
        assert await free(buyer) == 40

    async def test_of_a_bank_that_is_not_known(self, town: Town, buyer: Browser) -> None:
        page = await self.told(
            buyer, link_to(town, await offered(town), bank="south"), 409, "A bank that you do not know"
        )
        assert 'href="/banks"' in page
        assert "takes coins of north" in page

    async def test_of_another_bank_of_the_same_name(self, town: Town, buyer: Browser) -> None:
        link = link_to(town, await offered(town))
        forged = msgspec.structs.replace(link, fingerprint=altered(link.fingerprint))
        await self.told(buyer, forged, 409, "Another bank of the same name")

    async def test_one_whose_signature_is_not_the_shops(self, town: Town, buyer: Browser) -> None:
        link = link_to(town, await offered(town))
        forged = PaymentLink.of(
            link.merchant, link.bank, link.fingerprint, link.broker, link.payreq[:-1] + bytes([link.payreq[-1] ^ 1])
        )
        await self.told(buyer, forged, 409, "This link cannot be trusted")

    async def test_while_the_shop_is_away(self, town: Town, buyer: Browser) -> None:
        link = link_to(town, await offered(town))
        await town.stop_shop()
        page = await self.told(buyer, link, 504, "The shop is away")
        assert f'href="{at(link)}"' in page.replace("&amp;", "&")

    async def test_without_a_connection(self, town: Town, buyer: Browser) -> None:
        link = link_to(town, await offered(town))
        buyer.vault._link = unreachable
        await self.told(buyer, link, 503, "No connection")

    async def test_with_too_little_money_and_no_account(self, town: Town, buyer: Browser) -> None:
        link = link_to(town, msgspec.structs.replace(await offered(town), amount=41))
        async with buyer.vault.wallet() as wallet:
            row = wallet.bank().row._replace(account=None, currency=None)
            await wallet.store.save_bank(row)
        page = await buyer.get(at(link))
        assert page.status_code == 402
        assert "You have 0.40 USD in coins of north, so 0.01 USD are missing" in page.text

    async def test_with_too_little_money_in_the_account(self, town: Town, buyer: Browser) -> None:
        link = link_to(town, msgspec.structs.replace(await offered(town), amount=500))
        await buyer.get(at(link))
        sent = await buyer.post("/pay", link=str(link))
        assert sent.headers["location"] == at(link)
        page = await buyer.get(at(link))
        assert "Not enough money" in page.text
        assert "You have 0.40 USD in coins of north" in page.text
        assert await free(buyer) == 40


class TestAPaymentThatTakesLong:
    async def test_goes_on_and_its_page_tells(self, town: Town, buyer: Browser, network: Network) -> None:
        link = link_to(town, await offered(town))
        await buyer.get(at(link))
        buyer.vault._patience_s = 0.5
        network.loses = answers
        sent = await buyer.post("/pay", link=str(link))
        sale = link.unverified.payment_id.hex()
        assert sent.headers["location"] == f"/pay/{sale}"
        on = await buyer.get(f"/pay/{sale}")
        assert isinstance(await shown_receipt(buyer, on), payment.Paying)

    @pytest.mark.parametrize("sale", ["00" * 16, "garbage"])
    async def test_there_is_no_page_of_a_payment_that_is_not(self, buyer: Browser, sale: str) -> None:
        assert (await buyer.get(f"/pay/{sale}")).status_code == 404
