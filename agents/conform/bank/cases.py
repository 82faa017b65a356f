"""All cases for banks, in the order in which they are run: later ones stand on what earlier ones did."""

from ..case import Suite
from . import (
    accounts,
    announced,
    delivery,
    deposits,
    exchanges,
    inquiries,
    proofs,
    recoveries,
    refunds,
    requests,
    withdrawals,
)
from .visit import Visit


def bank_suite() -> Suite[Visit]:
    """Return the suite for banks."""
    return Suite[Visit].joined(
        "bank",
        announced.suite,
        accounts.suite,
        requests.suite,
        delivery.suite,
        withdrawals.suite,
        deposits.suite,
        inquiries.suite,
        exchanges.suite,
        refunds.suite,
        recoveries.suite,
        proofs.suite,
    )
