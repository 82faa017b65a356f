"""What the model keeps of denominations, commissions, accounts and payouts."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Kind(NamedTuple):
    """A denomination: its value in minor units, and its dates."""

    value: int
    mint_from: int
    mint_until: int
    spend_until: int
    redeem_until: int


class Rate(NamedTuple):
    """A commission: so much, and so many percent, rounded to the nearest unit and a half up."""

    flat: int
    percent: int

    def on(self, amount: int) -> int:
        return self.flat + (amount * self.percent + 50) // 100 if amount else 0


@dataclass
class Account:
    """An account: `key` names who holds it, and is "" until it is claimed."""

    number: int
    merchant: bool
    key: str
    generation: int = 0
    balance: int = 0
    withdrawn: int = 0
    withdrawn_at: list[tuple[int, int]] = field(default_factory=list)
    redeemed: int = 0
    destination: bool = False
    withdrawals: list[bytes] = field(default_factory=list)


@dataclass
class Payout:
    """A payout: queued, exported, settled or returned."""

    account: int
    amount: int
    commission: int
    state: str = "queued"
    was_settled: bool = False
