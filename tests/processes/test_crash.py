"""kill -9 loses nothing: every agent dies at every trace point that it passes, and everybody still agrees."""

import signal
from typing import Final

import pytest

from .process import Process
from .world import Reckoning, World, check_bought, check_nothing_happened, check_withdrawn

BANK: Final = ("opened", "posting", "books.before_commit", "books.committed", "posted", "answering")

POINTS: Final = {
    ("withdraw", "bank"): (
        "bank.withdraw.opened",
        "bank.withdraw.posting",
        "bank.books.before_commit",
        "bank.books.committed",
        "bank.withdraw.posted",
        "bank.withdraw.answering",
    ),
    ("withdraw", "wallet"): (
        "wallet.withdraw.saving",
        "wallet.withdraw.requested",
        "wallet.withdraw.sending",
        "wallet.withdraw.sent",
        "wallet.withdraw.issued",
    ),
    ("pay", "bank"): (
        "bank.deposit.opened",
        "bank.deposit.posting",
        "bank.books.before_commit",
        "bank.books.committed",
        "bank.deposit.posted",
        "bank.deposit.answering",
    ),
    ("pay", "shop"): (
        "merchant.order.opened",
        "merchant.order.saving",
        "merchant.order.offered",
        "merchant.pay.opened",
        "merchant.depositing.saving",
        "merchant.depositing.saved",
        "merchant.verdict.arrived",
        "merchant.sold.saving",
        "merchant.sold.saved",
    ),
    ("pay", "wallet"): (
        "wallet.pay.saving",
        "wallet.pay.paying",
        "wallet.pay.sending",
        "wallet.pay.sent",
        "wallet.pay.paid",
    ),
}
"""The trace points that each agent passes in a withdrawal and in a purchase, in order."""


def passed(process: Process) -> tuple[str, ...]:
    """The trace points in a log, each where it was passed first."""
    return tuple(dict.fromkeys(line.rpartition(" ")[2] for line in process.logged if " ecash.trace " in line))


@pytest.fixture(params=["withdraw", "pay"])
def exchange(request: pytest.FixtureRequest) -> str:
    return str(request.param)
