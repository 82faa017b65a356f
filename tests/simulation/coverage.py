"""What there is to cover: transitions of the machines, and trace points."""

import importlib
from collections.abc import Iterator
from functools import cache
from typing import Final

from .plan import LASTING

BANK: Final = (
    "account",
    "deposit",
    "exchange",
    "inquiry",
    "payout",
    "proof",
    "recovery",
    "redemption",
    "refund",
    "withdrawal",
)
MERCHANT: Final = ("deposit", "payout", "refund", "sale")
WALLET: Final = {
    "withdraw": "withdrawal",
    "pay": "payment",
    "exchange": "exchange",
    "redeem": "redemption",
    "refund": "refund",
    "transfer": "transfer",
}
POINTS: Final[tuple[str, ...]] = (
    "bank.account.answering",
    "bank.account.opened",
    "bank.account.posted",
    "bank.account.posting",
    "bank.books.before_commit",
    "bank.books.committed",
    "bank.check.answering",
    "bank.check.opened",
    "bank.deposit.answering",
    "bank.deposit.opened",
    "bank.deposit.posted",
    "bank.deposit.posting",
    "bank.exchange.answering",
    "bank.exchange.opened",
    "bank.exchange.posted",
    "bank.exchange.posting",
    "bank.fetch.answering",
    "bank.fetch.opened",
    "bank.key.deleted",
    "bank.key.written",
    "bank.keyset.adopted",
    "bank.keyset.adopting",
    "bank.payout.answering",
    "bank.payout.opened",
    "bank.payout.posted",
    "bank.payout.posting",
    "bank.recover.answering",
    "bank.recover.opened",
    "bank.redeem.answering",
    "bank.redeem.opened",
    "bank.redeem.posted",
    "bank.redeem.posting",
    "bank.refund.answering",
    "bank.refund.opened",
    "bank.refund.posted",
    "bank.refund.posting",
    "bank.verdict.answering",
    "bank.verdict.opened",
    "bank.withdraw.answering",
    "bank.withdraw.opened",
    "bank.withdraw.posted",
    "bank.withdraw.posting",
    "merchant.declined.saved",
    "merchant.declined.saving",
    "merchant.depositing.saved",
    "merchant.depositing.saving",
    "merchant.lapsed.saved",
    "merchant.lapsed.saving",
    "merchant.order.offered",
    "merchant.order.opened",
    "merchant.order.saving",
    "merchant.pay.opened",
    "merchant.payout.queued",
    "merchant.payout.refused",
    "merchant.payout.requested",
    "merchant.payout.saving",
    "merchant.refund.decided",
    "merchant.refund.opened",
    "merchant.refund.refunded.saved",
    "merchant.refund.refunded.saving",
    "merchant.refund.refused.saved",
    "merchant.refund.refused.saving",
    "merchant.refund.requested.saved",
    "merchant.refund.requested.saving",
    "merchant.sold.saved",
    "merchant.sold.saving",
    "merchant.verdict.arrived",
    "wallet.account.saved",
    "wallet.account.saving",
    "wallet.counter.used",
    "wallet.exchange.exchanged",
    "wallet.exchange.refused",
    "wallet.exchange.requested",
    "wallet.exchange.saving",
    "wallet.exchange.sending",
    "wallet.exchange.sent",
    "wallet.fetch.sending",
    "wallet.fetch.sent",
    "wallet.pay.asking",
    "wallet.pay.paid",
    "wallet.pay.paying",
    "wallet.pay.refused",
    "wallet.pay.released",
    "wallet.pay.saving",
    "wallet.pay.sending",
    "wallet.pay.sent",
    "wallet.pay.unreceipted",
    "wallet.pay.waiting",
    "wallet.recover.entered",
    "wallet.redeem.redeemed",
    "wallet.redeem.refused",
    "wallet.redeem.requested",
    "wallet.redeem.saving",
    "wallet.redeem.sending",
    "wallet.redeem.sent",
    "wallet.refund.checking",
    "wallet.refund.collected",
    "wallet.refund.lapsed",
    "wallet.refund.requested",
    "wallet.refund.saving",
    "wallet.refund.sending",
    "wallet.refund.sent",
    "wallet.refund.waiting",
    "wallet.transfer.claimed",
    "wallet.transfer.closing",
    "wallet.transfer.saving",
    "wallet.transfer.sent",
    "wallet.transfer.takenback",
    "wallet.verdict.sending",
    "wallet.verdict.sent",
    "wallet.verify.weeded",
    "wallet.withdraw.issued",
    "wallet.withdraw.refused",
    "wallet.withdraw.requested",
    "wallet.withdraw.saving",
    "wallet.withdraw.sending",
    "wallet.withdraw.sent",
)
"""The trace points that simulated agents pass."""


