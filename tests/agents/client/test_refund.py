import asyncio
from collections.abc import AsyncIterator

import pytest
import typer

from agents.client.cli.app import finish
from agents.client.refund import collect
from agents.client.resume import resume
from agents.client.show import describe, history_row, outcome_of, succeeded
from agents.client.store import ExchangeRow
from agents.client.wallet import Wallet, WalletError
from broker.port import Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.exchange import RefundOrder
from protocol.refusals import Refusal
from protocol.signatures import public_key
from protocol.wallet import payment, refund
from tests.agents.world import BANK, SHOP, Town, cash, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network, matches

TO_SHOP = topics.merchant_request(SHOP, "refund", "x").replace("/x", "/+")
TO_BANK = f"ecash/v1/{BANK}/+/refund/+"
FETCHES = f"ecash/v1/{BANK}/+/fetch/+"
FROM_BANK = f"ecash/v1/reply/bookshop-presence/{BANK}"
FROM_SHOP = f"ecash/v1/reply/+/{SHOP}"
LARGE = 1500
"""A ticket and its answer are larger, what is said of a ticket that was not shown is smaller."""


@pytest.fixture
async def alice(town: Town) -> AsyncIterator[Wallet]:
    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 20)
        yield wallet


@pytest.fixture
async def paid(town: Town, alice: Wallet, network: Network) -> ExchangeRow:
    """A payment of 13, of which the shop's account got 12; nothing was published since."""
    row = await town.buy(alice)
    assert isinstance(row.state, payment.Paid)
    network.published.clear()
    return row


async def sale_of(town: Town) -> bytes:
    [row] = await town.sales.sales()
    return row.payment_id


async def fund(town: Town, amount: int = 50) -> None:
    await town.books.credit(town.shop_number, amount, "the shopkeeper's own")


async def grant(town: Town, amount: int) -> None:
    await town.sales.grant(await sale_of(town), amount, town.clock.now())


async def test_a_full_refund_is_worth_what_was_paid_and_leaves_the_merchants_account(
    town: Town, alice: Wallet, paid: ExchangeRow
) -> None:
    await fund(town)
    await grant(town, 13)
    row = await collect(alice, paid)
    assert row.state == refund.Collected(13)
    assert await states(alice) == {"free": 20}
    assert await town.books.balance(town.shop_number) == 12 + 50 - 13
    assert await town.faults() == []
    assert (await town.sales.refundable(await sale_of(town))).collected == 13
    assert succeeded(row)
    assert describe(row) == "Collected a refund of 0.13 USD from The Bookshop."
    assert history_row(row)[2] == "refunded"
    assert outcome_of(row)["state"] == "collected"


async def test_a_ticket_asks_for_its_coins_in_the_order_of_an_exchange(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network
) -> None:
    await grant(town, 11)
    network.loses = lambda message: matches(TO_BANK, message.topic)
    row = await collect(alice, paid, patience_ms=0)
    assert isinstance(row.state, refund.Requested)
    values = [town.ring.denomination(one).value for one in row.state.claim.outputs]
    assert (values, len(set(values)) > 1) == (sorted(values, reverse=True), True)


async def test_without_a_grant_there_is_no_refund(alice: Wallet, paid: ExchangeRow) -> None:
    with pytest.raises(PeerError) as caught:
        await collect(alice, paid)
    assert caught.value.refusal is Refusal.NO_REFUND
    assert {row.kind for row in await alice.store.exchanges()} == {"withdraw", "pay"}


async def test_only_a_payment_that_was_paid_is_refunded(alice: Wallet, paid: ExchangeRow) -> None:
    [withdrawn] = [row for row in await alice.store.exchanges() if row.kind == "withdraw"]
    with pytest.raises(WalletError, match="no payment"):
        await collect(alice, withdrawn)


async def test_parts_are_collected_one_after_the_other_and_never_more_than_was_paid(
    town: Town, alice: Wallet, paid: ExchangeRow
) -> None:
    await fund(town)
    for amount in (5, 7):
        await grant(town, amount)
        assert (await collect(alice, paid)).state == refund.Collected(amount)
    with pytest.raises(ValueError, match="more than was paid"):
        await grant(town, 2)
    with pytest.raises(PeerError, match=Refusal.NO_REFUND):
        await collect(alice, paid)
    assert await town.books.balance(town.shop_number) == 12 + 50 - 12
    assert await states(alice) == {"free": 19}
    assert await town.faults() == []


