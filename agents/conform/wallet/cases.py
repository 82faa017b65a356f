"""All cases for wallets, in the order in which they are run."""

from ..case import Suite
from . import accounts, payments
from .visit import WalletVisit


def wallet_suite() -> Suite[WalletVisit]:
    """Return the suite for wallets. The last case leaves coins reserved."""
    return Suite[WalletVisit].joined("wallet", accounts.suite, payments.suite)
