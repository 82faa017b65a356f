"""The bank's desks: one for each kind of request, named as on the topics."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from . import account, check, deposit, exchange, fetch, inquiry, payout, proof, recover, redeem, refund, withdraw
from .desk import Desk, Request

Serve = Callable[[Desk, Request], Awaitable[bytes]]
"""Returns the sealed answer to a request; raises PeerError to refuse it."""

DESKS: Final[Mapping[str, Serve]] = {
    "account": account.serve,
    "check": check.serve,
    "deposit": deposit.serve,
    "exchange": exchange.serve,
    "fetch": fetch.serve,
    "payout": payout.serve,
    "proof": proof.serve,
    "recover": recover.serve,
    "redeem": redeem.serve,
    "refund": refund.serve,
    "verdict": inquiry.serve,
    "withdraw": withdraw.serve,
}
