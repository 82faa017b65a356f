"""`python -m tests.histories`: exit code 1, and the shortest history, if books and model disagree."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from .batch import run_batch
from .run import STEPS


def main() -> int:
    options = _options()
    began = time.monotonic()
    tally: Counter[str] = Counter()
    failures = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        batches = list(_batches(options.seed, options.histories, options.batch))
        futures = [pool.submit(run_batch, number, histories, options.steps) for number, histories in batches]
        for future in as_completed(futures):
            found, failure = future.result()
            tally += found
            seconds = time.monotonic() - began
            say(f"{tally['histories']} of {options.histories} histories, {tally['steps']} steps, {seconds:.0f} s")
            if failure:
                failures.append(failure)
                for waiting in futures:
                    waiting.cancel()
                break
    for what, count in sorted(tally.items()):
        say(f"{count:>9} {what}")
    say(f"{tally['histories']} histories, {tally['steps']} steps in {time.monotonic() - began:.0f} s")
    for failure in failures:
        say(failure)
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch; the next has the next one")
    parser.add_argument("--batch", type=int, default=200, help="histories of one seed (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each history (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="side by side (default: %(default)s)")
    return parser.parse_args()


def _batches(seed: int, histories: int, batch: int) -> Iterator[tuple[int, int]]:
    for number, start in enumerate(range(0, histories, batch), seed):
        yield number, min(batch, histories - start)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
