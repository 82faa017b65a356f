"""The topics on which agents meet, and the rule that an answer goes where the request came from.

    ecash/v1/<bank>/keys | status | totals         announcements, retained
    ecash/v1/<merchant>/catalog | status           announcements, retained
    ecash/v1/<bank>/<lane>/<kind>/<client>         requests to a bank
    ecash/v1/<merchant>/<kind>/<client>            requests to a merchant
    ecash/v1/reply/<client>/<sender>               answers
    ecash/v1/inbox/<client>/<sender>               from wallet to wallet

A broker with rights vouches for `<client>` in a request, and for `<sender>` in an answer or an inbox.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from .errors import OurError, PeerError
from .refusals import Refusal

ROOT: Final = "ecash/v1"
LANES: Final = 256
"""The most request lanes that a bank can have: 0 … 255."""

BANK_KINDS: Final = frozenset(
    {
        "account",
        "check",
        "deposit",
        "exchange",
        "fetch",
        "payout",
        "proof",
        "recover",
        "redeem",
        "refund",
        "verdict",
        "withdraw",
    }
)
QUESTIONS: Final = frozenset({"check", "fetch", "proof", "verdict"})
"""Kinds that change nothing at the bank: answers to them are not stored, and the next one may be another."""
MERCHANT_KINDS: Final = frozenset({"order", "pay", "refund"})
ANNOUNCEMENTS: Final = frozenset({"keys", "status", "catalog", "totals"})

REPLY: Final = "reply"
INBOX: Final = "inbox"
RESERVED: Final = frozenset({REPLY, INBOX, "observer"})
"""Names that no bank or merchant may have: the levels of answers and inboxes, and the log-in of who watches."""

_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
_CLIENT: Final = re.compile(r"[a-z0-9-]{1,64}")
_LANE: Final = re.compile(r"0|[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class BankRequest:
    """A request of `client` to `bank`, in one of its lanes."""

    bank: str
    lane: int
    kind: str
    client: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.bank}/{self.lane}/{self.kind}/{self.client}"


@dataclass(frozen=True, slots=True)
class MerchantRequest:
    """A request of `client` to `merchant`."""

    merchant: str
    kind: str
    client: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.merchant}/{self.kind}/{self.client}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of `sender`, a bank or merchant, to `client`."""

    client: str
    sender: str

    def __str__(self) -> str:
        return f"{ROOT}/{REPLY}/{self.client}/{self.sender}"


