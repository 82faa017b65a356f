"""Coins from wallet to wallet: handed over as a text, sent to a request, asked for, received."""

import asyncio
import html
import re
from collections.abc import AsyncIterator

import pytest

from agents.client import inbox, transfer
from agents.client.store import ExchangeRow
from agents.client.transfer import Gift
from agents.client.wallet import Wallet
from protocol import topics
from protocol.money import Amount
from protocol.token import Token, TokenRequest
from protocol.wallet.transfer import Claimed, Sent, TakenBack
from tests.agents.world import Town, cash, states
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network

from .browser import ORIGIN, Browser
from .streams import in_time, updates


@pytest.fixture
async def bob(town: Town) -> AsyncIterator[Wallet]:
    """Another wallet, which knows the bank."""
    async with town.open_wallet("bob") as wallet:
        await town.customer(wallet, "bob", 100)
        yield wallet


@pytest.fixture
async def rich(alice: Browser) -> Browser:
    """Alice's browser, when she has coins worth 0.40 USD."""
    async with alice.vault.wallet() as wallet:
        await cash(wallet, 40)
    return alice


def area(page: str, name: str) -> str:
    """The text that can be copied from a page."""
    found = re.search(rf'<textarea id="{name}"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    assert found, page
    return html.unescape(found[1])


async def sent(browser: Browser, amount: str = "0.13", **more: str) -> str:
    """Send as a text, and return the path of the page that shows it."""
    await browser.get("/send")
    answer = await browser.post("/send", None, amount=amount, **more)
    assert answer.status_code == 303, answer.text
    path: str = answer.headers["location"]
    assert path.startswith("/send/")
    return path


async def row_at(browser: Browser, path: str) -> ExchangeRow:
    async with browser.vault.store() as store:
        return await store.exchange(bytes.fromhex(path.split("/")[2]))


async def claim(wallet: Wallet, text: str) -> ExchangeRow:
    return (await inbox.receive(wallet, wallet.bank(), Token.parse(text))).row


class TestSending:
    async def test_a_text_and_a_picture_are_handed_over_and_the_claim_is_shown(
        self, rich: Browser, bob: Wallet, clock: VirtualClock, town: Town
    ) -> None:
        path = await sent(rich, memo="for the tea")
        page = (await rich.get(path)).text
        assert "<svg" in page
        assert "Whoever reads this" in page
        assert "for the tea" in page
        live = updates(rich, f"{path}/live")
        assert "Not claimed yet" in (await anext(live))["html"]["state"]
        assert (await rich.post(f"{path}/look")).headers["location"] == path
        assert "Nobody has claimed" in (await rich.get(path)).text
        await claim(bob, area(page, "token"))
        looked = await rich.post(f"{path}/look")
        assert looked.headers["location"] == path.replace("send", "history")
        update = await in_time(anext(live), clock)
        assert update["done"]
        assert "Claimed" in update["html"]["state"]
        assert (await row_at(rich, path)).state == Claimed()
        assert (await rich.get(path)).headers["location"] == path.replace("send", "history")
        assert await town.faults() == []

    async def test_what_is_not_claimed_is_taken_back(self, rich: Browser, clock: VirtualClock) -> None:
        path = await sent(rich)
        await rich.get(path)
        answer = await rich.post(f"{path}/take-back")
        assert answer.headers["location"] == path.replace("send", "history")
        assert isinstance((await row_at(rich, path)).state, TakenBack)
        assert "taken back" in (await rich.get(answer.headers["location"])).text
        async with rich.vault.wallet() as wallet:
            assert await states(wallet) == {"free": 40}

    async def test_what_is_wrong_with_the_form_is_said_beside_the_field(self, rich: Browser) -> None:
        await rich.get("/send")
        forms = {
            "How much?": {"amount": ""},
            "is not an amount": {"amount": "-1"},
            "too fine": {"amount": "0.005"},
            "whole number from 1 to 365": {"amount": "0.13", "days": "0"},
            "Write a whole number": {"amount": "0.13", "days": "²"},
            "at most 120": {"amount": "0.13", "memo": "x" * 121},
            "no request": {"amount": "0.13", "to": "ECASH:AAAA"},
            "knows no bank": {"amount": "0.13", "bank": "south"},
        }
        for told, form in forms.items():
            answer = await rich.post("/send", None, **form)
            assert answer.status_code == 422
            assert told in answer.text
            assert f'value="{form["amount"]}"' in answer.text, "what was typed is kept"
        async with rich.vault.wallet() as wallet:
            assert await states(wallet) == {"free": 40}

    async def test_who_has_too_little_is_told(self, rich: Browser) -> None:
        await rich.get("/send")
        answer = await rich.post("/send", {"Referer": f"{ORIGIN}/send"}, amount="5.00")
        assert answer.headers["location"] == "/send"
        assert "cannot make 5.00 USD" in (await rich.get("/send")).text

    async def test_what_was_not_sent_has_no_such_page(self, rich: Browser) -> None:
        async with rich.vault.store() as store:
            [withdrawal] = await store.exchanges()
        for action in ("", "/live"):
            assert (await rich.get(f"/send/{withdrawal.id.hex()}{action}")).status_code == 404
        for action in ("/look", "/take-back"):
            assert (await rich.post(f"/send/{withdrawal.id.hex()}{action}")).status_code == 404

    async def test_a_request_gets_its_coins_straight(
        self, rich: Browser, bob: Wallet, clock: VirtualClock, network: Network
    ) -> None:
        asked = await inbox.ask(bob, bob.bank(), Amount(13, "USD"), "", clock.now() + 600_000)
        waits = asyncio.create_task(inbox.wait(bob, asked, rich._attend))
        path = await sent(rich, amount="", to=str(asked.request))
        assert (await waits) is not None
        assert (await row_at(rich, path)).state == Claimed()
        page = await rich.get(path)
        assert "The receiver has the coins" in (await rich.get(page.headers["location"])).text

    async def test_a_receiver_who_is_away_leaves_the_text(
        self, rich: Browser, bob: Wallet, clock: VirtualClock
    ) -> None:
        asked = await inbox.ask(bob, bob.bank(), Amount(13, "USD"), "", clock.now() + 600_000)
        path = await in_time(sent(rich, to=str(asked.request)), clock)
        page = (await rich.get(path)).text
        assert "does not answer now" in page
        assert isinstance((await row_at(rich, path)).state, Sent)
        await claim(bob, area(page, "token"))

    async def test_less_than_was_asked_for_is_not_sent(self, rich: Browser, bob: Wallet, clock: VirtualClock) -> None:
        asked = await inbox.ask(bob, bob.bank(), Amount(13, "USD"), "", clock.now() + 600_000)
        await rich.get("/send")
        answer = await rich.post("/send", amount="0.12", to=str(asked.request))
        assert answer.status_code == 422
        assert "0.13 USD are asked for" in answer.text


class TestRequesting:
    async def asked(self, browser: Browser, network: Network, **form: str) -> tuple[str, TokenRequest]:
        """Ask, and return path and request when somebody listens in the inbox."""
        await browser.get("/request")
        answer = await browser.post("/request", None, **form)
        assert answer.status_code == 303, answer.text
        path: str = answer.headers["location"]
        request = TokenRequest.parse(area((await browser.get(path)).text, "asked"))
        await self.listening(network, request)
        return path, request

    async def listening(self, network: Network, request: TokenRequest) -> None:
        while topics.inboxes(request.inbox) not in getattr(  # noqa: ASYNC110
            network._sessions.get(request.inbox), "filters", {}
        ):
            await asyncio.sleep(0.001)  # the network tells nobody who subscribes

    async def send(self, bob: Wallet, browser: Browser, request: TokenRequest) -> None:
        await cash(bob, 20)
        row = await transfer.give(bob, bob.bank(), Gift(Amount(13, "USD"), request=request))
        row, _ = await transfer.deliver(bob, row, browser._attend, 10**9)
        assert row.state == Claimed()

    async def test_what_was_asked_for_arrives_while_other_pages_are_used(
        self, alice: Browser, bob: Wallet, network: Network, clock: VirtualClock
    ) -> None:
        path, request = await self.asked(alice, network, amount="0.13", memo="<b>tea</b>", minutes="5")
        assert request.amount == 13
        assert request.expires == clock.now() + 300_000
        assert "<b>tea" not in alice.page
        assert "<svg" in alice.page
        live = updates(alice, f"{path}/live")
        assert "Waiting for the sender" in (await anext(live))["html"]["state"]
        async with alice.vault.wallet() as wallet:
            assert await states(wallet) == {}, "the wallet can be used meanwhile"
        await self.send(bob, alice, request)
        update = await in_time(anext(live), clock)
        assert update["done"]
        assert update["title"] == "Arrived"
        assert "Received 0.13 USD" in update["html"]["state"]
        assert "Received 0.13 USD" in (await alice.get(path)).text
        async with alice.vault.wallet() as wallet:
            assert await states(wallet) == {"free": 13}
        assert await bob.store.inbox() == []

    async def test_it_is_waited_on_after_the_wallet_was_locked(
        self, alice: Browser, bob: Wallet, network: Network, clock: VirtualClock
    ) -> None:
        path, request = await self.asked(alice, network, minutes="")
        assert request.amount == 0
        alice.vault.lock()
        await alice.unlock()
        assert "Nobody listens" in (await alice.get("/request")).text
        assert "Nobody listens" in (await alice.get(path)).text
        assert (await alice.post(f"{path}/wait")).headers["location"] == path
        await self.listening(network, request)
        await self.send(bob, alice, request)
        live = updates(alice, f"{path}/live")
        while not (update := await in_time(anext(live), clock))["done"]:
            pass
        assert "Received 0.13 USD" in update["html"]["state"]

    async def test_nothing_comes_in_time(self, alice: Browser, network: Network, clock: VirtualClock) -> None:
        path, _ = await self.asked(alice, network, minutes="5")
        live = updates(alice, f"{path}/live")
        await anext(live)
        update = await in_time(anext(live), clock)
        assert update["done"]
        assert "Nothing came in time" in update["html"]["state"]
        alice.vault.lock()
        await alice.unlock()
        assert (await alice.get(path)).status_code == 404, "then it is forgotten"

    async def test_it_can_be_given_up(self, alice: Browser, network: Network) -> None:
        path, request = await self.asked(alice, network)
        assert (await alice.post(f"{path}/stop")).headers["location"] == "/request"
        assert request.inbox not in network._sessions
        async with alice.vault.store() as store:
            assert await store.inbox() == []

    async def test_a_page_that_is_open_keeps_the_wallet_unlocked(
        self, alice: Browser, network: Network, clock: VirtualClock
    ) -> None:
        path, _ = await self.asked(alice, network, minutes="60")
        live = updates(alice, f"{path}/live")
        await anext(live)
        coming = asyncio.ensure_future(anext(live))
        for _ in range(40):
            clock.advance(60_000)
            await asyncio.sleep(0.01)
        assert (await alice.get("/request")).status_code == 200
        alice.vault.lock()
        assert (await in_time(coming, clock))["done"]

    async def test_what_is_wrong_is_said(self, alice: Browser) -> None:
        await alice.get("/request")
        forms = {
            "is not an amount": {"amount": "much"},
            "whole number from 1 to 1440": {"minutes": "1441"},
            "printable": {"memo": "\x1b[2J"},
        }
        for told, form in forms.items():
            answer = await alice.post("/request", None, **form)
            assert answer.status_code == 422
            assert told in answer.text


class TestReceiving:
    async def token(self, bob: Wallet, memo: str = "for the tea") -> Token:
        await cash(bob, 20)
        row = await transfer.give(bob, bob.bank(), Gift(Amount(13, "USD"), memo))
        return await transfer.token_of(bob, row)

    async def pasted(self, browser: Browser, token: Token) -> str:
        await browser.get("/receive")
        answer = await browser.post("/receive", token=str(token).lower())
        path: str = answer.headers["location"]
        assert path == f"/receive/{token.hash.hex()}", "the coins stand in no address"
        return path

    async def test_first_it_is_shown_then_taken(self, alice: Browser, bob: Wallet) -> None:
        token = await self.token(bob, "<i>tea</i>")
        path = await self.pasted(alice, token)
        page = (await alice.get(path)).text
        assert "Coins worth" in page
        assert "0.13" in page
        assert "&lt;i&gt;tea" in page
        answer = await alice.post(path)
        assert answer.headers["location"].startswith("/history/")
        assert "Received 0.13 USD" in (await alice.get(answer.headers["location"])).text
        async with alice.vault.wallet() as wallet:
            assert await states(wallet) == {"free": 13}
        again = await alice.get(path)
        assert again.headers["location"] == answer.headers["location"]
        assert (await alice.post(path)).headers["location"] == answer.headers["location"]

    async def test_a_bank_that_is_new_must_be_trusted_first(self, owner: Browser, town: Town, network: Network) -> None:
        await town.start_bank()
        async with town.open_wallet("bob") as bob:
            await town.customer(bob, "bob", 100)
            token = await self.token(bob)
        path = await self.pasted(owner, token)
        before = len(network.published)
        page = (await owner.get(path)).text
        assert "Do you trust the bank north?" in page
        assert str(town.address) in page
        refused = await owner.post(path)
        assert refused.headers["location"] == path
        assert len(network.published) == before, "nobody was asked anything"
        assert (await owner.post(f"{path}/trust")).headers["location"] == path
        assert "Coins worth" in (await owner.get(path)).text
        answer = await owner.post(path)
        assert "Received 0.13 USD" in (await owner.get(answer.headers["location"])).text

    async def test_another_bank_of_the_same_name_is_refused(self, alice: Browser, bob: Wallet) -> None:
        token = await self.token(bob)
        fields = {name: getattr(token, name) for name in token.__struct_fields__} | {"fingerprint": bytes(32)}
        page = await alice.get(await self.pasted(alice, Token(**fields)))
        assert page.status_code == 409
        assert "another bank north" in page.text

    async def test_what_was_spent_before_brings_nothing(self, alice: Browser, bob: Wallet, town: Town) -> None:
        token = await self.token(bob)
        async with town.open_wallet("carol") as carol:
            await town.customer(carol, "carol", 0)
            await claim(carol, str(token))
        answer = await alice.post(await self.pasted(alice, token))
        assert "spent before" in (await alice.get(answer.headers["location"])).text

    async def test_what_is_no_token_is_said(self, alice: Browser) -> None:
        await alice.get("/receive")
        for text in ("", "hello", "ECASH:", "ECASH:MFRGG", "ECASHREQ:AAAA", "<script>"):
            answer = await alice.post("/receive", token=text)
            assert answer.status_code == 422
            assert "These are no coins" in answer.text
            assert "<script>" not in answer.text.replace('<script src="/static/site.js" defer></script>', "")

    async def test_locking_forgets_what_was_pasted(self, alice: Browser, bob: Wallet) -> None:
        path = await self.pasted(alice, await self.token(bob))
        alice.vault.lock()
        await alice.unlock()
        assert (await alice.get(path)).status_code == 404


async def test_a_form_that_is_sent_twice_sends_once(rich: Browser) -> None:
    await rich.get("/send")
    form = {"amount": "0.10", "once": "a" * 32}
    first, again = await asyncio.gather(*(rich.post("/send", None, **form) for _ in range(2)))
    assert first.headers["location"] == again.headers["location"]
    other = await rich.post("/send", None, amount="0.10", once="b" * 32)
    assert other.headers["location"] != first.headers["location"]
    async with rich.vault.store() as store:
        assert len([row for row in await store.exchanges() if isinstance(row.state, Sent)]) == 2
