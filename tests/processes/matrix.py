"""The durable steps of every exchange, by their numbers in the catalogue of faults, and who dies before and after each.

A step is 101 to 182; `b` is a death before it, `a` one after it. Each is a trace point with the scenario in which an
agent is killed there, or the reason why nobody can die there.
"""

from typing import Final, NamedTuple

from . import test_crash, test_crash_exchanges
from .scenarios import SCENARIOS


class At(NamedTuple):
    """An agent dies at this trace point in this scenario, one of `SCENES`."""

    point: str
    scene: str


class Not(NamedTuple):
    """Nobody can die there."""

    reason: str


STEPS: Final = (
    *range(101, 109),
    *range(111, 117),
    *range(121, 129),
    *range(131, 138),
    *range(141, 147),
    *range(151, 157),
    *range(161, 163),
    *range(171, 176),
    *range(181, 183),
)
"""Withdrawal, payment, deposit, exchange, recovery, payout, top-up, keys, audit and backup."""

_ACKNOWLEDGED: Final = Not("nothing is done after it; a request that comes again is one more, and gets the same answer")
_ANONYMOUS: Final = Not("a wallet has no session at the broker that could keep a message: it asks again instead")
_CHECKED_FIRST: Final = Not("signatures are checked before they are stored, in the one write that is step 107 or 137")
_NOT_STORED: Final = Not("the bank keeps nothing about a question: its limits are held in memory")
_NO_EXECUTOR: Final = Not("the operator takes the file to the clearing house, and no process calls outside")
_BY_DATES: Final = Not("keys age by the dates in the keyset; nothing is written when one does")
_COUNTED: Final = Not("the bank's totals are counted anew from its books and signed; nothing about them is stored")

