"""Trace points: one name is a log line, a crash point and an ordering point.

`point("bank.books.committed")` stands at each durable step. With `ECASH_CRASH_AT=bank.books.committed:2` in the
environment the process kills itself (SIGKILL) when it comes there the second time, so that a test can show that no
step loses or makes money.
"""

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Final

_log = logging.getLogger("ecash.trace")
_hits: Counter[str] = Counter()
_NAME, _, _NTH = os.environ.get("ECASH_CRASH_AT", "").partition(":")
_CRASH_AT: Final = (_NAME, int(_NTH or 1))
_watchers: list[Callable[[str], None]] = []


def watch(listener: Callable[[str], None] | None) -> None:
    """Tell each point that is passed to a listener, in the place of the one before; None for nobody.

    What the listener raises comes out of the point: so a simulated process ends there.
    """
    _watchers[:] = [listener] if listener else []


def point(name: str) -> None:
    """Pass the point of this name; see above."""
    _log.debug("%s", name)
    for listener in _watchers:
        listener(name)
    if name == _CRASH_AT[0]:
        _hits[name] += 1
        if _hits[name] == _CRASH_AT[1]:
            os.kill(os.getpid(), signal.SIGKILL)
