"""A walk past every page of the three sites, in every state that a person may meet it in."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from playwright.async_api import Browser, BrowserContext, Page, Playwright

from broker.embedded import embedded_broker
from tests.conftest import free_port
from tests.processes.process import agent, processes

from .street import ARGUMENTS, CHROMIUM, WITHDRAWN, Street, enter

PASSPHRASE: Final = "nine blue horses"
_PATIENCE_S: Final = 60


class Stop(NamedTuple):
    """A page as it stands now, to be looked at."""

    name: str
    page: Page


class Town(NamedTuple):
    """The street, and the browsers of those who walk in it: two pages of Alice's, one of everybody else's.

    Attributes:
        complaints: what the browsers have written to their consoles, and what they could not load.
    """

    street: Street
    browser: Browser
    alice: Page
    till: Page
    keeper: Page
    stranger: Page
    newcomer: Page
    complaints: list[str]


@asynccontextmanager
async def town(folder: Path, playwright: Playwright) -> AsyncIterator[Town]:
    """Open a street of one's own, with the bank's pages."""
    with embedded_broker(free_port(), folder / "broker") as url:
        async with processes() as started:
            street = Street(folder, str(url), started)
            await street.prepare()
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            complaints: list[str] = []
            contexts = [await browser.new_context(reduced_motion="reduce") for _ in range(4)]
            for one in contexts:
                _listen(one, complaints)
            alice, keeper, stranger, newcomer = [await one.new_page() for one in contexts]
            yield Town(street, browser, alice, await contexts[0].new_page(), keeper, stranger, newcomer, complaints)
            await browser.close()


def _listen(context: BrowserContext, complaints: list[str]) -> None:
    """Write down errors and violations of the policy, but not that a page itself was answered with 404, say."""
    context.set_default_timeout(60_000)

    def told(kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            complaints.append(text)

    context.on("console", lambda message: told(message.type, message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "response",
        lambda answer: (
            complaints.append(f"{answer.status} {answer.url}")
            if answer.status >= 400 and not answer.request.is_navigation_request()
            else None
        ),
    )


async def tour(town: Town) -> AsyncIterator[Stop]:
    """Walk past all pages. Whoever looks may change the size of a page, and must leave it where it is."""
    for part in (_to_coins, _shopping, _paying, _office, _handing_over, _bank, _wrong_turns, _beginning):
        async for stop in part(town):
            yield stop


async def order(town: Town, article: str, quantity: int = 1) -> str:
    """Order from the shop in `town.till`; return the payment link."""
    page = town.till
    await page.goto(town.street.url("shop"))
    await page.get_by_label(f"How many of {article}").fill(str(quantity))
    await page.get_by_role("button", name="Order", exact=True).click()
    await page.wait_for_url("**/orders/*")
    return await page.locator("#pay").get_attribute("href") or ""


async def question(town: Town, link: str) -> Page:
    """Open a payment link in Alice's wallet."""
    await town.alice.goto(f"{town.street.url('alice')}/pay?link={quote(link, safe='')}")
    return town.alice


async def _to_coins(town: Town) -> AsyncIterator[Stop]:
    page, wallet = town.alice, town.street.url("alice")
    await page.goto(wallet)
    yield Stop("wallet-unlock", page)
    await page.get_by_label("passphrase").fill("a guess")
    await page.keyboard.press("Enter")
    await page.get_by_text("not this wallet’s passphrase").wait_for()
    yield Stop("wallet-unlock-wrong", page)
    await enter(page)
    yield Stop("wallet-home-empty", page)
    await page.goto(f"{wallet}/history")
    yield Stop("wallet-history-empty", page)
    await question(town, await order(town, "Bluesky, a song"))
    yield Stop("wallet-pay-withdraw-first", page)
    await page.goto(f"{wallet}/withdraw?amount=some")
    yield Stop("wallet-withdraw-wrong", page)
    await page.goto(f"{wallet}/withdraw?amount={WITHDRAWN}")
    yield Stop("wallet-withdraw", page)
    await page.get_by_role("button", name="Withdraw").click()
    await page.wait_for_url(f"{wallet}/")
    yield Stop("wallet-home", page)
    await page.goto(f"{wallet}/put-back")
    yield Stop("wallet-put-back", page)
    await page.goto(f"{wallet}/put-back?amount=1.00")
    yield Stop("wallet-put-back-question", page)