def name_of(machine: str, state: type, event: type, target: type) -> str:
    """Return the name of a transition."""
    return f"{machine}: {state.__name__} + {event.__name__} -> {target.__name__}"


def transitions() -> Iterator[str]:
    """Yield all transitions that the tables name."""
    parties = {"bank": BANK, "merchant": MERCHANT, "wallet": WALLET.values()}
    for party, names in parties.items():
        for name in names:
            table = importlib.import_module(f"protocol.{party}.{name}").TRANSITIONS
            for (state, event), targets in table.items():
                for target in sorted(targets, key=lambda one: one.__name__):
                    yield name_of(f"{party} {name}", state, event, target)


NOT_HERE: Final[dict[str, str]] = {
    "AnswerWrong": "no bank here answers wrongly",
    "Disputed": "no bank here is dishonest",
    "InquiryRefused": "no bank here is dishonest",
    "SignerRefused": "no signer here fails",
    "Bad -> ": "no wallet and no merchant here writes a bad request",
    "TakeBack": "nobody here takes a gift back by command, only when its time is over",
    "bank account: New + Asked -> Refused": "everybody here has an account",
    "NotTheirs": "no merchant here deposits what is another's",
    "bank proof": "nobody here asks for a proof",
    "bank payout: New + Asked -> Shown": "nobody here asks to see payouts",
    "bank redemption: New + CoinsGood -> Refused": "no bank here changes its tariff",
    "bank deposit: Posting + Contradicted -> Refused": "nobody here uses a request id twice",
    "merchant sale: Declined + PaymentArrived": "no wallet here pays an order a second time",
    "merchant sale: Sold + PaymentArrived": "no wallet here pays an order a second time",
}
"""Parts of names of transitions that no simulated world makes, and why not."""

_ENDED: Final = frozenset(
    f"{machine}: {state}"
    for machine, states in {
        "merchant deposit": ("Credited", "Refused"),
        "merchant payout": ("Queued", "Refused"),
        "merchant refund": ("Refunded", "Refused"),
        "wallet withdrawal": ("Issued", "Refused", "Disputed"),
        "wallet payment": ("Paid", "Refused", "Released", "Disputed"),
        "wallet exchange": ("Exchanged", "Refused", "Disputed"),
        "wallet redemption": ("Redeemed", "Refused", "Disputed"),
        "wallet refund": ("Collected", "Lapsed", "Disputed"),
        "wallet transfer": ("Claimed", "TakenBack"),
    }.items()
    for state in states
)
"""States that an agent feeds nothing more: it looks before whether there is anything to do."""

