"""How an agent's process runs: until it is asked to stop, and then it stops cleanly."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

from rich.logging import RichHandler

_log = logging.getLogger("ecash")


def set_up_logging(level: str) -> None:
    """Log to standard error; in a terminal with colours, else a line for each event."""
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(plain)
    if os.isatty(2):
        handler = RichHandler(show_path=False, log_time_format="[%X]")
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True, format="%(message)s")


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends, or SIGTERM or Ctrl-C comes: then cancel it and wait for it to clean up.

    Raises:
        Whatever `work` raises.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
        return
    _log.info("stopped")
