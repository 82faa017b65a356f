"""The bank's ACH files: payouts go out as a NACHA file of credits; settlements and returns come back.

A file is lines ("records") of 94 ASCII characters, read by position:

    1 file header, 5 batch header, 6 entry … , 8 batch control, 9 file control, then lines of 9s up to a whole block

The layout is that of the Nacha Operating Rules, Appendix Three (ACH Record Format Specifications), and of Appendix
Four for returns. All files here hold credits only, in US cents. Every ValueError's message is a sentence that says
what is wrong; when a file is read, it begins with the line.

Nacha has no file that confirms a settlement: a credit that does not come back has arrived. So an entry is settled when
the operator says so, in a CSV file made from the statement of the bank that sends for us (`read_settlements`).
"""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

MAX_TRACE: Final = 9_999_999
MAX_CENTS: Final = 9_999_999_999
"""The most that one entry can carry."""
MAX_TOTAL: Final = 999_999_999_999
"""The most cents that one file can carry."""
MAX_CREDITS: Final = 50_000
MAX_LINES: Final = 4 * MAX_CREDITS + 10
"""Of a file that is read: the returns of a whole file of `MAX_CREDITS`, a batch for each, fit."""
MAX_BYTES: Final = MAX_LINES * 96

REASONS: Final = {
    "R01": "Insufficient funds",
    "R02": "Account closed",
    "R03": "No account or unable to locate account",
    "R04": "Invalid account number",
    "R05": "Unauthorized debit to consumer account",
    "R06": "Returned at the request of the originating bank",
    "R07": "Authorization revoked by customer",
    "R08": "Payment stopped",
    "R09": "Uncollected funds",
    "R10": "Customer advises that the originator is unknown or not authorized",
    "R16": "Account frozen",
    "R20": "Non-transaction account",
    "R23": "Credit entry refused by receiver",
    "R24": "Duplicate entry",
    "R29": "Corporate customer advises not authorized",
}
"""What the usual return reason codes mean (Nacha Operating Rules, Appendix Four, table of return reason codes)."""

_CREDIT_CODES: Final = {"checking": "22", "savings": "32"}
_BLOCK: Final = 10
_FILLER: Final = "9" * 94
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND: Final = 4_102_444_799_999  # of 2099: a file writes two digits of the year
_HASH_MODULUS: Final = 10**10
_MODIFIERS: Final = string.ascii_uppercase + string.digits

# The first two digits are a Federal Reserve district (01-12), that plus 20 (thrifts) or plus 60 (electronic), or 80.
_ROUTING: Final = re.compile(r"(?:0[1-9]|1[0-2]|2[1-9]|3[0-2]|6[1-9]|7[0-2]|80)[0-9]{7}")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9-]{1,17}")
# What banks' guides accept in alphanumeric fields; the padding is no part of a text, so it has none at its ends.
_TEXT: Final = re.compile(r"(?! )[A-Za-z0-9 ./()&'-]+(?<! )")
_TEXT_CHARACTERS: Final = "letters, digits, inner spaces and . / ( ) & ' -"
_ORIGIN: Final = re.compile(r" ?[0-9]{9}|[A-Z0-9]{10}")
_COMPANY_ID: Final = re.compile(r"[A-Z0-9]{10}")
_ODFI: Final = re.compile(r"[0-9]{8}")

_FILE_HEADER: Final = re.compile(r"101.{31}094101.{54}")
_BATCH_HEADER: Final = re.compile(r"5[0-9]{3}.{90}")
# 21 and 31 are returns of credits to checking and savings accounts. The one addenda record is announced in column 79.
_ENTRY: Final = re.compile(r"6[23]1(?P<bank>[0-9]{8})[0-9].{17}(?P<amount>[0-9]{10}).{39}1[0-9]{15}")
_ADDENDA: Final = re.compile(r"7(?:99(?P<code>R[0-9]{2})|98C[0-9]{2})(?P<odfi>[0-9]{8})(?P<trace>[0-9]{7}).{73}")
_TOTALS: Final = r"(?P<hash>[0-9]{10})(?P<debits>[0-9]{12})(?P<credits>[0-9]{12})"
_BATCH_CONTROL: Final = re.compile(rf"8[0-9]{{3}}(?P<entries>[0-9]{{6}}){_TOTALS}.{{50}}")
_FILE_CONTROL: Final = re.compile(rf"9(?P<batches>[0-9]{{6}})[0-9]{{6}}(?P<entries>[0-9]{{8}}){_TOTALS}.{{39}}")
_FILLER_LINE: Final = re.compile(_FILLER)

