"""The table of refusal codes, in order of precedence.

When several apply, the first one in the table is the answer. Idempotence comes before everything that depends
on state: a request that was answered once gets the same answer again, whatever has changed since. Coins are looked
up one after the other: among `wrong_currency`, `unknown_denomination` and `denomination_closed` the first coin decides.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Advice(StrEnum):
    """What the requester should do next."""

    RETRY = "retry"  # send the same bytes again, later
    FINAL = "final"  # the answer will not change


class Refusal(StrEnum):
    """Stable codes, as they travel. The order of definition is the order of precedence."""

    OVERLOADED = "overloaded"
    MALFORMED = "malformed"
    UNKNOWN_VERSION = "unknown_version"
    WRONG_TYPE = "wrong_type"
    BAD_SIGNATURE = "bad_signature"
    REQUEST_ID_REUSED = "request_id_reused"
    REQUEST_EXPIRED = "request_expired"
    UNKNOWN_ACCOUNT = "unknown_account"
    SUPERSEDED = "superseded"
    INVALID_INVITATION = "invalid_invitation"
    ACCOUNT_EXISTS = "account_exists"
    WRONG_BANK = "wrong_bank"
    WRONG_CURRENCY = "wrong_currency"
    WRONG_MERCHANT = "wrong_merchant"
    UNKNOWN_ITEM = "unknown_item"
    UNKNOWN_SALE = "unknown_sale"
    NO_REFUND = "no_refund"
    SALE_EXPIRED = "sale_expired"
    PAYMENT_EXPIRED = "payment_expired"
    PAYMENT_ALTERED = "payment_altered"
    BAD_PARCEL = "bad_parcel"
    BAD_TICKET = "bad_ticket"
    FOREIGN_KEYSET = "foreign_keyset"
    UNKNOWN_DENOMINATION = "unknown_denomination"
    DENOMINATION_CLOSED = "denomination_closed"
    KEY_REVOKED = "key_revoked"
    KEY_OVERDRAWN = "key_overdrawn"
    BAD_BLINDED_VALUE = "bad_blinded_value"
    BLINDED_VALUE_REUSED = "blinded_value_reused"
    DUPLICATE_COIN = "duplicate_coin"
    AMOUNT_MISMATCH = "amount_mismatch"
    BAD_COIN = "bad_coin"
    BAD_SPEND_SIGNATURE = "bad_spend_signature"
    ALREADY_PAID = "already_paid"
    ALREADY_SPENT = "already_spent"
    COMMISSION_CHANGED = "commission_changed"
    REDEMPTION_CAPPED = "redemption_capped"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    NO_DESTINATION = "no_destination"
    NOT_PROVEN = "not_proven"
    PENDING = "pending"


class Entry(NamedTuple):
    """One row of the table: what to do, and what it means in a sentence for a person."""

    advice: Advice
    meaning: str


TABLE: Final[dict[Refusal, Entry]] = {
    Refusal.OVERLOADED: Entry(Advice.RETRY, "The agent has more work than it can take now; nothing happened."),
    Refusal.MALFORMED: Entry(Advice.FINAL, "The request is not a message of this protocol."),
    Refusal.UNKNOWN_VERSION: Entry(Advice.FINAL, "The version of the message is not spoken here."),
    Refusal.WRONG_TYPE: Entry(Advice.FINAL, "The message is of another kind than the topic it came on."),
    Refusal.BAD_SIGNATURE: Entry(Advice.FINAL, "The signature on the request does not verify."),
    Refusal.REQUEST_ID_REUSED: Entry(Advice.FINAL, "Another request with this id was answered before."),
    Refusal.REQUEST_EXPIRED: Entry(Advice.FINAL, "The request came after its own deadline; nothing happened."),
    Refusal.UNKNOWN_ACCOUNT: Entry(Advice.FINAL, "No account is open for this key."),
    Refusal.SUPERSEDED: Entry(Advice.FINAL, "Another device has taken over this account."),
    Refusal.INVALID_INVITATION: Entry(Advice.FINAL, "The invitation is unknown or was used."),
    Refusal.ACCOUNT_EXISTS: Entry(Advice.FINAL, "An account is open for this key already."),
    Refusal.WRONG_BANK: Entry(Advice.FINAL, "The payment names another bank."),
    Refusal.WRONG_CURRENCY: Entry(Advice.FINAL, "The payment names another currency than its coins."),
    Refusal.WRONG_MERCHANT: Entry(Advice.FINAL, "The payment names another merchant account than the depositor's."),
    Refusal.UNKNOWN_ITEM: Entry(Advice.FINAL, "The catalogue has no such item."),
    Refusal.UNKNOWN_SALE: Entry(Advice.FINAL, "The merchant knows no such sale."),
    Refusal.NO_REFUND: Entry(Advice.FINAL, "The merchant has granted no refund, or it was collected."),
    Refusal.SALE_EXPIRED: Entry(Advice.FINAL, "The payment request has expired; order again."),
    Refusal.PAYMENT_EXPIRED: Entry(Advice.FINAL, "The deposit came after the payment's deposit-before."),
    Refusal.PAYMENT_ALTERED: Entry(Advice.FINAL, "The payment information is not what was agreed on."),
    Refusal.BAD_PARCEL: Entry(Advice.FINAL, "The sealed coins cannot be opened by this bank."),
    Refusal.BAD_TICKET: Entry(Advice.FINAL, "The sealed ticket cannot be opened by this bank."),
    Refusal.FOREIGN_KEYSET: Entry(
        Advice.FINAL, "The keyset is not the one that others see, or does not continue the one that is known."
    ),
    Refusal.UNKNOWN_DENOMINATION: Entry(Advice.FINAL, "The bank has no such denomination key."),
    Refusal.DENOMINATION_CLOSED: Entry(Advice.FINAL, "The denomination key is outside its dates for this use."),
    Refusal.KEY_REVOKED: Entry(Advice.FINAL, "The denomination key is revoked; its coins can be redeemed."),
    Refusal.KEY_OVERDRAWN: Entry(
        Advice.FINAL, "As many coins of the denomination came back as were ever signed: its key may be stolen."
    ),
    Refusal.BAD_BLINDED_VALUE: Entry(Advice.FINAL, "A blinded value is not one that the key may sign."),
    Refusal.BLINDED_VALUE_REUSED: Entry(Advice.FINAL, "A blinded value was signed before, or stands here twice."),
    Refusal.DUPLICATE_COIN: Entry(Advice.FINAL, "The same coin stands twice in the parcel."),
    Refusal.AMOUNT_MISMATCH: Entry(Advice.FINAL, "The sum is not what it must be."),
    Refusal.BAD_COIN: Entry(Advice.FINAL, "A coin does not carry this bank's signature."),
    Refusal.BAD_SPEND_SIGNATURE: Entry(Advice.FINAL, "A coin was not spent on this payment by its holder."),
    Refusal.ALREADY_PAID: Entry(Advice.FINAL, "This sale was paid by another payment."),
    Refusal.ALREADY_SPENT: Entry(Advice.FINAL, "A coin was spent before; the evidence is its earlier signature."),
    Refusal.COMMISSION_CHANGED: Entry(Advice.FINAL, "The bank asks for another commission; see its newest keyset."),
    Refusal.REDEMPTION_CAPPED: Entry(Advice.FINAL, "The account never withdrew as much as it redeems."),
    Refusal.INSUFFICIENT_FUNDS: Entry(Advice.FINAL, "The account does not hold the amount and its commission."),
    Refusal.NO_DESTINATION: Entry(Advice.FINAL, "The bank knows no account to pay out to."),
    Refusal.NOT_PROVEN: Entry(Advice.FINAL, "The payer code proves no payment of this id."),
    Refusal.PENDING: Entry(Advice.RETRY, "There is no verdict yet; there is one by the payment's deposit-before."),
}
