"""Payout: a merchant has money moved from its account to the one that it has at an acquirer bank, by ACH.

The account is debited first; a transfer that comes back is a credit.
"""

from typing import Annotated, Final

import msgspec

from .codec import Counter, Message, Minor, Time

PAYOUT: Final = "payout"
MAX_PAYOUTS: Final = 50
"""The most payouts in one answer."""
MAX_PAYOUT: Final = 9_999_999_999
"""The most minor units of one payout: what an entry of an ACH file can carry."""

PayoutState = Annotated[str, msgspec.Meta(pattern=r"^(queued|exported|settled|returned)\Z")]


class PayoutRequest(Message, frozen=True):
    """Kind `payout`: debit the sender's account by amount and commission and transfer the amount; 0 to look only."""

    amount: Annotated[int, msgspec.Meta(ge=0, le=MAX_PAYOUT)]
    commission: Minor


class PayoutStatus(Message, frozen=True):
    """A payout, by the number that the bank gave it; `reason` tells why it was returned.

    `number` is 0 in the answer to the request itself, which is written before the books count the payout.
    """

    number: Counter
    amount: Minor
    commission: Minor
    state: PayoutState
    reason: Annotated[str, msgspec.Meta(max_length=120)]
    at: Time


class PayoutAnswer(Message, frozen=True):
    """What is left in the account, and its last payouts, the newest first.

    The answer to a request for money holds that payout alone, as `queued`.
    """

    balance: Minor
    payouts: Annotated[tuple[PayoutStatus, ...], msgspec.Meta(max_length=MAX_PAYOUTS)]