@dataclass(frozen=True, slots=True)
class Inbox:
    """What the wallet `sender` gives to the wallet `client`; both are client ids."""

    client: str
    sender: str

    def __str__(self) -> str:
        return f"{ROOT}/{INBOX}/{self.client}/{self.sender}"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What `owner` lets everybody know: its "keys", "status", "totals" or "catalog"."""

    owner: str
    what: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.owner}/{self.what}"


Topic = BankRequest | MerchantRequest | Reply | Inbox | Announcement


def check_name(text: str) -> str:
    """Return `text` if a bank or merchant may be called so.

    Raises:
        PeerError: MALFORMED, not 1 to 32 of `a-z0-9-`, or reserved.
    """
    if not _NAME.fullmatch(text) or text in RESERVED:
        raise PeerError(Refusal.MALFORMED, "a name is 1 to 32 of a-z, 0-9 and '-', and not a reserved word")
    return text


def check_client(text: str) -> str:
    """Return `text` if it is a client id.

    Client ids are random: brokers let whoever connects under an id take the place of who had it before. So an
    agent with a log-in, too, appends a random part to its name, and keeps it to itself.

    Raises:
        PeerError: MALFORMED, not 1 to 64 of `a-z0-9-`.
    """
    if not _CLIENT.fullmatch(text):
        raise PeerError(Refusal.MALFORMED, "a client id is 1 to 64 of a-z, 0-9 and '-'")
    return text


def agent_client(name: str, suffix: str) -> str:
    """The client id of an agent that logs in as `name`: `<name>-<suffix>`, the suffix at most 31 characters.

    Raises:
        PeerError: MALFORMED, as in `check_name` and `check_client`.
    """
    return check_client(f"{check_name(name)}-{suffix}")


def keys(bank: str) -> str:
    """Where a bank announces its signed keyset."""
    return str(Announcement(check_name(bank), "keys"))


def status(name: str) -> str:
    """Where a bank or merchant says whether it is there."""
    return str(Announcement(check_name(name), "status"))


def totals(bank: str) -> str:
    """Where a bank announces how much e-cash it has minted and taken back."""
    return str(Announcement(check_name(bank), "totals"))


def catalog(merchant: str) -> str:
    """Where a merchant announces what it sells."""
    return str(Announcement(check_name(merchant), "catalog"))


def bank_request(bank: str, lane: int, kind: str, client: str) -> str:
    """Where `client` sends a request of `kind` to `bank`.

    Raises:
        OurError: no such lane or kind.
        PeerError: MALFORMED, a name or client id that is none.
    """
    if not 0 <= lane < LANES or kind not in BANK_KINDS:
        raise OurError(f"a bank has no requests {kind!r} in lane {lane}")
    return str(BankRequest(check_name(bank), lane, kind, check_client(client)))


def merchant_request(merchant: str, kind: str, client: str) -> str:
    """Where `client` sends a request of `kind` to `merchant`.

    Raises:
        OurError: no such kind.
        PeerError: MALFORMED, a name or client id that is none.
    """
    if kind not in MERCHANT_KINDS:
        raise OurError(f"a merchant has no requests {kind!r}")
    return str(MerchantRequest(check_name(merchant), kind, check_client(client)))


def reply_to(request: BankRequest | MerchantRequest, sender: str) -> str:
    """Where `sender` answers a request: to the client id that the broker let publish it, and nowhere else.

    A response topic that the request itself names is never used: an asker could aim the answers at others.
    """
    return str(Reply(check_client(request.client), check_name(sender)))


def lane_of(request_id: bytes, lanes: int, attempt: int) -> int:
    """The lane for the `attempt`-th try (from 0) of a request at a bank with `lanes` open lanes (1 to 256).

    The first follows from the request id alone, and every try takes the next one, so the tries visit all lanes.

    Raises:
        OurError: `lanes` or `attempt` out of range.
    """
    if not 1 <= lanes <= LANES or attempt < 0:
        raise OurError("lanes are 1 to 256 and attempts count from 0")
    first = int.from_bytes(hashlib.sha256(b"ecash/v1 lane\0" + request_id).digest()[:8], "big")
    return (first + attempt) % lanes


def bank_requests(bank: str, lane: int) -> str:
    """The filter for all requests in one lane of a bank."""
    if not 0 <= lane < LANES:
        raise OurError(f"there is no lane {lane}")
    return f"{ROOT}/{check_name(bank)}/{lane}/+/+"


def merchant_requests(merchant: str) -> tuple[str, ...]:
    """The filters for all requests to a merchant, one for each kind."""
    return tuple(f"{ROOT}/{check_name(merchant)}/{kind}/+" for kind in sorted(MERCHANT_KINDS))


def replies(client: str) -> str:
    """The filter for all answers to a client, whoever sends them."""
    return f"{ROOT}/{REPLY}/{check_client(client)}/+"


def inbox(client: str, sender: str) -> str:
    """Where the wallet present as `sender` gives something to the wallet present as `client`."""
    return str(Inbox(check_client(client), check_client(sender)))


def inboxes(client: str) -> str:
    """The filter for all that wallets give to a client."""
    return f"{ROOT}/{INBOX}/{check_client(client)}/+"


def parse(topic: str) -> Topic:
    """Read a topic.

    Raises:
        PeerError: MALFORMED, it is none of the six forms, or not in the one spelling that they have.
    """
    match topic.split("/"):
        case ["ecash", "v1", "reply", client, sender]:
            return Reply(check_client(client), check_name(sender))
        case ["ecash", "v1", "inbox", client, sender]:
            return Inbox(check_client(client), check_client(sender))
        case ["ecash", "v1", owner, what] if what in ANNOUNCEMENTS:
            return Announcement(check_name(owner), what)
        case ["ecash", "v1", merchant, kind, client] if kind in MERCHANT_KINDS:
            return MerchantRequest(check_name(merchant), kind, check_client(client))
        case ["ecash", "v1", bank, lane, kind, client] if kind in BANK_KINDS:
            if not _LANE.fullmatch(lane) or int(lane) >= LANES:
                raise PeerError(Refusal.MALFORMED, "a lane is 0 to 255")
            return BankRequest(check_name(bank), int(lane), kind, check_client(client))
    raise PeerError(Refusal.MALFORMED, "the topic is none of ours")
