"""The last audit of a home's books: when it was, and what it found, in `last-audit.json`."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from ..home import write_secret
from .audit import Report, Totals

_log = logging.getLogger("ecash.bank")
_NAME: Final = "last-audit.json"


class LastAudit(msgspec.Struct, frozen=True, kw_only=True):
    """An audit that ended at the time `at` (milliseconds since 1970); the totals by currency."""

    at: int
    ok: bool
    faults: int
    totals: dict[str, Totals]


def keep(home: Path, report: Report, at: int) -> None:
    """Keep what an audit that ends now has found; the audit counts, too, if that cannot be written."""
    kept = LastAudit(at=at, ok=report.ok, faults=len(report.faults), totals=report.totals)
    try:
        write_secret(home / _NAME, msgspec.json.encode(kept) + b"\n")
    except OSError as error:
        _log.warning("%s cannot be written: %s", home / _NAME, error)


def last_audit(home: Path) -> LastAudit | None:
    """Return the last audit; None if there is none that can be read."""
    try:
        return msgspec.json.decode((home / _NAME).read_bytes(), type=LastAudit)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if not isinstance(error, FileNotFoundError):
            _log.warning("%s cannot be read: %s", home / _NAME, error)
        return None