MATRIX: Final[dict[str, At | Not]] = {
    "101b": At("wallet.withdraw.saving", "withdraw"),
    "101a": At("wallet.withdraw.requested", "withdraw"),
    "102b": At("wallet.withdraw.sending", "withdraw"),
    "102a": At("wallet.withdraw.sent", "withdraw"),
    "103b": At("bank.books.before_commit", "withdraw"),
    "103a": At("bank.books.committed", "withdraw"),
    "104b": At("bank.withdraw.answering", "withdraw"),
    "104a": _ACKNOWLEDGED,
    "105b": At("bank.withdraw.answering", "withdraw"),
    "105a": _ACKNOWLEDGED,
    "106b": _CHECKED_FIRST,
    "106a": _CHECKED_FIRST,
    "107b": At("wallet.withdraw.saving:2", "withdraw"),
    "107a": At("wallet.withdraw.issued", "withdraw"),
    "108b": _ANONYMOUS,
    "108a": _ANONYMOUS,
    "111b": At("merchant.order.saving", "pay"),
    "111a": At("merchant.order.offered", "pay"),
    "112b": At("merchant.order.offered", "pay"),
    "112a": At("merchant.pay.opened", "pay"),
    "113b": At("wallet.pay.saving", "pay"),
    "113a": At("wallet.pay.paying", "pay"),
    "114b": At("wallet.pay.sending", "pay"),
    "114a": At("wallet.pay.sent", "pay"),
    "115b": At("merchant.depositing.saving", "pay"),
    "115a": At("merchant.depositing.saved", "pay"),
    "116b": At("merchant.depositing.saved", "pay"),
    "116a": At("merchant.verdict.arrived", "pay"),
    "121b": At("bank.books.before_commit", "pay"),
    "121a": At("bank.books.committed", "pay"),
    "122b": At("bank.deposit.answering", "pay"),
    "122a": _ACKNOWLEDGED,
    "123b": At("bank.deposit.answering", "pay"),
    "123a": _ACKNOWLEDGED,
    "124b": At("merchant.sold.saving", "pay"),
    "124a": At("merchant.sold.saved", "pay"),
    "125b": At("merchant.sold.saved", "pay"),
    "125a": _ACKNOWLEDGED,
    "126b": At("merchant.sold.saving", "pay"),
    "126a": At("merchant.sold.saved", "pay"),
    "127b": At("wallet.pay.saving:2", "pay"),
    "127a": At("wallet.pay.paid", "pay"),
    "128b": _ANONYMOUS,
    "128a": _ANONYMOUS,
    "131b": At("wallet.exchange.saving", "Change"),
    "131a": At("wallet.exchange.requested", "Change"),
    "132b": At("wallet.exchange.sending", "Change"),
    "132a": At("wallet.exchange.sent", "Change"),
    "133b": At("bank.exchange.posting", "Change"),
    "133a": At("bank.exchange.posted", "Change"),
    "134b": At("bank.exchange.answering", "Change"),
    "134a": _ACKNOWLEDGED,
    "135b": At("bank.exchange.answering", "Change"),
    "135a": _ACKNOWLEDGED,
    "136b": _CHECKED_FIRST,
    "136a": _CHECKED_FIRST,
    "137b": At("wallet.exchange.saving:2", "Change"),
    "137a": At("wallet.exchange.exchanged", "Change"),
    "141b": At("wallet.seed.saving", "RESTORING"),
    "141a": At("wallet.seed.saved", "RESTORING"),
    "142b": At("bank.recover.opened", "Recover"),
    "142a": At("bank.recover.answering", "Recover"),
    "143b": _NOT_STORED,
    "143a": _NOT_STORED,
    "144b": At("wallet.account.saved", "RESTORING"),
    "144a": At("wallet.recover.entered", "RESTORING"),
    "145b": At("wallet.verify.weeded", "BACKED_UP"),
    "145a": At("wallet.exchange.sent", "BACKED_UP"),
    "146b": At("wallet.redeem.sent", "RESTORING"),
    "146a": At("wallet.redeem.redeemed", "Redeem"),
    "151b": At("merchant.payout.saving", "PAYING_OUT"),
    "151a": At("merchant.payout.requested", "PAYING_OUT"),
    "152b": At("bank.payout.posting", "Payout"),
    "152a": At("bank.payout.posted", "Payout"),
    "153b": At("bank.books.before_commit", "PAYING_OUT"),
    "153a": At("bank.books.committed", "PAYING_OUT"),
    "154b": _NO_EXECUTOR,
    "154a": _NO_EXECUTOR,
    "155b": At("bank.books.before_commit", "PAYING_OUT"),
    "155a": At("bank.books.committed", "PAYING_OUT"),
    "156b": At("merchant.payout.saving:2", "PAYING_OUT"),
    "156a": At("merchant.payout.queued", "PAYING_OUT"),
    "161b": Not("nobody tells the bank of money that has come: its operator enters it, which is step 162"),
    "161a": Not("as before the step"),
    "162b": At("bank.books.before_commit", "CREDITING"),
    "162a": At("bank.books.committed", "CREDITING"),
    "171b": At("bank.key.written", "ROTATING"),
    "171a": At("bank.key.written:3", "ROTATING"),
    "172b": At("bank.keyset.adopting", "ADOPTING"),
    "172a": At("bank.keyset.adopted", "ADOPTING"),
    "173b": _BY_DATES,
    "173a": _BY_DATES,
    "174b": _BY_DATES,
    "174a": _BY_DATES,
    "175b": At("bank.books.committed", "REVOKING"),
    "175a": At("bank.key.deleted", "REVOKING"),
    "181b": _COUNTED,
    "181a": _COUNTED,
    "182b": At("wallet.backup.naming", "BACKED_UP"),
    "182a": Not("nothing follows: a backup lies beside the wallet's file, which writing it leaves alone"),
}
"""All hundred."""

_TRADES: Final = ("withdraw", "pay")

SCENES: Final[dict[str, frozenset[str]]] = {
    **{
        trade: frozenset(
            point
            for (kind, name), points in test_crash.POINTS.items()
            if kind == trade
            for point in (*points, *(again for deaths in test_crash.AGAIN[kind, name] for again in deaths))
        )
        for trade in _TRADES
    },
    **{
        kind.__name__: frozenset(point for ways in kind.deaths.values() for deaths in ways for point in deaths)
        for kind in SCENARIOS
    },
    "RESTORING": frozenset(test_crash_exchanges.RESTORING),
    "BACKED_UP": frozenset(test_crash_exchanges.BACKED_UP),
    "PAYING_OUT": frozenset(point for points in test_crash_exchanges.PAYING_OUT.values() for point in points),
    "CREDITING": frozenset(test_crash_exchanges.CREDITING),
    "ROTATING": frozenset(test_crash_exchanges.ROTATING),
    "ADOPTING": frozenset(test_crash_exchanges.ADOPTING),
    "REVOKING": frozenset(test_crash_exchanges.REVOKING),
}
"""Where somebody dies in each scenario, every day."""
