"""Running cases, one after the other, and what became of each."""

import asyncio
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from broker.port import LinkError
from protocol.errors import PeerError

from ..requester import NobodyAnswers
from .case import Case, Failed, Notes, Skipped

_Subject = TypeVar("_Subject")


class Outcome(StrEnum):
    """How a case has ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Result(NamedTuple):
    """What became of a case: `sent`, `expected` and `came` have a line for each step of it."""

    case: Case[Any]
    outcome: Outcome
    seconds: float
    sent: tuple[str, ...]
    expected: tuple[str, ...]
    came: tuple[str, ...]
    reason: str = ""


async def run_cases(
    cases: Iterable[Case[_Subject]],
    subject: _Subject,
    notes: Notes,
    tell: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Run cases in order; `tell` hears of each as it ends. A case that fails does not end the run."""
    results = []
    for case in cases:
        notes.begin()
        began = time.monotonic()
        outcome, reason = await _run(case, subject)
        seconds = time.monotonic() - began
        result = Result(case, outcome, seconds, tuple(notes.sent), tuple(notes.expected), tuple(notes.came), reason)
        tell(result)
        results.append(result)
    return results


async def _run(case: Case[_Subject], subject: _Subject) -> tuple[Outcome, str]:
    try:
        async with asyncio.timeout(case.patience_s):
            await case.check(subject)
    except Skipped as skipped:
        return Outcome.SKIPPED, str(skipped)
    except Failed as failed:
        return Outcome.FAILED, str(failed)
    except TimeoutError:
        return Outcome.FAILED, f"it was not done within {case.patience_s:.0f} seconds"
    except (PeerError, NobodyAnswers, LinkError) as error:
        return Outcome.FAILED, str(error)
    return Outcome.PASSED, ""
