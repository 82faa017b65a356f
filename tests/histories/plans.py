"""Requests as the model sees them: coins are numbers, and keys are names."""

from typing import NamedTuple, TypeAlias


class Coin(NamedTuple):
    """A coin by the number of its secrets, and the id of its denomination: blinded values differ as these do."""

    number: int
    denomination: bytes


class Enter(NamedTuple):
    """Look at an account, claim one (`invited`), or take it over under a new generation."""

    key: str
    invited: bool
    generation: int


class Withdraw(NamedTuple):
    key: str
    generation: int
    commission: int
    outputs: tuple[Coin, ...]


class Spend(NamedTuple):
    """Coins that come in, and what is wrong with them: "", "forged" or "stolen" (spent on something else)."""

    coins: tuple[Coin, ...]
    digest: bytes
    fault: str


class Deposit(NamedTuple):
    """A payment as its depositor shows it. `altered` tells that these are not the coins that it names."""

    key: str
    account: int
    payment_id: bytes
    amount: int
    deposit_before: int
    spend: Spend
    altered: bool


class Exchange(NamedTuple):
    commission: int
    spend: Spend
    outputs: tuple[Coin, ...]


class Redeem(NamedTuple):
    key: str
    generation: int
    commission: int
    spend: Spend


class Refund(NamedTuple):
    """A merchant's order; `ticket` is the ticket's id, b"" if the ticket cannot be opened."""

    key: str
    amount: int
    commission: int
    ticket: bytes
    ticket_deadline: int
    outputs: tuple[Coin, ...]


class PayOut(NamedTuple):
    key: str
    amount: int
    commission: int


class Recover(NamedTuple):
    key: str
    generation: int


class Look(NamedTuple):
    """What is anonymous and changes nothing: a fetch or a check."""


Plan: TypeAlias = Enter | Withdraw | Deposit | Exchange | Redeem | Refund | PayOut | Recover | Look
