import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agents.client.offer import bank_for, known_payment, open_offer, pay_once, standing_payment
from agents.client.pay import Quote
from agents.client.resume import resume
from agents.client.store import BankRow, ExchangeRow, Note
from agents.client.wallet import Wallet, WalletError
from agents.requester import NobodyAnswers
from broker.port import Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.messages import Catalog, Payreq, Signed, Status
from protocol.payment_link import PaymentLink
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key
from protocol.wallet import payment
from protocol.wallet.paying import Payer, payment_info
from tests.agents.world import BANK, SHOP, Town, cash, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network
from tests.world import alter, altered, seed

from .purses import nothing

PAY = f"ecash/v1/{SHOP}/pay/+"


@pytest.fixture
async def alice(town: Town) -> AsyncIterator[Wallet]:
    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 40)
        yield wallet


def link_to(town: Town, payreq: Payreq, key: bytes = b"", **changes: Any) -> PaymentLink:
    """A link to a payment request under the shop's signature, or another key's."""
    signed = Signed.make(key or town.shop.desk.keys.identity, Domain.PAYREQ, payreq).encode()
    pinned = bytes.fromhex(town.address.fingerprint)
    link = PaymentLink.of(SHOP, BANK, pinned, town.address.broker.public, signed)
    return PaymentLink.parse(str(msgspec.structs.replace(link, **changes)))


async def offered(town: Town, who: str = "page") -> Payreq:
    """What the shop asks somebody for, who has ordered and does not pay."""
    async with town.open_wallet(who) as page:
        await page.store.save_bank(BankRow(BANK, str(town.address), town.mint.announcement, None, None, None))
        await page.start()
        async with page.presence(town.address.broker) as requester:
            return (await town.order(page, requester)).payreq


async def opened(town: Town, wallet: Wallet, link: PaymentLink) -> Quote:
    async with wallet.presence(bank_for(wallet, link).address.broker) as requester:
        return await open_offer(wallet, link, requester)


async def paid(wallet: Wallet, link: PaymentLink, patience_ms: int = 20_000) -> ExchangeRow:
    async with wallet.presence(bank_for(wallet, link).address.broker) as requester:
        quote = await open_offer(wallet, link, requester)
        return await pay_once(wallet, quote, requester, patience_ms=patience_ms)


def payments(network: Network) -> int:
    return len({message.payload for message in network.heard(PAY)})


# ---------------------------------------------------------------- to open


async def test_who_opens_a_link_sees_what_is_asked_and_by_whom(town: Town, alice: Wallet) -> None:
    payreq = await offered(town)
    quote = await opened(town, alice, link_to(town, payreq))
    assert quote.payreq == payreq
    assert (str(quote.amount), quote.shop.certificate.name, quote.bank) == ("0.13 USD", "The Bookshop", alice.bank())
    assert await states(alice) == {"free": 40}


async def test_an_offer_that_has_expired_is_refused(town: Town, alice: Wallet, clock: VirtualClock) -> None:
    payreq = await offered(town)
    clock.advance(payreq.expires - clock.now())
    with pytest.raises(PeerError) as caught:
        await opened(town, alice, link_to(town, payreq))
    assert caught.value.refusal is Refusal.SALE_EXPIRED


async def test_an_offer_that_expires_between_opening_and_paying_is_not_paid(
    town: Town, alice: Wallet, clock: VirtualClock
) -> None:
    async with alice.presence(town.address.broker) as requester:
        quote = await open_offer(alice, link_to(town, await offered(town)), requester)
        clock.advance(quote.payreq.expires - clock.now())
        with pytest.raises(WalletError, match="expired"):
            await pay_once(alice, quote, requester)
    assert await known_payment(alice.store, quote.payreq.payment_id) is None


async def test_a_bank_that_the_wallet_does_not_know_is_named_with_what_to_do(town: Town, alice: Wallet) -> None:
    link = link_to(town, await offered(town), bank="south")
    with pytest.raises(WalletError, match=r"bank south, .*ecash wallet register.* coins of north"):
        bank_for(alice, link)
    async with town.open_wallet("new") as new, alice.presence(town.address.broker) as requester:
        with pytest.raises(WalletError, match="another bank"):
            await open_offer(new, link, requester)


async def test_another_bank_under_a_known_name_is_refused(town: Town, alice: Wallet) -> None:
    link = link_to(town, await offered(town))
    with pytest.raises(WalletError, match="forged"):
        bank_for(alice, alter(link, "fingerprint", altered(link.fingerprint)))


