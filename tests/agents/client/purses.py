"""What the tests of the wallet's coins share."""

from collections import Counter
from collections.abc import Sequence

import pytest

from agents.client.wallet import Wallet
from agents.client.withdraw import withdraw
from broker.port import Outgoing
from protocol.money import Amount
from protocol.wallet import withdrawal

EXCHANGES = "ecash/v1/north/+/exchange/+"


async def cash_as(monkeypatch: pytest.MonkeyPatch, wallet: Wallet, *values: int) -> None:
    """Withdraw coins of exactly these values."""
    minted = wallet.bank().ring.current("USD", wallet.clock.now())

    async def choose(*_: object) -> Sequence[bytes]:
        return [minted[value] for value in values]

    with monkeypatch.context() as patch:
        patch.setattr("agents.client.withdraw._choose", choose)
        row = await withdraw(wallet, wallet.bank(), Amount(sum(values), "USD"))
    assert isinstance(row.state, withdrawal.Issued)


async def counts(wallet: Wallet, state: str = "free") -> dict[int, int]:
    """The number of coins by value."""
    held: Counter[int] = Counter()
    for _, _, found, value, count in await wallet.store.holdings():
        if found == state:
            held[value] += count
    return dict(held)


def exchange_requests(message: Outgoing) -> bool:
    return "/exchange/" in message.topic


def answers(message: Outgoing) -> bool:
    """What the wallet should hear; the shop hears its bank."""
    return message.topic.startswith("ecash/v1/reply/") and "/bookshop-presence/" not in message.topic


def nothing(_: Outgoing) -> bool:
    return False
