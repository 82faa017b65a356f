"""The shop under a flood of requests."""

import pytest

from agents.admission import Bounds
from broker.port import Incoming
from protocol import topics
from protocol.messages import OrderLine, OrderRequest
from protocol.refusals import Refusal
from tests.agents.merchant.test_till import Buyer
from tests.agents.world import BANK, SHOP, Town
from tests.simulation.clock import VirtualClock

ORDER = OrderRequest(BANK, (OrderLine("card", 1),))


@pytest.fixture
async def buyer(founded: Town) -> Buyer:
    """A buyer in a shop that grants each client id two requests, and then one a second."""
    await founded.start_bank()
    founded.bounds = Bounds(rate=1, burst=2)
    await founded.start_shop()
    return Buyer(founded, "buyer")


async def test_a_buyer_that_has_used_up_its_rate_is_told_when_to_come_back_and_then_dropped(
    buyer: Buyer, clock: VirtualClock
) -> None:
    for _ in range(2):
        assert (await buyer.order()).refusal == ""
    asking = buyer.to_shop("order", ORDER)
    refused = buyer.read_answer(asking, await buyer.send_to_shop(asking))
    assert (refused.refusal, refused.retry_after) == (Refusal.OVERLOADED, 1_000)
    assert await buyer.town.sales.asked(asking.request_id) is None
    assert await buyer.send_to_shop(asking) is None
    assert buyer.town.shop.dropped == {"flood": 1}
    other = Buyer(buyer.town, "other")
    assert (await other.order()).refusal == ""
    clock.advance(1_000)
    assert buyer.read_answer(asking, await buyer.send_to_shop(asking)).refusal == ""


async def test_junk_uses_up_what_its_sender_may_send(buyer: Buyer) -> None:
    junk = Incoming(topics.merchant_request(SHOP, "order", buyer.name), b"\1junk" * 10)
    assert await buyer.town.shop.handle(junk) is None
    asking = buyer.to_shop("order", ORDER)
    refused = buyer.read_answer(asking, await buyer.send_to_shop(asking))
    assert (refused.refusal, refused.retry_after) == (Refusal.OVERLOADED, 3_000)