async def test_several_grants_are_collected_at_once(town: Town, alice: Wallet, paid: ExchangeRow) -> None:
    await grant(town, 3)
    await grant(town, 4)
    assert (await collect(alice, paid)).state == refund.Collected(7)


async def test_an_account_that_does_not_hold_the_money_leaves_the_grant_open(
    town: Town, alice: Wallet, paid: ExchangeRow
) -> None:
    await grant(town, 13)
    row = await collect(alice, paid)
    assert isinstance(row.state, refund.Waiting)
    assert row.state.refusal == Refusal.INSUFFICIENT_FUNDS
    assert "can be collected later" in describe(row)
    assert outcome_of(row)["refusal"] == Refusal.INSUFFICIENT_FUNDS
    assert await town.books.balance(town.shop_number) == 12
    assert (await town.sales.refundable(await sale_of(town))).left == 13
    await fund(town)
    assert (await collect(alice, paid)).state == refund.Collected(13)
    assert await town.faults() == []


async def test_the_owner_is_told_of_a_refusal_at_once_with_exit_code_1(
    town: Town, alice: Wallet, paid: ExchangeRow, capsys: pytest.CaptureFixture[str]
) -> None:
    await grant(town, 13)
    row = await collect(alice, paid, patience_ms=HOUR_MS)  # no time passes here
    assert row.open
    for as_json in (False, True):
        with pytest.raises(typer.Exit) as caught:
            finish(row, as_json=as_json)
        assert caught.value.exit_code == 1
    said = capsys.readouterr()
    assert "did not refund 0.13 USD" in " ".join(said.err.split())
    assert Refusal.INSUFFICIENT_FUNDS in said.out


async def test_what_a_merchant_has_served_days_after_it_refused_is_collected(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network, clock: VirtualClock
) -> None:
    await grant(town, 13)
    row = await collect(alice, paid)
    assert isinstance(row.state, refund.Waiting)
    assert await resume(alice) == [], "a day has not passed"
    clock.advance(refund.LOOK_EVERY_MS)
    [row] = await resume(alice)
    assert isinstance(row.state, refund.Waiting)
    assert len(network.heard(FETCHES)) == 2
    await fund(town)
    order = RefundOrder(13, 0, row.state.claim.ticket)
    _, envelope = town.shop.desk.seal(town.ring, "refund", order)
    answered = len(network.heard(FROM_BANK))
    network.inject(topics.bank_request(BANK, 0, "refund", "bookshop-presence"), envelope)
    await network.wait_for(answered + 1, FROM_BANK)
    clock.advance(refund.LOOK_EVERY_MS)
    [row] = await resume(alice)
    assert row.state == refund.Collected(13)
    assert await states(alice) == {"free": 20}
    assert await town.faults() == []


async def test_a_refused_ticket_lapses_when_the_bank_serves_it_no_more(
    town: Town, alice: Wallet, paid: ExchangeRow, clock: VirtualClock
) -> None:
    await grant(town, 13)
    row = await collect(alice, paid)
    assert isinstance(row.state, refund.Waiting)
    clock.advance(row.state.claim.deadline + refund.MARGIN_MS - clock.now())
    assert [one.state for one in await resume(alice)] == [refund.Lapsed()]


@pytest.mark.parametrize("hop", [TO_SHOP, TO_BANK, FROM_BANK, FROM_SHOP], ids=["ask", "order", "answer", "issue"])
async def test_whatever_is_lost_is_sent_again_and_debited_once(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network, clock: VirtualClock, hop: str
) -> None:
    await fund(town)
    await grant(town, 13)
    lost: list[Outgoing] = []

    def loses(message: Outgoing) -> bool:
        if not matches(hop, message.topic) or len(message.payload) < LARGE or len(lost) == 2:
            return False
        lost.append(message)
        return True

    network.loses = loses
    task = asyncio.create_task(collect(alice, paid, patience_ms=HOUR_MS))
    for count in (1, 2):
        while len(lost) < count:
            await network.wait_for(len(network.published) + 1)
        clock.advance(60_000)
    assert (await task).state == refund.Collected(13)
    assert len({message.payload for message in lost}) == 1
    assert await town.books.balance(town.shop_number) == 12 + 50 - 13
    assert await town.faults() == []


