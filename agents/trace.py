"""Trace points: one name is a log line, a crash point and an ordering point.

`point("bank.books.committed")` stands at each durable step. With `ECASH_CRASH_AT=bank.books.committed:2` in the
environment the process kills itself (SIGKILL) when it comes there the second time, so that a test can show that no
step loses or makes money.
"""

import logging
import os
import signal
from collections import Counter
from typing import Final

_log = logging.getLogger("ecash.trace")
_hits: Counter[str] = Counter()
_NAME, _, _NTH = os.environ.get("ECASH_CRASH_AT", "").partition(":")
_CRASH_AT: Final = (_NAME, int(_NTH or 1))


def point(name: str) -> None:
    """Pass the point of this name; see above."""
    _log.debug("%s", name)
    if name == _CRASH_AT[0]:
        _hits[name] += 1
        if _hits[name] == _CRASH_AT[1]:
            os.kill(os.getpid(), signal.SIGKILL)
