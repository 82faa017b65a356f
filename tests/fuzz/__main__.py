"""`python -m tests.fuzz --seconds 60`: exit code 1, and the input, if anything escapes."""

import argparse
import asyncio
import importlib.util
import random
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--mutation", action="store_true", help="do not use atheris, even if it is installed")
    options = parser.parse_args()
    say(f"seed {options.seed}")
    if importlib.util.find_spec("atheris") is not None and not options.mutation:
        from .guided import run_guided

        return run_guided(options.seed, int(options.seconds))
    from .fuzz import fuzz
    from .target import DROPPED, REFUSED, TAKEN

    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(fuzz(Path(folder), options.seed, seconds=options.seconds))
    for name in sorted({name for name, _ in report.outcomes}):
        counts = (f"{report.outcomes[name, outcome]:>7} {outcome}" for outcome in (TAKEN, REFUSED, DROPPED))
        say(f"{name:26} {'  '.join(counts)}")
    say(f"{report.executions} executions, {report.count(REFUSED)} refusals, {report.count(DROPPED)} drops")
    if report.finding is None:
        return 0
    target, data, error = report.finding
    kept = Path(tempfile.gettempdir(), f"ecash-fuzz-{options.seed}.bin")
    kept.write_bytes(data)
    say(f"ESCAPED from {target}: {error!r}\ninput ({len(data)} bytes, all of it in {kept}): {data[:2000].hex()}")
    return 1


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
