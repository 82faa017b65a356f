"""No trace point without a death: what the crash tests leave out is found here."""

from typing import Final

from . import test_crash, test_crash_exchanges
from .points import NAMES, declared, patterns

ELSEWHERE: Final = {
    "merchant.web_order.saving": "a sale that a web page begins: tests/agents/merchant/test_orders.py",
    "merchant.web_order.offered": "as above",
    "merchant.notice.sending": "a webhook, sent again after a restart: tests/agents/merchant/test_webhook.py",
    "merchant.notice.recorded": "as above",
    "wallet.fetch.sending": "a shop that is gone for good, after a ticket's week: tests/protocol/wallet/test_refund.py",
    "wallet.fetch.sent": "as above",
    "wallet.verdict.sending": "a payment that got stuck until its deadline: tests/agents/client/test_resume.py",
    "wallet.verdict.sent": "as above",
}
"""Points that only a web page or time leads to; a process cannot be sent ahead in time.

The clock of those tests can.
"""


def hit() -> frozenset[str]:
    """Return the names of all points where some agent is killed."""
    ways = (way for table in (test_crash.POINTS, test_crash.AGAIN) for group in table.values() for way in group)
    killed = {name for way in ways for name in ((way,) if isinstance(way, str) else way)}
    return frozenset(name.partition(":")[0] for name in killed) | test_crash_exchanges.HIT


def test_somebody_dies_at_each_of_the_trace_points() -> None:
    assert declared() - hit() - ELSEWHERE.keys() == set()


def test_every_point_where_somebody_dies_exists() -> None:
    assert hit() <= declared()
    assert not hit() & ELSEWHERE.keys()
    assert ELSEWHERE.keys() <= declared()


def test_every_name_with_a_hole_is_still_in_the_source() -> None:
    assert NAMES.keys() <= patterns()
