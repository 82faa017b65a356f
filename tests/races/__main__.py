"""Races between real processes, torn logs and flipped bits: `python -m tests.races`; exit code 1 on a fault."""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .kinds import KINDS
from .run import run
from .wear import flip_bits, tear_logs


def main() -> int:
    options = _options()
    faults: list[str] = []
    with TemporaryDirectory(prefix="ecash-races-") as folder:
        for part in ("races", "torn", "flips"):
            (Path(folder) / part).mkdir()
        if options.races:
            faults += asyncio.run(_race(Path(folder) / "races", options.races, options.workers, options.kinds))
        if options.torn:
            faults += _wear("logs worn", tear_logs(Path(folder) / "torn", options.torn, options.seed))
        if options.flips:
            faults += _wear("bits flipped", flip_bits(Path(folder) / "flips", options.flips, options.seed))
    for fault in faults:
        say(f"fault: {fault}")
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.races", description=__doc__)
    parser.add_argument("--races", type=int, default=0, help="how many of each kind")
    parser.add_argument("--workers", type=int, default=8, help="processes that race (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="; ".join(KINDS))
    parser.add_argument("--torn", type=int, default=0, help="how many cut or torn write-ahead logs")
    parser.add_argument("--flips", type=int, default=0, help="how many flipped bits")
    parser.add_argument("--seed", type=int, default=0, help="of cuts, tears and flips")
    return parser.parse_args()


async def _race(folder: Path, races: int, workers: int, kinds: list[str]) -> list[str]:
    say(f"{'kind':<34} {'races':>6} {'accepted':>9} {'refused':>8} {'seconds':>8}")
    faults = []
    async for one in run(folder, races, workers, kinds):
        say(f"{one.kind:<34} {one.races:>6} {one.accepted:>9} {one.refused:>8} {one.seconds:>8.1f}")
        faults += [f"{one.kind}: {fault}" for fault in one.faults]
    return faults


def _wear(what: str, work: Coroutine[Any, Any, tuple[Counter[str], list[str]]]) -> list[str]:
    began = time.monotonic()
    found, faults = asyncio.run(work)
    told = ", ".join(f"{count} {result}" for result, count in found.most_common())
    say(f"{found.total()} {what} in {time.monotonic() - began:.1f} s: {told}")
    return faults


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
