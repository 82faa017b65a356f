import asyncio

import pytest
from typer.testing import CliRunner

from agents.cli import app
from agents.client.refund import collect
from agents.client.store import ExchangeRow
from agents.merchant.desk import Result
from agents.merchant.refunds import MAX_REFUSED
from protocol.answer import Answer
from protocol.envelope import Letter, seal_letter
from protocol.exchange import TICKET, RefundAnswer, RefundRequest, Ticket
from protocol.machine import Overdue
from protocol.merchant import refund as machine
from protocol.messages import PaymentInfo
from protocol.refusals import Refusal
from protocol.wallet import payment, refund
from protocol.wallet.outputs import blind_outputs
from tests.agents.byhand import Asking, Caller
from tests.agents.world import BANK, SHOP, Town, cash
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network, matches
from tests.world import alter

TO_BANK = f"ecash/v1/{BANK}/+/refund/+"
ANSWERS = f"ecash/v1/reply/buyer/{SHOP}"


class Buyer(Caller):
    """Who shows tickets by hand."""

    def __init__(self, town: Town, network: Network, paid: ExchangeRow) -> None:
        super().__init__(town, "buyer")
        self.network = network
        self.digest = PaymentInfo.decode(paid.note.info).digest
        self.salt = paid.note.salt

    def ticket(self, number: int, *values: int) -> bytes:
        ids = self.town.ring.current("USD", self.town.clock.now())
        outputs = blind_outputs(self.root, self.town.ring, number.to_bytes(16), [ids[value] for value in values])
        due = self.town.clock.now() + HOUR_MS
        letter = Letter(
            TICKET, number.to_bytes(16), due, self.root.answer_key(bytes(16)), b"", Ticket(outputs).encode()
        )
        return seal_letter(self.town.keyset.envelope_key, letter, None)

    def show(self, ticket: bytes) -> Asking:
        body = RefundRequest(self.digest, self.salt, ticket)
        return self.seal("refund", body, to=self.town.shop.desk.keys.envelope.public)

    async def answer(self, asking: Asking) -> Answer:
        """Send and wait for the answer, which may go out over the network when the bank has decided."""
        heard = len(self.network.heard(ANSWERS))
        sealed = await self.send_to_shop(asking)
        if sealed is None:
            sealed = (await self.network.wait_for(heard + 1, ANSWERS))[-1].payload
        return self.open(asking, sealed, self.town.shop.desk.keys.public)

    async def told(self, ticket: bytes) -> Answer:
        return await self.answer(self.show(ticket))


@pytest.fixture
async def buyer(town: Town, network: Network) -> Buyer:
    """The buyer of what was sold for 13, and nothing is granted yet; the account holds 112."""
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        paid = await town.buy(alice)
    assert isinstance(paid.state, payment.Paid)
    await town.books.credit(town.shop_number, 100, "the shopkeeper's own")
    return Buyer(town, network, paid)


async def grant(town: Town, amount: int) -> bytes:
    [row] = await town.sales.sales()
    await town.sales.grant(row.payment_id, amount, town.clock.now())
    return row.payment_id


async def test_who_asks_without_a_ticket_is_told_what_is_granted(buyer: Buyer) -> None:
    assert (await buyer.told(b"")).refusal == Refusal.NO_REFUND
    await grant(buyer.town, 5)
    assert RefundAnswer.decode((await buyer.told(b"")).check()) == RefundAnswer(5, b"")


@pytest.mark.parametrize("field", ["digest", "salt"])
async def test_only_who_knows_payment_and_salt_is_told_anything(buyer: Buyer, field: str) -> None:
    await grant(buyer.town, 5)
    body = alter(RefundRequest(buyer.digest, buyer.salt, b""), field)
    asking = buyer.seal("refund", body, to=buyer.town.shop.desk.keys.envelope.public)
    assert (await buyer.answer(asking)).refusal == Refusal.UNKNOWN_SALE


async def test_the_same_ticket_has_one_answer_however_often_it_is_shown(buyer: Buyer) -> None:
    town = buyer.town
    await grant(town, 5)
    ticket = buyer.ticket(1, 4, 1)
    asking = buyer.show(ticket)
    first = await buyer.answer(asking)
    issue = RefundAnswer.decode(first.check()).issue
    assert await buyer.answer(asking) == first
    assert RefundAnswer.decode((await buyer.told(ticket)).check()) == RefundAnswer(5, issue)
    await town.stop_shop()
    await town.start_shop()
    assert await buyer.answer(asking) == first
    assert await town.books.balance(town.shop_number) == 112 - 5
    assert len(await town.sales.refunds()) == 1


