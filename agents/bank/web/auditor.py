"""Audits on demand: one at a time, beside the pages, with the last report at hand."""

import asyncio
import contextlib
import logging
from pathlib import Path

from ...home import HomeError
from ...world import Clock
from ..audit import Report
from ..auditing import judge, read_books
from ..last_audit import keep
from ..store import BooksError

_log = logging.getLogger("ecash.bank")


class Auditor:
    """Audits the books of a home.

    Attributes:
        report: what the last audit here has found.
        ended_at: when it ended, in milliseconds since 1970.
        failed: why the last one did not come to an end, or "".
    """

    def __init__(self, home: Path, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self.report: Report | None = None
        self.ended_at = 0
        self.failed = ""

    @property
    def running(self) -> bool:
        """Whether an audit is under way."""
        return self._task is not None and not self._task.done()

    def start(self) -> bool:
        """Begin an audit; return False if one is under way already."""
        if self.running:
            return False
        self._task = asyncio.create_task(self._audit())
        return True

    async def finished(self) -> None:
        """Return when no audit is under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Leave an audit that is under way; it has no result."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _audit(self) -> None:
        try:
            books = await read_books(self._home)
            report = await asyncio.to_thread(judge, books)
        except (BooksError, HomeError, OSError) as error:
            _log.warning("the audit did not end: %s", error)
            self.report, self.failed = None, str(error)
            return
        self.report, self.failed, self.ended_at = report, "", self._clock.now()
        await asyncio.to_thread(keep, self._home, report, self.ended_at)
        _log.info("the books were audited: %s", "they balance" if report.ok else f"{len(report.faults)} faults")