_CSV_HEADER: Final = re.compile(r"trace,amount_cents,settled_on")
_CSV_ROW: Final = re.compile(r"([1-9][0-9]{0,6}),([1-9][0-9]{0,9}),([0-9]{4}-[0-9]{2}-[0-9]{2})")


class Destination(NamedTuple):
    """A merchant's account at its bank.

    Attributes:
        routing: the bank's ABA routing number, 9 digits.
        number: the account's number, 1 to 17 letters, digits and hyphens.
        kind: `checking` or `savings`.
        holder: the account holder's name, 1 to 22 characters.
    """

    routing: str
    number: str
    kind: str
    holder: str


class Originator(NamedTuple):
    """Who sends a file, and to whom. All of it is agreed with the bank that the file is sent to.

    Attributes:
        destination: that bank's ABA routing number, 9 digits.
        destination_name: its name, 1 to 23 characters.
        origin: our number there, 10 characters: 10 capital letters or digits, or a space and 9 digits.
        company_name: our name, as receivers see it, 1 to 16 characters.
        company_id: our number in the batch, 10 capital letters or digits; often a 1 and the tax number.
        odfi: the first 8 digits of the originating bank's routing number; all trace numbers begin with them.
    """

    destination: str
    destination_name: str
    origin: str
    company_name: str
    company_id: str
    odfi: str


class Credit(NamedTuple):
    """Money to send.

    Attributes:
        trace: 1 to `MAX_TRACE`, never used twice by a bank.
        destination: where to.
        amount: cents, 1 to `MAX_CENTS`.
        reference: what the receiver sees beside its name, up to 15 characters; may be empty.
    """

    trace: int
    destination: Destination
    amount: int
    reference: str


class Return(NamedTuple):
    """A credit that came back. The caller must compare the amount (cents) with what it sent under this trace."""

    trace: int
    amount: int
    code: str
    reason: str


class Settlement(NamedTuple):
    """A credit that has arrived, says the operator. The caller must compare the amount (cents) as for a return."""

    trace: int
    amount: int
    settled_on: date


def parse_destination(routing: str, number: str, kind: str, holder: str) -> Destination:
    """Check what a merchant says of its account; raise ValueError with a sentence for the merchant."""
    _check_routing("routing number", routing)
    if not _ACCOUNT.fullmatch(number):
        raise ValueError(f"account number {_shown(number)} must be 1 to 17 letters, digits and hyphens, without spaces")
    if kind not in _CREDIT_CODES:
        raise ValueError(f"account kind {_shown(kind)} must be checking or savings")
    _check_text("account holder", holder, 22)
    return Destination(routing, number, kind, holder)


def parse_originator(
    destination: str, destination_name: str, origin: str, company_name: str, company_id: str, odfi: str
) -> Originator:
    """Check what the operator has agreed with its bank; raise ValueError with a sentence for the operator.

    An origin of 9 digits gets the space that stands in front of it in a file.
    """
    _check_routing("immediate destination", destination)
    _check_text("immediate destination's name", destination_name, 23)
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"immediate origin {_shown(origin)} must be 9 digits, or 10 capital letters and digits")
    _check_text("company name", company_name, 16)
    if not _COMPANY_ID.fullmatch(company_id):
        raise ValueError(f"company identification {_shown(company_id)} must be 10 capital letters and digits")
    if not _ODFI.fullmatch(odfi):
        raise ValueError(f"ODFI identification {_shown(odfi)} must be the first 8 digits of a routing number")
    return Originator(destination, destination_name, origin.rjust(10), company_name, company_id, odfi)