RARE: Final[dict[str, tuple[str, ...]]] = {
    "two workers must take up the same payment, coins or balance in one moment": (
        "bank deposit: Posting + Contradicted -> Settled",
        "bank deposit: Refusing + Contradicted -> Refused",
        "bank deposit: Refusing + Contradicted -> Refusing",
        "bank deposit: Refusing + Contradicted -> Settled",
        "bank exchange: Posting + Contradicted -> Refused",
        "bank payout: Posting + Contradicted -> Refused",
        "bank refund: Posting + Contradicted -> Refused",
        "merchant deposit: Requested + RefusalArrived -> Refused",
    ),
    "a key or a generation must change while a request is under way": (
        "bank exchange: New + CoinsGood -> Refused",
        "bank recovery: New + WithdrawalsAsked -> Refused",
        "bank recovery: New + SpendingsAsked -> Refused",
    ),
    "a clock must be ahead just when a payment that came to nothing is asked about": (
        "bank inquiry: New + Asked -> Refused",
        "merchant sale: Offered + Overdue -> Offered",
        "merchant sale: Declined + Overdue -> Declined",
    ),
    "a payment must arrive between the end of an offer and its timer": (
        "merchant sale: Offered + PaymentArrived -> Lapsed",
    ),
    "a timer must ring, or the bank must repeat itself, after the end of a sale": (
        "merchant sale: Sold + Overdue -> Sold",
        "merchant sale: Lapsed + Overdue -> Lapsed",
        "merchant sale: Sold + Accepted -> Sold",
        "merchant sale: Declined + Refused -> Declined",
    ),
    "a merchant must refuse a payment, and something else must befall the same payment": (
        "wallet payment: Waiting + Overdue -> Waiting",
        "wallet payment: Waiting + RefusalByMerchant -> Waiting",
        "wallet payment: Asking + RefusalByMerchant -> Asking",
        "wallet payment: Waiting + ReceiptArrived -> Paid",
        "wallet payment: Waiting + ReceiptArrived -> Unreceipted",
        "wallet payment: Waiting + RefusalByBank -> Refused",
        "wallet payment: Waiting + RefusalByBank -> Released",
        "wallet payment: Unreceipted + RefusalByMerchant -> Unreceipted",
    ),
    "the merchant must answer just when its time is over and the bank is asked": (
        "wallet payment: Paying + ReceiptArrived -> Unreceipted",
        "wallet payment: Asking + ReceiptArrived -> Paid",
        "wallet payment: Asking + RefusalByBank -> Refused",
        "wallet payment: Unreceipted + RefusalByBank -> Unreceipted",
    ),
    "a merchant must be silent for as long as a refund is good": (
        "wallet refund: Requested + Overdue -> Checking",
        "wallet refund: Requested + NothingFetched -> Lapsed",
        "wallet refund: Checking + NothingFetched -> Checking",
        "wallet refund: Checking + CoinsVerified -> Collected",
        "wallet refund: Checking + RefusalArrived -> Checking",
        "wallet refund: Waiting + NothingFetched -> Waiting",
        "wallet refund: Waiting + CoinsVerified -> Collected",
        "wallet refund: Waiting + RefusalArrived -> Waiting",
    ),
    "a token must be taken back just when its taker claims it": ("wallet transfer: Closing + Overdue -> Closing",),
}
"""Transitions that take two rare things in one moment, by what they take: even a long run may not make them."""

STEPS: Final = (
    "bank.books.before_commit",
    "bank.books.committed",
    "bank.deposit.posting",
    "bank.withdraw.posting",
    "merchant.depositing.saving",
    "merchant.sold.saving",
    "wallet.pay.saving",
    "wallet.withdraw.saving",
    "wallet.exchange.saving",
)
CRASH_STEPS: Final = (
    "bank.books.before_commit",
    "bank.books.committed",
    "bank.deposit.posted",
    "bank.withdraw.posted",
    "merchant.depositing.saved",
    "merchant.sold.saving",
    "wallet.pay.paying",
    "wallet.pay.sent",
    "wallet.withdraw.requested",
    "wallet.exchange.requested",
)
EXPECTED_PAIRS: Final = (
    *(f"{kind} × {step}" for kind in LASTING for step in STEPS),
    *(f"crash × {step}" for step in CRASH_STEPS),
)
"""Which fault a long run must have seen at which step."""


@cache
def rare() -> frozenset[str]:
    """Return the transitions that may be missing from a long run."""
    return frozenset(name for names in RARE.values() for name in names)


def is_expected(transition: str) -> bool:
    """Tell whether a long run should have made a transition."""
    begins = transition.partition(" + ")[0]
    return transition not in rare() and begins not in _ENDED and not any(part in transition for part in NOT_HERE)
