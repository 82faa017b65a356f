"""`ecash simulate`: run worlds, one for each seed, and tell what became of them."""

import gc
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from typing import Final

from .canary import dead_checkers
from .report import Report, failure
from .run import Result, run_seed

_BATCH: Final = 4


def simulate(seeds: int, first: int, processes: int, *, trace: bool, strict: bool) -> int:
    """Run so many seeds, from the first on; return the exit code.

    Args:
        seeds: how many.
        first: the first one.
        processes: how many to run side by side.
        trace: print what has happened in each world.
        strict: fail if something that a long run should cover was not covered.
    """
    began, report, code = time.monotonic(), Report(), 0
    try:
        for result in _results(range(first, first + seeds), processes):
            report.add(result)
            if trace:
                _say(*result.trace)
            if result.failures:
                _say(*failure(result))
            _progress(report, seeds, began)
    except KeyboardInterrupt:
        code = 130
    dead = dead_checkers() if not code else []
    _say("", *report.lines(time.monotonic() - began))
    _say(*(f"a checker is dead: nobody noticed that {name}" for name in dead))
    unhit = report.missed() if strict else []
    return code or int(bool(report.failed or dead or unhit))


def _results(seeds: Iterable[int], processes: int) -> Iterator[Result]:
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    batches = _batches(iter(seeds))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=gc.freeze) as pool:
        running: set[Future[list[Result]]] = set()
        try:
            while True:
                running |= {pool.submit(run_batch, batch) for batch in islice(batches, 2 * processes - len(running))}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(seeds: Iterator[int]) -> Iterator[tuple[int, ...]]:
    while batch := tuple(islice(seeds, _BATCH)):
        yield batch


def run_batch(seeds: Iterable[int]) -> list[Result]:
    """Run seeds one after the other; of a good one its trace is not needed."""
    results = [run_seed(seed) for seed in seeds]
    return [result if result.failures else result._replace(trace=()) for result in results]


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _progress(report: Report, seeds: int, began: float) -> None:
    if sys.stderr.isatty() or report.seeds % 100 == 0:
        seconds = time.monotonic() - began
        told = f"{report.seeds} of {seeds} seeds, {report.seeds / seconds:.2f} a second, {len(report.failed)} failed"
        sys.stderr.write(f"\r{told} " if sys.stderr.isatty() else f"{told}\n")
        sys.stderr.flush()
