"""A fuzzer without coverage: it mutates good inputs, and what it found once to be taken or refused anew."""

import logging
import random
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from .mutate import mutate
from .target import Target
from .targets import fuzzing_range


class Finding(NamedTuple):
    """An exception that escaped, and the bytes that made it."""

    target: str
    data: bytes
    error: BaseException


class Report(NamedTuple):
    """How often each target ended how, and what was found."""

    outcomes: Counter[tuple[str, str]]
    finding: Finding | None

    @property
    def executions(self) -> int:
        return self.outcomes.total()

    def count(self, outcome: str) -> int:
        return sum(number for (_, one), number in self.outcomes.items() if one == outcome)


async def try_one(target: Target, data: bytes, outcomes: Counter[tuple[str, str]]) -> Finding | None:
    """Run one input; return what escaped."""
    try:
        outcomes[target.name, await target.run(data)] += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return Finding(target.name, data, error)
    return None


async def fuzz(folder: Path, seed: int, *, seconds: float = float("inf"), executions: int | None = None) -> Report:
    """Fuzz for a time or a number of executions, in turn over all targets; stop at the first finding.

    In the end an honest customer must still be served, and the bank's books be right.
    """
    rng, outcomes = random.Random(seed), Counter[tuple[str, str]]()
    logging.disable(logging.ERROR)  # each drop is a line; an escape is what is looked for
    try:
        async with fuzzing_range(folder) as (under_fire, wallet, targets):
            pools = {target.name: list(target.seeds) for target in targets}
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at and (executions is None or outcomes.total() < executions):
                target = rng.choice(targets)
                pool = pools[target.name]
                data = mutate(rng.choice(pool), rng)
                finding = await try_one(target, data, outcomes)
                if finding is not None:
                    return Report(outcomes, finding)
                if len(pool) < 50 and len(data) < 10_000 and rng.random() < 0.05:
                    pool.append(data)
            await under_fire.honest(wallet)
    finally:
        logging.disable(logging.NOTSET)
    return Report(outcomes, None)