async def test_a_merchant_that_keeps_the_banks_answer_to_itself_is_passed_by(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network, clock: VirtualClock
) -> None:
    await grant(town, 5)
    network.loses = lambda message: matches(FROM_SHOP, message.topic) and len(message.payload) >= LARGE
    task = asyncio.create_task(collect(alice, paid, patience_ms=HOUR_MS))
    for count in range(2, 2 + refund.FETCH_EVERY - 1):  # the first was a question without a ticket
        await network.wait_for(count, TO_SHOP)
        await network.wait_for(1, FROM_BANK)
        clock.advance(60_000)
    assert (await task).state == refund.Collected(5)
    assert len(network.heard(FETCHES)) == 1
    assert await states(alice) == {"free": 12}


async def test_a_merchant_that_refuses_a_ticket_which_the_bank_has_served_cheats_nobody(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grant(town, 5)
    with monkeypatch.context() as patch:
        patch.setattr("agents.merchant.refunds.RefundAnswer", _no_issue)
        row = await collect(alice, paid, patience_ms=0)
        await network.wait_for(1, FROM_BANK)
    assert isinstance(row.state, refund.Requested)
    overdue = refund.RefusalArrived(Refusal.NO_REFUND, "none", town.clock.now(), 0)
    state, effects = refund.step(row.state, overdue)
    await alice.store.save(row._replace(state=state), effects, {})
    [after] = await resume(alice)
    assert after.state == refund.Collected(5)
    assert len(network.heard(FETCHES)) == 1


def _no_issue(amount: int, issue: bytes) -> object:
    from protocol.exchange import RefundAnswer

    return RefundAnswer(amount, b"lost" if issue else b"")


async def test_a_wallet_that_stops_in_the_middle_goes_on(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network
) -> None:
    await grant(town, 5)
    row = await collect(alice, paid, patience_ms=0)
    assert row.open
    with pytest.raises(WalletError, match="under way"):
        await collect(alice, paid)
    [after] = await resume(alice)
    assert after.state == refund.Collected(5)
    assert await town.faults() == []


@pytest.mark.parametrize("who", ["shop", "bank"])
async def test_a_shop_or_bank_that_restarts_in_the_middle_goes_on(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network, clock: VirtualClock, who: str
) -> None:
    await grant(town, 5)
    network.loses = lambda message: matches(FROM_BANK, message.topic)
    task = asyncio.create_task(collect(alice, paid, patience_ms=HOUR_MS))
    await network.wait_for(1, FROM_BANK)
    if who == "shop":
        await town.stop_shop()
        await town.start_shop()
    else:
        await town.restart_bank()
    network.loses = lambda _: False
    clock.advance(60_000)
    assert (await task).state == refund.Collected(5)
    assert await town.books.balance(town.shop_number) == 12 - 5
    assert await town.faults() == []


async def test_a_refund_nobody_answers_ends_when_the_bank_serves_its_ticket_no_more(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network, clock: VirtualClock
) -> None:
    await grant(town, 5)
    network.loses = lambda message: matches(TO_BANK, message.topic)
    row = await collect(alice, paid, patience_ms=0)
    assert isinstance(row.state, refund.Requested)
    clock.advance(row.state.claim.deadline + refund.MARGIN_MS - clock.now())
    [after] = await resume(alice)
    assert after.state == refund.Lapsed()
    assert "once more" in describe(after)
    assert await states(alice) == {"free": 7}


async def test_nobody_learns_who_is_refunded_and_the_coins_are_fresh(
    town: Town, alice: Wallet, paid: ExchangeRow, network: Network
) -> None:
    await grant(town, 12)
    row = await collect(alice, paid)
    assert row.state == refund.Collected(12)
    wire = b"".join(message.topic.encode() + message.payload for message in network.published)
    shop = b"".join(path.read_bytes() for path in (town.folder / "shop").glob("sales.db*"))
    bank = b"".join(path.read_bytes() for path in town.folder.glob("books.db*"))
    coins = await alice.store.read(
        lambda db: db.execute("SELECT serial, signature FROM coin WHERE request_id = ?", (row.id,)).fetchall()
    )
    assert coins
    for serial, signature in coins:
        for known in (wire, shop, bank):
            assert serial not in known
            assert signature not in known
    holder = public_key(alice.root.account(town.keyset.identity))
    assert holder in bank, "what is searched is what the books hold"
    assert holder not in shop
    assert holder not in wire