async def _shopping(town: Town) -> AsyncIterator[Stop]:
    page, shop = town.till, town.street.url("shop")
    await page.goto(shop)
    yield Stop("shop-catalogue", page)
    await page.get_by_role("button", name="Order", exact=True).click()
    await page.locator(".notice.bad").wait_for()
    yield Stop("shop-catalogue-wrong", page)
    await page.goto(f"{shop}/about")
    yield Stop("shop-about", page)
    await page.goto(f"{shop}/no/such/page")
    yield Stop("shop-unknown", page)
    await page.goto(f"{shop}/orders/{'0' * 32}")
    yield Stop("shop-order-unknown", page)
    await order(town, "Bluesky, a song")
    yield Stop("shop-order-waiting", page)
    await town.stranger.goto(page.url)
    yield Stop("shop-order-of-another", town.stranger)


async def _paying(town: Town) -> AsyncIterator[Stop]:
    wallet, shop, page = town.street.url("alice"), town.till, town.alice
    await page.goto(f"{wallet}/pay")
    yield Stop("wallet-pay", page)
    await page.get_by_label("payment link").fill("web+ecash:pay/abcdef")
    await page.get_by_role("button", name="See what it asks for").click()
    yield Stop("wallet-pay-no-link", page)
    await question(town, await order(town, "Bluesky, a song"))
    yield Stop("wallet-pay-question", page)
    await page.get_by_role("button", name="Pay").click()
    await page.wait_for_url("**/history/*")
    yield Stop("wallet-payment", page)
    await shop.locator("#goods").wait_for()
    yield Stop("shop-order-accepted", shop)
    await page.goto(f"{wallet}/history")
    yield Stop("wallet-history", page)
    async for stop in _while_the_bank_is_away(town):
        yield stop


async def _while_the_bank_is_away(town: Town) -> AsyncIterator[Stop]:
    wallet, shop, bank = town.street.url("alice"), town.till, town.street.bank_process
    assert bank
    page = await question(town, await order(town, "A cup of"))
    bank.send(signal.SIGSTOP)
    try:
        await page.get_by_role("button", name="Pay").click(no_wait_after=True)
        await shop.get_by_text("The bank is checking").first.wait_for()
        yield Stop("shop-order-paid", shop)
        await page.goto(wallet)
        yield Stop("wallet-home-under-way", page)
        await page.get_by_role("link", name="See how it stands").click()
        await page.wait_for_url("**/history/*")
        yield Stop("wallet-payment-under-way", page)
    finally:
        bank.send(signal.SIGCONT)
    await shop.locator("#goods").wait_for()


async def _office(town: Town) -> AsyncIterator[Stop]:
    page, office = town.keeper, f"{town.street.url('shop')}/office"
    keys = await town.street.command("merchant", "web", home=town.street.shop)
    await page.goto(office)
    yield Stop("office-enter", page)
    await enter(page, keys["office_key"])
    yield Stop("office-sales", page)
    await (
        page.get_by_role("row")
        .filter(has_text="song")
        .filter(has=page.locator(".badge.good"))
        .get_by_role("link")
        .click()
    )
    await page.wait_for_url("**/sales/*")
    yield Stop("office-sale", page)
    await page.get_by_label("Amount").fill("2.00")
    await page.get_by_role("button", name="Refund").click()
    await page.get_by_role("button", name="Grant").wait_for()
    yield Stop("office-refund-question", page)
    await page.get_by_role("button", name="Grant").click()
    await page.wait_for_url("**/sales/*")
    yield Stop("office-sale-refunded", page)
    await page.goto(f"{office}/payout")
    await page.get_by_text("Your account holds").wait_for()
    yield Stop("office-payout", page)
    await page.get_by_label("Amount").fill("1.00")
    await page.get_by_role("button", name="Pay out this amount").click()
    await page.locator(".notice").first.wait_for()
    yield Stop("office-payout-asked", page)
    await page.goto(f"{office}/webhook")
    yield Stop("office-webhook", page)


