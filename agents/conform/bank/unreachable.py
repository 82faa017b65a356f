"""The refusal codes of banks that the suite cannot bring about from outside."""

from typing import Final

from protocol.refusals import Refusal

UNREACHABLE: Final = {
    Refusal.OVERLOADED: "only a flood brings it about; wherever it comes, the suite sends the same bytes again",
    Refusal.UNKNOWN_VERSION: "an envelope of another version is dropped: there is no key to answer with",
    Refusal.WRONG_TYPE: "a letter of another kind is dropped: there is no key to answer with",
    Refusal.UNKNOWN_ITEM: "a merchant's",
    Refusal.UNKNOWN_SALE: "a merchant's",
    Refusal.NO_REFUND: "a merchant's",
    Refusal.SALE_EXPIRED: "a merchant's",
    Refusal.FOREIGN_KEYSET: "a wallet's and a merchant's",
    Refusal.KEY_OVERDRAWN: "it takes a denomination's private key",
}
