"""`python -m tests.fuzz --inputs 1000000`: exit code 1, and the inputs, if anything is found."""

import argparse
import random
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from .say import say
from .share import Share, work


def main() -> int:
    options = _options()
    say(f"seed {options.seed}; {'guided by coverage (atheris)' if options.guided else 'mutation, without coverage'}")
    found = tempfile.mkdtemp(prefix="ecash-fuzz-found-")
    seconds = options.minutes * 60
    if options.guided:
        from .guided import run_guided

        return run_guided(options.target, options.seed, options.inputs, options.minutes, options.processes, Path(found))
    count = options.processes
    shares = [Share(n, count, options.target, options.seed, options.inputs, seconds, found) for n in range(count)]
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(work, shares))
    for executions, _ in done:
        say(f"{executions} executions in a process")
    findings = sum(findings for _, findings in done)
    say(f"{sum(executions for executions, _ in done)} executions, {findings} findings{f' in {found}' * bool(findings)}")
    return 1 if findings else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each target (default: %(default)s)")
    parser.add_argument("--target", default="", help="only targets with this in their names, such as `desk: deposit`")
    parser.add_argument("--processes", type=int, default=2, help="side by side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for all targets together, at most")
    parser.add_argument("--guided", action="store_true", help="have atheris guide by coverage; it must be installed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