async def _handing_over(town: Town) -> AsyncIterator[Stop]:
    page, wallet = town.alice, town.street.url("alice")
    await page.goto(f"{wallet}/send")
    yield Stop("wallet-send", page)
    await page.get_by_label("Amount").fill("much")
    await page.get_by_role("button", name="Set the coins apart").click()
    await page.locator(".error").wait_for()
    yield Stop("wallet-send-wrong", page)
    await send(town, "0.30")
    yield Stop("wallet-sent", page)
    await page.goto(f"{wallet}/receive")
    yield Stop("wallet-receive", page)
    await page.goto(f"{wallet}/request")
    yield Stop("wallet-request", page)
    await page.get_by_label("Amount").fill("3.00")
    await page.get_by_label("A line for the sender").fill("My half of the taxi")
    await page.get_by_role("button", name="Make the request").click()
    await page.get_by_text("Waiting for the sender").wait_for()
    yield Stop("wallet-request-waiting", page)
    await page.get_by_role("button", name="Stop waiting").click()
    await page.locator(".notice").first.wait_for()
    yield Stop("wallet-request-stopped", page)
    await page.goto(f"{wallet}/banks")
    await page.get_by_role("button", name="Look at the account").click()
    await page.locator(".notice").first.wait_for()
    yield Stop("wallet-banks", page)
    await page.get_by_label("The bank’s address").fill("ecash://nowhere")
    await page.get_by_role("button", name="Add this bank").click()
    await page.locator(".error").first.wait_for()
    yield Stop("wallet-banks-wrong", page)
    await page.goto(f"{wallet}/banks/take-over?address={quote(town.street.address, safe='')}")
    yield Stop("wallet-banks-take-over", page)
    await page.goto(f"{wallet}/recover")
    yield Stop("wallet-recover", page)
    await page.get_by_role("button", name="Start").click()
    await page.get_by_role("link", name="Go to the wallet").wait_for()
    yield Stop("wallet-recovered", page)
    await page.goto(f"{wallet}/no/such/page")
    yield Stop("wallet-unknown", page)


async def send(town: Town, amount: str) -> str:
    """Set coins of Alice's apart; return the text to hand over."""
    page = town.alice
    await page.goto(f"{town.street.url('alice')}/send")
    await page.get_by_label("Amount").fill(amount)
    await page.get_by_role("button", name="Set the coins apart").click()
    await page.wait_for_url("**/send/*")
    return await page.locator("#token").input_value()


async def _bank(town: Town) -> AsyncIterator[Stop]:
    page, street = town.keeper, town.street
    bank = await street.processes.start(
        agent("bank", "web", "--home", street.bank, "--listen", f":{street.ports['bank']}")
    )
    await bank.logs("is open")
    await page.goto(street.url("bank"))
    yield Stop("bank-enter", page)
    await enter(page, (street.bank / "keys/web").read_text().strip())
    yield Stop("bank-overview", page)
    await page.get_by_role("button", name="Audit now").click()
    await page.get_by_text("The books balance: no fault").wait_for()
    yield Stop("bank-audit", page)
    for part in ("payouts", "keys", "commission", "accounts"):
        await page.goto(f"{street.url('bank')}/{part}")
        yield Stop(f"bank-{part}", page)
    await page.get_by_label("Name").fill("carol")
    await page.get_by_label("Title").fill("Carol of the corner shop")
    await page.get_by_role("button", name="Open the account").click()
    await page.get_by_text("The invitation, shown this once").wait_for()
    yield Stop("bank-account-invitation", page)
    await page.get_by_label("Amount").fill("10.00")
    await page.get_by_label("Reference").fill("cash, 22 November")
    await page.get_by_role("button", name="Credit the account").click()
    await page.get_by_text("is credited with").wait_for()
    yield Stop("bank-account", page)
    await page.goto(f"{street.url('bank')}/accounts/9999")
    yield Stop("bank-unknown", page)