async def test_the_broker_in_a_link_is_never_spoken_with(town: Town, alice: Wallet) -> None:
    link = link_to(town, await offered(town), broker="mqtt://evil.example:1883")
    assert bank_for(alice, link).address.broker == town.address.broker


@pytest.mark.parametrize("field", Payreq.__struct_fields__)
async def test_a_payment_request_altered_on_the_way_is_refused(town: Town, alice: Wallet, field: str) -> None:
    payreq = await offered(town)
    link = link_to(town, payreq)
    signature = Signed.decode(link.payreq).signature
    forged = alter(link, "payreq", Signed(alter(payreq, field).encode(), signature).encode())
    with pytest.raises(PeerError) as caught:
        await opened(town, alice, forged)
    assert caught.value.refusal is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"bank": "south"}, Refusal.WRONG_BANK),
        ({"account": 77}, Refusal.WRONG_MERCHANT),
        ({"currency": "EUR"}, Refusal.WRONG_CURRENCY),
        ({"keyset": bytes(32)}, Refusal.FOREIGN_KEYSET),
    ],
)
async def test_what_the_shop_itself_signs_must_fit_its_certificate_and_the_bank(
    town: Town, alice: Wallet, changes: dict[str, Any], refusal: Refusal
) -> None:
    payreq = msgspec.structs.replace(await offered(town), **changes)
    with pytest.raises(PeerError) as caught:
        await opened(town, alice, link_to(town, payreq))
    assert caught.value.refusal is refusal


@pytest.mark.parametrize(("borrowed", "refusal"), [(False, Refusal.WRONG_BANK), (True, Refusal.WRONG_MERCHANT)])
async def test_a_merchant_that_the_bank_has_not_certified_is_refused(
    town: Town, alice: Wallet, network: Network, borrowed: bool, refusal: Refusal
) -> None:
    shown = Catalog.decode(Signed.decode(network._retained[topics.catalog(SHOP)]).statement)
    key = seed("pirate")
    certificates = shown.certificates if borrowed else ()
    catalog = msgspec.structs.replace(shown, merchant="pirate", key=public_key(key), certificates=certificates)
    network.inject(topics.catalog("pirate"), Signed.make(key, Domain.CATALOG, catalog).encode(), retain=True)
    link = link_to(town, await offered(town), key, merchant="pirate")
    with pytest.raises(PeerError) as caught:
        await opened(town, alice, link)
    assert caught.value.refusal is refusal


async def test_a_shop_that_is_closed_binds_no_coins(town: Town, alice: Wallet, network: Network) -> None:
    link = link_to(town, await offered(town))
    await town.stop_shop()
    with pytest.raises(NobodyAnswers, match="The Bookshop is closed"):
        await opened(town, alice, link)
    assert (await states(alice), payments(network)) == ({"free": 40}, 0)


async def test_a_shop_that_is_open_again_is_paid(town: Town, alice: Wallet, network: Network) -> None:
    link = link_to(town, await offered(town))
    network.inject(topics.status(SHOP), Status(open=False, lanes=0).encode(), retain=True)
    with pytest.raises(NobodyAnswers, match="closed"):
        await paid(alice, link)
    network.inject(topics.status(SHOP), Status(open=True, lanes=0).encode(), retain=True)
    assert isinstance((await paid(alice, link)).state, payment.Paid)


# ---------------------------------------------------------------- to pay


async def test_a_link_is_paid_once_however_often_it_is_opened(town: Town, alice: Wallet, network: Network) -> None:
    link = link_to(town, await offered(town))
    first = await paid(alice, link)
    assert isinstance(first.state, payment.Paid)
    assert await paid(alice, link) == first
    async with town.open_wallet("alice") as again:
        assert await paid(again, link) == first
    assert (await states(alice), payments(network)) == ({"free": 27}, 1)
    assert await known_payment(alice.store, link.unverified.payment_id) == first
    assert await town.faults() == []


async def test_a_double_click_pays_once(town: Town, alice: Wallet, network: Network) -> None:
    link = link_to(town, await offered(town))
    first, second = await asyncio.gather(paid(alice, link), paid(alice, link))
    assert first == second
    assert (await states(alice), payments(network)) == ({"free": 27}, 1)


async def test_two_links_are_two_payments(town: Town, alice: Wallet, network: Network) -> None:
    links = [link_to(town, await offered(town, who)) for who in ("one", "another")]
    first, second = [await paid(alice, link) for link in links]
    assert first.number != second.number
    assert (await states(alice), payments(network)) == ({"free": 14}, 2)


