"""Histories in a process of their own."""

import traceback
from collections import Counter
from contextlib import ExitStack
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from .bank import Workshop, folder_of
from .run import run


@cache
def _workshop() -> Workshop:
    """The workshop of this process."""
    stack = ExitStack()
    Finalize(None, stack.close, exitpriority=1)
    folder = stack.enter_context(TemporaryDirectory(dir=folder_of(Path(gettempdir()))))
    return stack.enter_context(Workshop.at(Path(folder)))


def run_batch(number: int, histories: int, steps: int) -> tuple[Counter[str], str]:
    """Run the histories of one seed; return what happened, and what failed as text."""
    tally: Counter[str] = Counter()
    try:
        run(_workshop(), number, histories, steps, tally)
    except Exception as error:  # noqa: BLE001 - it is told in the first process, which ends with exit code 1
        return tally, "".join(traceback.format_exception(error))
    return tally, ""