async def test_a_second_ticket_waits_for_the_first_and_then_gets_nothing(
    buyer: Buyer, network: Network, clock: VirtualClock
) -> None:
    await grant(buyer.town, 5)
    network.loses = lambda message: matches(TO_BANK, message.topic)
    first = buyer.show(buyer.ticket(1, 4, 1))
    assert await buyer.send_to_shop(first) is None
    second = buyer.show(buyer.ticket(2, 4, 1))
    assert (await buyer.answer(second)).refusal == Refusal.PENDING
    assert (await buyer.told(b"")).refusal == Refusal.PENDING
    network.loses = lambda _: False
    clock.advance(60_000)
    await network.wait_for(1, ANSWERS)
    refused = await buyer.answer(second)
    assert refused.refusal == Refusal.NO_REFUND
    await grant(buyer.town, 5)
    assert await buyer.answer(second) == refused, "who was refused has given up, and must not be paid unawares"
    assert RefundAnswer.decode((await buyer.told(buyer.ticket(3, 4, 1))).check()).amount == 5
    assert await buyer.town.faults() == []


@pytest.mark.parametrize("fault", ["garbage", "amount", "kind"])
async def test_a_ticket_that_the_bank_refuses_leaves_the_grant_open(buyer: Buyer, fault: str) -> None:
    town = buyer.town
    payment_id = await grant(town, 5)
    faulty = {
        "garbage": bytes(300),
        "amount": buyer.ticket(1, 4, 2),
        "kind": buyer.seal("fetch", b"", to=town.keyset.envelope_key).envelope,
    }[fault]
    refusal = Refusal.AMOUNT_MISMATCH if fault == "amount" else Refusal.BAD_TICKET
    assert (await buyer.told(faulty)).refusal == refusal
    assert (await town.sales.refundable(payment_id)).left == 5
    assert RefundAnswer.decode((await buyer.told(buyer.ticket(9, 4, 1))).check()).amount == 5
    assert await town.books.balance(town.shop_number) == 112 - 5
    assert (await town.sales.refundable(payment_id)) == (5, 5, 0)


@pytest.mark.parametrize("granted", [0, 5])
async def test_after_sixteen_refused_tickets_of_a_sale_no_more_is_stored_or_ordered(
    buyer: Buyer, network: Network, granted: int
) -> None:
    town = buyer.town
    if granted:
        await grant(town, granted)
    refusal = Refusal.BAD_TICKET if granted else Refusal.NO_REFUND
    for number in range(MAX_REFUSED):
        assert (await buyer.told(bytes([number]) * 300)).refusal == refusal
    ordered = len(network.heard(TO_BANK))
    late = buyer.show(buyer.ticket(1, 4, 1))
    told = await buyer.answer(late)
    assert (told.refusal, "no more are taken" in told.detail) == (Refusal.NO_REFUND, True)
    assert await town.sales.asked(late.request_id) is None
    assert len(network.heard(TO_BANK)) == ordered
    assert len(await town.sales.refunds()) == (MAX_REFUSED if granted else 0)


async def test_a_late_answer_or_timer_of_a_decided_refund_changes_nothing(buyer: Buyer) -> None:
    town = buyer.town
    await grant(town, 5)
    await buyer.told(buyer.ticket(1, 4, 1))
    [row] = await town.sales.refunds()
    assert machine.step(row.state, Overdue(0, 0)) == (row.state, ())
    refunds = town.shop._refunds
    assert await refunds.bank_answered(row.request_id, b"late") == Result()
    assert await refunds.bank_answered(bytes(16), b"late") == Result()


async def test_the_shopkeeper_grants_beside_the_open_shop_and_sees_what_is_collected(
    town: Town, network: Network
) -> None:
    home = str(town.folder / "shop")
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        paid = await town.buy(alice)
        [sold] = await town.sales.sales()
        number = sold.payment_id.hex()
        for arguments, code, says in (
            ((number[:6], "0.05"), 0, "Granted 0.05 USD"),
            ((number[:6], "0.09"), 1, "more than was paid"),
            ((number.upper(), "0"), 1, "nothing is left"),
            (("zz",), 1, "no sale begins"),
        ):
            result = await _command("refund", *arguments, "--home", home)
            assert result[0] == code
            assert says in result[1]
        assert (await collect(alice, paid)).state == refund.Collected(5)
    code, listed = await _command("sales", "--home", home)
    assert code == 0
    assert "0.05" in listed
    assert "Sold and not refunded: 0.08 USD" in listed
    code, listed = await _command("refund", number, "--home", home, "--json")
    assert '"granted": 8' in listed


async def _command(*arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["merchant", *arguments])
    return result.exit_code, result.output