async def test_a_payment_that_is_under_way_is_not_made_again_but_carried_on(
    town: Town, alice: Wallet, network: Network, clock: VirtualClock
) -> None:
    link = link_to(town, await offered(town))
    network.loses = to_shop
    first = asyncio.create_task(paid(alice, link, patience_ms=HOUR_MS // 60))
    await network.wait_for(1, PAY)
    clock.advance(HOUR_MS // 60)
    row = await first
    assert row.open
    assert await paid(alice, link) == row
    assert payments(network) == 1
    network.loses = nothing
    (ended,) = await resume(alice)
    assert isinstance(ended.state, payment.Paid)
    assert await paid(alice, link) == ended


def to_shop(message: Outgoing) -> bool:
    return message.topic.startswith(f"ecash/v1/{SHOP}/pay/")


@pytest.mark.parametrize(
    "ended",
    [payment.Refused(bytes(32), b"", Refusal.ALREADY_SPENT, 1), payment.Released(bytes(32), b"")],
    ids=["refused", "released"],
)
async def test_a_payment_that_came_to_nothing_may_be_made_again(town: Town, alice: Wallet, ended: Any) -> None:
    link = link_to(town, await offered(town))
    before = await entered(alice, link, ended)
    number = link.unverified.payment_id
    assert await known_payment(alice.store, number) == before
    assert await standing_payment(alice.store, number) is None
    alice.clock.advance(1)  # type: ignore[attr-defined]
    row = await paid(alice, link)
    assert isinstance(row.state, payment.Paid)
    assert await known_payment(alice.store, number) == await standing_payment(alice.store, number) == row


async def test_a_disputed_payment_stands_even_if_a_newer_one_was_refused(
    town: Town, alice: Wallet, network: Network
) -> None:
    link = link_to(town, await offered(town))
    sealed = payment.Payment(bytes(32), SHOP, BANK, (), 0, bytes(16), b"", bytes(16), b"")
    disputed = await entered(alice, link, payment.Disputed(sealed, b""), "old")
    alice.clock.advance(1)  # type: ignore[attr-defined]
    refused = await entered(alice, link, payment.Refused(bytes(32), b"", Refusal.ALREADY_PAID, 0), "new")
    assert await known_payment(alice.store, link.unverified.payment_id) == refused
    assert await paid(alice, link) == disputed
    assert payments(network) == 0


async def entered(wallet: Wallet, link: PaymentLink, state: Any, name: str = "before") -> ExchangeRow:
    """An earlier payment by this link, as the wallet's file has it."""
    info = payment_info(link.unverified, Payer("sha-256", bytes(16), ""), bytes(32))
    note = Note(info.amount, info.currency, merchant=SHOP, info=info.encode())
    now = wallet.clock.now()
    row = ExchangeRow(seed(name)[:16], payment.PAY, BANK, state, open=False, wake_at=now, begun_at=now, note=note)
    return await wallet.store.save(row, [], {})


async def test_a_sale_that_the_wallet_has_not_paid_is_not_known(town: Town, alice: Wallet) -> None:
    await town.buy(alice)
    assert await known_payment(alice.store, bytes(16)) is None
    (bought,) = [row for row in await alice.store.exchanges() if row.kind == payment.PAY]
    assert await known_payment(alice.store, bought.id) is None, "it is the sale's number that counts, not the request's"


async def test_who_has_too_little_pays_nothing_and_may_pay_later(town: Town) -> None:
    link = link_to(town, await offered(town))
    async with town.open_wallet("bob") as bob:
        await town.customer(bob, "bob", 5)
        with pytest.raises(WalletError, match=r"do not hold 0.13 USD: bring money to the bank"):
            await paid(bob, link)
        assert await known_payment(bob.store, link.unverified.payment_id) is None
        account = (await town.books.accounts())[-1][0].number
        await town.books.credit(account, 50, "cash of bob, some more")
        assert isinstance((await paid(bob, link)).state, payment.Paid)


async def test_coins_are_changed_first_and_the_owner_is_told(town: Town) -> None:
    link, steps = link_to(town, await offered(town)), list[ExchangeRow]()
    async with town.open_wallet("bob") as bob:
        await town.customer(bob, "bob", 100)
        async with bob.presence(town.address.broker) as requester:
            quote = await open_offer(bob, link, requester)
            row = await pay_once(bob, quote, requester, code="Bluesky", tell=steps.append)
            assert await pay_once(bob, quote, requester, tell=steps.append) == row
    assert [step.kind for step in steps] == ["withdraw"]
    assert row.note.code, "the payer code is kept, sealed"
    assert isinstance(row.state, payment.Paid)