def write_file(
    originator: Originator, file_number: int, created_at: int, effective: date, batch: Sequence[Credit]
) -> bytes:
    r"""Return a NACHA file: one CCD batch of credits, by trace number; the same bytes for the same arguments.

    Args:
        originator: who sends it.
        file_number: 1 to 99,999,999. It becomes the reference code, and modulo 36 the file id modifier (A-Z, 0-9),
            by which a bank tells the files of one day apart.
        created_at: milliseconds since 1970 UTC; written in UTC.
        effective: the banking day on which the money should arrive.
        batch: 1 to `MAX_CREDITS`, in any order.

    Returns:
        Lines of 94 characters that end with "\n", in whole blocks of ten.

    Raises:
        ValueError: an argument is out of its bounds, or two credits have one trace number.
    """
    sender = parse_originator(*originator)
    _check_range("the file number", file_number, 99_999_999)
    _check_range("the number of credits", len(batch), MAX_CREDITS)
    _check_range("the time of creation", created_at, _LAST_MILLISECOND)
    created = _EPOCH + timedelta(milliseconds=created_at)
    if not 2000 <= effective.year <= 2099:
        raise ValueError(f"the effective date {effective} is not in the years 2000 to 2099")
    entries = [_entry(sender.odfi, credit) for credit in sorted(batch, key=lambda credit: credit.trace)]
    if len({credit.trace for credit in batch}) != len(batch):
        raise ValueError("two credits of one file have the same trace number")
    total = sum(credit.amount for credit in batch)
    _check_range("the sum of the credits", total, MAX_TOTAL)
    entry_hash = sum(int(credit.destination.routing[:8]) for credit in batch) % _HASH_MODULUS
    blocks = -(-(len(entries) + 4) // _BLOCK)
    modifier = _MODIFIERS[(file_number - 1) % len(_MODIFIERS)]
    lines = [
        f"101 {sender.destination}{sender.origin}{created:%y%m%d%H%M}{modifier}094101"
        f"{sender.destination_name:23}{sender.company_name:23}{file_number:08}",
        f"5220{sender.company_name:16}{'':20}{sender.company_id}CCD{'PAYOUT':10}{'':6}{effective:%y%m%d}{'':3}1"
        f"{sender.odfi}{1:07}",
        *entries,
        f"8220{len(entries):06}{entry_hash:010}{0:012}{total:012}{sender.company_id}{'':25}{sender.odfi}{1:07}",
        f"9{1:06}{blocks:06}{len(entries):08}{entry_hash:010}{0:012}{total:012}{'':39}",
    ]
    lines += [_FILLER] * (blocks * _BLOCK - len(lines))
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def read_file(data: bytes, odfi: str) -> list[Settlement | Return]:
    """Read what came back: a NACHA file of returns (`read_returns`) or a CSV of settlements (`read_settlements`)."""
    if data.startswith(b"t"):
        return [*read_settlements(data)]
    return [*read_returns(data, odfi)]


def read_returns(data: bytes, odfi: str) -> list[Return]:
    r"""Read a NACHA file of returned credits; nothing is taken from a file with any fault.

    Lines may end with "\n" or "\r\n"; the last block need not be full. Notifications of change (addenda type 98) are
    passed over, as they move no money.

    Args:
        data: the file.
        odfi: the 8 digits that the original entries' trace numbers begin with.

    Raises:
        ValueError: too long; not in the order or the layout of records; totals, counts or hashes are not those of the
            entries; an entry is no return of a credit, is not ours, is of 0 cents, or stands twice.
    """
    records = _Records(data)
    records.take(_FILE_HEADER, "a file header")
    returns: list[Return] = []
    tally = _Tally()
    batches = 0
    while records.next_is("5"):
        tally += _read_batch(records, odfi, returns)
        batches += 1
    control = records.take(_FILE_CONTROL, "a file control record")
    if int(control["batches"]) != batches or not tally.agrees(control):
        raise records.error("the file's totals are not those of its batches")
    while not records.at_end():
        records.take(_FILLER_LINE, "a line of 9s, or the end of the file,")
    return returns


def read_settlements(data: bytes) -> list[Settlement]:
    r"""Read a CSV file of settled credits; nothing is taken from a file with any fault.

        trace,amount_cents,settled_on
        17,125000,2026-11-24

    Trace and amount are without leading zeros; lines may end with "\n" or "\r\n".

    Raises:
        ValueError: too long, another layout, an impossible date, or a trace number that stands twice.
    """
    records = _Records(data)
    records.take(_CSV_HEADER, "the heading trace,amount_cents,settled_on")
    settlements: list[Settlement] = []
    while not records.at_end():
        row = records.take(_CSV_ROW, "trace,amount_cents,settled_on such as 17,125000,2026-11-24")
        try:
            settled_on = date.fromisoformat(row[3])
        except ValueError as error:
            raise records.error(f"{row[3]} is no date") from error
        records.once(int(row[1]))
        settlements.append(Settlement(int(row[1]), int(row[2]), settled_on))
    return settlements


@dataclass(frozen=True, slots=True)
class _Tally:
    """What control records count: entries and their addenda, the banks' numbers, cents."""

    entries: int = 0
    hash: int = 0
    cents: int = 0

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(self.entries + other.entries, self.hash + other.hash, self.cents + other.cents)

    def agrees(self, control: re.Match[str]) -> bool:
        told = tuple(int(control[field]) for field in ("entries", "hash", "debits", "credits"))
        return told == (self.entries, self.hash % _HASH_MODULUS, 0, self.cents)


class _Records:
    """The lines of a file, taken one after another; knows where it is when something is wrong."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_BYTES or data.count(b"\n") > MAX_LINES:
            raise ValueError(f"the file is longer than {MAX_BYTES} bytes or {MAX_LINES} lines")
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"line {line}: a character is not ASCII") from error
        self._lines = text.removesuffix("\n").split("\n")
        self._taken = 0
        self._seen: set[int] = set()

    def at_end(self) -> bool:
        return self._taken == len(self._lines)

    def next_is(self, kind: str) -> bool:
        return not self.at_end() and self._lines[self._taken].startswith(kind)

    def take(self, layout: re.Pattern[str], expected: str) -> re.Match[str]:
        line = "" if self.at_end() else self._lines[self._taken].removesuffix("\r")
        self._taken += 1
        match = layout.fullmatch(line)
        if match is None:
            raise self.error(f"{expected} is expected here")
        return match

    def once(self, trace: int) -> None:
        if trace in self._seen:
            raise self.error(f"trace number {trace} stands twice in the file")
        self._seen.add(trace)

    def error(self, what: str) -> ValueError:
        return ValueError(f"line {self._taken}: {what}")


def _read_batch(records: _Records, odfi: str, returns: list[Return]) -> _Tally:
    records.take(_BATCH_HEADER, "a batch header")
    tally = _Tally()
    while records.next_is("6"):
        entry = records.take(_ENTRY, "the return of a credit (transaction code 21 or 31)")
        amount = int(entry["amount"])
        tally += _Tally(2, int(entry["bank"]), amount)
        addenda = records.take(_ADDENDA, "an addenda record of type 99 or 98")
        code = addenda["code"]
        if code is None:
            continue
        trace = int(addenda["trace"])
        if addenda["odfi"] != odfi or trace == 0:
            raise records.error(f"trace number {addenda['odfi']}{addenda['trace']} is none of ours")
        if amount == 0:
            raise records.error(f"trace number {trace} returns no money")
        records.once(trace)
        returns.append(Return(trace, amount, code, REASONS.get(code, f"return code {code}")))
    control = records.take(_BATCH_CONTROL, "a batch control record")
    if not tally.agrees(control):
        raise records.error("the batch's totals are not those of its entries")
    return tally


def _entry(odfi: str, credit: Credit) -> str:
    _check_range("a trace number", credit.trace, MAX_TRACE)
    _check_range("the amount of a credit", credit.amount, MAX_CENTS)
    if credit.reference:
        _check_text("reference", credit.reference, 15)
    routing, number, kind, holder = parse_destination(*credit.destination)
    return (
        f"6{_CREDIT_CODES[kind]}{routing}{number:17}{credit.amount:010}{credit.reference:15}{holder:22}{'':2}0"
        f"{odfi}{credit.trace:07}"
    )


def _check_range(what: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"{what} is {value}, but must be 1 to {most}")


def _check_routing(what: str, text: str) -> None:
    if not _ROUTING.fullmatch(text):
        raise ValueError(f"{what} {_shown(text)} must be the 9 digits of an American bank, without spaces")
    if sum(int(digit) * weight for digit, weight in zip(text, (3, 7, 1) * 3, strict=True)) % 10:
        raise ValueError(f"{what} {text} has a wrong digit: its check digit does not fit")


def _check_text(what: str, text: str, longest: int) -> None:
    if len(text) > longest or not _TEXT.fullmatch(text):
        raise ValueError(f"{what} {_shown(text)} must be 1 to {longest} characters: {_TEXT_CHARACTERS}")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 24 else f"{text[:24]}…")
