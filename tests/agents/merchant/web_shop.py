"""What a web server does with the open shop of a town, and a buyer with the link that it shows."""

from typing import Final

from agents.client.offer import bank_for, open_offer, pay_once
from agents.client.store import ExchangeRow
from agents.client.wallet import Wallet
from agents.merchant.orders import Orders, Sight
from protocol.messages import OrderLine
from protocol.payment_link import PaymentLink
from tests.agents.world import BANK

BROWSER: Final = b"b" * 32
"""The hash of some browser's cookie."""


async def choose(orders: Orders, *skus: str, bank: str = BANK, buyer: bytes = BROWSER) -> Sight:
    """Order one of each."""
    return await orders.choose(bank, [OrderLine(sku, 1) for sku in skus or ("novel",)], buyer)


async def pay_by_link(wallet: Wallet, sight: Sight, patience_ms: int = 20_000) -> ExchangeRow:
    """Pay what the page shows."""
    link = PaymentLink.parse(sight.link)
    async with wallet.presence(bank_for(wallet, link).address.broker) as requester:
        return await pay_once(wallet, await open_offer(wallet, link, requester), requester, patience_ms=patience_ms)


async def seen(orders: Orders, sight: Sight) -> Sight:
    """Look at an order again."""
    found = await orders.find(sight.order.id)
    assert found is not None
    return found


async def until(orders: Orders, sight: Sight, stage: str) -> list[str]:
    """Watch an order until it is there, and return its stages on the way."""
    stages: list[str] = []
    with orders.watch(sight.order.payment_id) as changes:
        async for _ in changes:
            stages.append((await seen(orders, sight)).stage)
            if stages[-1] == stage:
                break
    return stages
