"""Payouts as ACH transfers: what goes out to the bank that sends them, and what is booked of what comes back.

A payout's number in the books is its trace number in all files.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from ..home import HomeError
from .ach import Credit, Destination, Originator, Return, Settlement, parse_originator, write_file
from .home import Settings
from .store import Books, PayoutRow, WrongState

CURRENCY: Final = "USD"
"""ACH moves nothing else."""
_SATURDAY: Final = 5


def originator_of(home: Path, settings: Settings) -> Originator:
    """Return who sends the files of the bank in this home.

    Raises:
        HomeError: a setting is missing or wrong.
        ValueError: the bank keeps accounts in a currency that ACH does not move.
    """
    check_currency(settings)
    names = ("destination", "destination_name", "origin", "company_name", "company_id", "odfi")
    agreed = {f"ach_{name}": str(getattr(settings, f"ach_{name}")) for name in names}
    missing = [name for name, value in agreed.items() if not value]
    path = home / "bank.toml"
    if missing:
        raise HomeError(f"{path} has no {', '.join(missing)}: enter what was agreed with the bank that sends payouts")
    try:
        return parse_originator(*agreed.values())
    except ValueError as error:
        raise HomeError(f"{path}: {error}") from error


def check_currency(settings: Settings) -> None:
    """Raise ValueError unless the bank's payouts can go by ACH."""
    if settings.currency != CURRENCY:
        raise ValueError(
            f"payouts go by ACH, which moves {CURRENCY} only: this bank's accounts are {settings.currency}"
        )


def next_weekday(at: int) -> date:
    """Return the first Monday to Friday after the day (UTC) of `at`, in milliseconds since 1970.

    Bank holidays are not known here; the bank that sends moves the date then.
    """
    day = datetime.fromtimestamp(at / 1000, UTC).date() + timedelta(days=1)
    while day.weekday() >= _SATURDAY:
        day += timedelta(days=1)
    return day


def write_transfers(originator: Originator, number: int, now: int, payouts: Sequence[PayoutRow]) -> bytes:
    """Return the ACH file of this number with these payouts.

    Raises:
        ValueError: they do not fit in a file.
    """
    batch = [
        Credit(payout.number, Destination(*payout.destination), payout.amount, f"PAYOUT {payout.number}")
        for payout in payouts
    ]
    return write_file(originator, number, now, next_weekday(now), batch)


class Booked(NamedTuple):
    """What became of a line of a file that came back.

    `event` is settled or returned, and `reason` why it was returned. `outcome` is booked, known (it was booked before),
    or refused, with why in `fault`.
    """

    payout: int
    amount: int
    event: str
    reason: str
    outcome: str
    fault: str


async def book(books: Books, line: Settlement | Return) -> Booked:
    """Book a settlement or a return; once only, however often the file is imported."""
    event, reason = ("returned", f"{line.code} {line.reason}") if isinstance(line, Return) else ("settled", "")
    try:
        if isinstance(line, Return):
            new = await books.return_payout(line.trace, line.amount, reason)
        else:
            new = await books.settle_payout(line.trace, line.amount)
    except WrongState as error:
        return Booked(line.trace, line.amount, event, reason, "refused", str(error))
    return Booked(line.trace, line.amount, event, reason, "booked" if new else "known", "")
