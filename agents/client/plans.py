"""From a plan for the stock to an exchange: which coins in hand go in, and which denominations come out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from protocol.commission import Commission
from protocol.keyset import Denomination
from protocol.selection import TARGET, SelectionError, choose_denominations
from protocol.wallet.stock import Swap

from .exchange import PATIENCE_MS, Inputs, exchange
from .store import ExchangeRow, HeldCoin
from .wallet import Bank, Wallet


class Hand(NamedTuple):
    """Free coins of a bank by value, those that expire first in front, and what it mints now by value."""

    coins: Mapping[int, Sequence[HeldCoin]]
    minted: Mapping[int, bytes]

    @property
    def counts(self) -> dict[int, int]:
        """The number of coins by value."""
        return {value: len(coins) for value, coins in self.coins.items()}

    @property
    def worth(self) -> int:
        """All coins together, in minor units."""
        return sum(value * len(coins) for value, coins in self.coins.items())

    @property
    def values(self) -> list[int]:
        """What the bank mints now."""
        return sorted(self.minted)

    def take(self, counts: Mapping[int, int]) -> list[HeldCoin]:
        """Return so many coins of each value, those that expire first."""
        return [coin for value, count in counts.items() for coin in self.coins[value][:count]]


async def hand_of(wallet: Wallet, bank: Bank, currency: str, wanted: Callable[[bytes, Denomination], bool]) -> Hand:
    """Return the coins in hand that are of a denomination that is `wanted`, and that the bank still exchanges."""
    now = wallet.clock.now()
    minted = bank.ring.current(currency, now)
    known = {
        key: denomination
        for key, denomination in bank.ring.items()
        if key not in bank.ring.revoked and now < denomination.redeem_until and wanted(key, denomination)
    }
    coins: dict[int, list[HeldCoin]] = {}
    for held in await wallet.store.coins(bank.row.name, currency):
        if held.coin.denomination in known:
            coins.setdefault(held.value, []).append(held)
    for same in coins.values():
        same.sort(key=lambda held: (known[held.coin.denomination].spend_until, held.coin.serial))
    return Hand(coins, minted)


async def carry_out(
    wallet: Wallet, bank: Bank, plan: Swap, hand: Hand, purpose: str, patience_ms: int = PATIENCE_MS
) -> ExchangeRow:
    """Exchange as planned for coins of this hand.

    Raises:
        CoinsTaken: if a coin is not free any more; nothing was sent.
        LinkError: if the broker cannot be reached; the exchange is open then.
    """
    inputs = Inputs(own=hand.take(plan.inputs))
    outputs = [hand.minted[value] for value, count in plan.outputs.items() for _ in range(count)]
    return await exchange(wallet, bank, inputs, outputs, plan.commission, purpose, patience_ms)


def plan_refresh(
    due: Mapping[int, int],
    stays: Mapping[int, int],
    denominations: Sequence[int],
    commission: Commission,
    max_coins: int,
) -> Swap | None:
    """Plan to exchange coins that are due for as many fresh ones as make a stock together with those that stay.

    Args:
        due: number of coins to be replaced by value; the most valuable go first where there are too many.
        stays: number of other coins at hand by value.
        denominations: values that the bank mints now, in any order.
        commission: tariff of an exchange.
        max_coins: the most coins that go in and that come out.

    Returns:
        The exchange; None if there is none, or the commission takes all of it.
    """
    coins = sorted(Counter(due).elements(), reverse=True)[:max_coins]
    plenty = dict.fromkeys(denominations, TARGET)
    while coins:
        worth = sum(coins)
        charge = commission.charge(worth)
        for stock in (stays, plenty) if charge < worth else ():
            try:
                outputs = choose_denominations(worth - charge, denominations, stock)
            except SelectionError:
                continue
            if sum(outputs.values()) <= max_coins:
                return Swap(dict(Counter(coins)), dict(sorted(outputs.items(), reverse=True)), charge)
        coins = coins[: len(coins) // 2]
    return None
