"""What a run has come to: how many worlds, what befell them, what was covered, and what went wrong."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from .coverage import EXPECTED_PAIRS, POINTS, is_expected, rare, transitions
from .run import Result

_SECTIONS: Final = ("fault", "operation", "operator")


class Report:
    """The sum of many results.

    Attributes:
        failed: the results that have failures.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[Result] = []
        self.seeds = 0
        self.days = 0.0

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.days += result.days
        self.counts.update(result.counts)
        if result.failures:
            self.failed.append(result)

    def missed(self) -> list[str]:
        """Return what no world has covered and a long run should have."""
        wanted = [f"transition: {name}" for name in transitions() if is_expected(name)]
        wanted += [f"point: {name}" for name in POINTS]
        wanted += [f"pair: {name}" for name in EXPECTED_PAIRS]
        return [name for name in wanted if not self.counts[name]]

    def lines(self, seconds: float) -> Iterator[str]:
        """Say all of it."""
        rate = self.seeds / seconds if seconds else 0.0
        yield f"{self.seeds} seeds in {seconds:.0f} s ({rate:.2f} a second), {self.days:.0f} simulated days"
        for section in _SECTIONS:
            yield f"{section}s:"
            yield from _table(self.counts, f"{section}: ")
        yield f"deaths of processes: {self.counts['deaths']}"
        yield _covered(
            "transitions", self.counts, [f"transition: {name}" for name in transitions() if is_expected(name)]
        )
        yield _covered(
            "rare transitions, which need not be,", self.counts, [f"transition: {name}" for name in sorted(rare())]
        )
        yield _covered("trace points", self.counts, [f"point: {name}" for name in POINTS])
        yield _covered("pairs of a fault and a step", self.counts, [f"pair: {name}" for name in EXPECTED_PAIRS])
        for name in self.missed():
            yield f"  not covered: {name}"
        for result in self.failed:
            yield ""
            yield from failure(result)


def failure(result: Result) -> Iterator[str]:
    """Say what went wrong in a world, what happened before, and how to see it again."""
    yield f"seed {result.seed} FAILED:"
    yield from (f"  {one}" for one in result.failures)
    yield "what happened, the last of it:"
    yield from (f"  {line}" for line in result.trace[-60:])
    yield f"replay it with: ecash simulate --seed {result.seed} --trace"


def _table(counts: Mapping[str, int], prefix: str) -> Iterator[str]:
    rows = [(name.removeprefix(prefix), count) for name, count in sorted(counts.items()) if name.startswith(prefix)]
    yield from (f"{count:>9} {name}" for name, count in rows)


def _covered(what: str, counts: Mapping[str, int], names: list[str]) -> str:
    return f"{what} covered: {sum(bool(counts[name]) for name in names)} of {len(names)}"


def default_processes() -> int:
    """Return how many processes a run has unless it is said."""
    return min(2, os.cpu_count() or 1)