async def _wrong_turns(town: Town) -> AsyncIterator[Stop]:
    street, shop = town.street, town.till
    await street.hasty_shop(minutes=0.05)
    try:
        link = await order(town, "A cup of")
        await shop.get_by_text("The time for this order is over").first.wait_for()
        yield Stop("shop-order-time-is-over", shop)
        async with asyncio.timeout(_PATIENCE_S):
            while not await shop.get_by_role("button", name="Order again").count():
                await shop.reload()
        yield Stop("shop-order-expired", shop)
        yield Stop("wallet-pay-expired", await question(town, link))
    finally:
        await street.close_shop()
        await street.open_shop()


async def _beginning(town: Town) -> AsyncIterator[Stop]:
    street, page = town.street, town.newcomer
    token, home = await send(town, "1.00"), street.folder / "bob"
    opened = await street.processes.start(agent("client", "web", "--home", home, "--listen", f":{street.ports['bob']}"))
    await opened.logs("is open")
    wallet = street.url("bob")
    await page.goto(wallet)
    yield Stop("wallet-begin", page)
    await page.goto(f"{wallet}/restore")
    yield Stop("wallet-restore", page)
    await page.goto(f"{wallet}/begin")
    await page.get_by_label("Choose a passphrase").fill(PASSPHRASE)
    await page.get_by_label("The same once more").fill(PASSPHRASE.upper())
    await page.get_by_role("button", name="Make my wallet").click()
    await page.locator(".error").first.wait_for()
    yield Stop("wallet-begin-wrong", page)
    await page.get_by_label("Choose a passphrase").fill(PASSPHRASE)
    await page.get_by_label("The same once more").fill(PASSPHRASE)
    await page.get_by_role("button", name="Make my wallet").click()
    await page.wait_for_url("**/begin/words")
    yield Stop("wallet-words", page)
    await page.get_by_role("button", name="I have written them down").click()
    words = await page.locator("dl.pairs dd").all_inner_texts()
    for field in await page.locator("input[name^=word-]").all():
        number = int((await field.get_attribute("name") or "").removeprefix("word-"))
        await field.fill(words[number - 1])
    await page.get_by_role("button", name="I have written them down").click()
    await page.wait_for_url("**/banks")
    yield Stop("wallet-banks-empty", page)
    await page.goto(wallet)
    yield Stop("wallet-home-no-bank", page)
    link = await order(town, "A grand piano")
    await page.goto(f"{wallet}/pay?link={quote(link, safe='')}")
    yield Stop("wallet-pay-unknown-bank", page)
    async for stop in _given(page, wallet, token):
        yield stop
    await page.goto(f"{wallet}/pay?link={quote(link, safe='')}")
    yield Stop("wallet-pay-not-enough", page)


async def _given(page: Page, wallet: str, token: str) -> AsyncIterator[Stop]:
    """Coins come to a wallet that does not know their bank."""
    await page.goto(f"{wallet}/receive")
    await page.get_by_label("The coins as a text").fill(token)
    await page.get_by_role("button", name="See what it is worth").click()
    await page.wait_for_url("**/receive/*")
    yield Stop("wallet-receive-trust", page)
    await page.get_by_role("button", name="I trust this bank").click()
    await page.get_by_role("button", name="Receive them").wait_for()
    yield Stop("wallet-receive-question", page)
    await page.get_by_role("button", name="Receive them").click()
    await page.wait_for_url("**/history/*")
    yield Stop("wallet-received", page)
