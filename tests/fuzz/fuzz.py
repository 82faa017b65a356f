"""Plain mutation, without coverage: each target gets its inputs, and what they cost and change is watched.

Nothing may escape. What is refused changes nothing, which is looked at for some inputs (see `Watch`); in the end an
honest customer must still be served, and the bank's audit find no fault.
"""

import gc
import logging
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from .source import Source
from .target import TAKEN, Target
from .targets import Range, fuzzing_range

MOST_MEMORY: Final = 16 << 20
"""An input may have Python allocate so much at once, in bytes, beside what it holds itself."""
_LONG: Final = 1 << 16
"""Inputs of so many bytes are measured, too, among the first ones."""


class Finding(NamedTuple):
    """Something that must not be, and the bytes that made it."""

    target: str
    data: bytes
    error: BaseException


class Changed(Exception):
    """An input was refused or dropped, and yet something was changed by it."""


class TooMuch(Exception):
    """An input had more memory allocated than it may."""


@dataclass
class Tally:
    """What became of a target's inputs.

    Attributes:
        outcomes: how many ended how.
        slowest: what the slowest one took, in seconds of CPU.
        memory: the most that one allocated at once, in bytes, among those that were measured.
        elapsed: seconds of CPU in all, inputs made and watched included.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    memory: int = 0
    elapsed: float = 0.0

    @property
    def executions(self) -> int:
        return self.outcomes.total()


class Watch(NamedTuple):
    """What is looked at: the state at every so many inputs, the memory at every so many others (never if 0)."""

    state: Callable[[], object]
    every: int = 64
    memory_every: int = 1024


NOTHING: Final = Watch(lambda: None, 0, 0)


class Plan(NamedTuple):
    """How much to do.

    Attributes:
        seed: of all that is random.
        inputs: for each target.
        seconds: for all targets together.
        wanted: tells which targets.
        watch_every: see `Watch`.
    """

    seed: int
    inputs: int
    seconds: float = float("inf")
    wanted: Callable[[int, str], bool] = lambda _number, _name: True
    watch_every: int = 64


Tell = Callable[[str, Tally, Finding | None], None]
"""Is told of each target when it has had its inputs."""


def _nobody(name: str, tally: Tally, finding: Finding | None) -> None:
    pass


class Report(NamedTuple):
    """What was done, by target, and what was found."""

    tallies: dict[str, Tally]
    findings: list[Finding]

    @property
    def executions(self) -> int:
        return sum(tally.executions for tally in self.tallies.values())

    def count(self, outcome: str) -> int:
        return sum(tally.outcomes[outcome] for tally in self.tallies.values())


async def try_one(target: Target, data: bytes, tally: Tally, watch: Watch = NOTHING) -> Finding | None:
    """Run one input; return what must not be, if anything."""
    number = tally.executions
    watched = watch.every and number % watch.every == 0
    measured = watch.memory_every and (
        number % watch.memory_every == 1 or (len(data) >= _LONG and number < watch.memory_every)
    )
    before = watch.state() if watched else None
    if measured:
        tracemalloc.start()
    began = time.process_time()
    try:
        outcome = await target.run(data)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return Finding(target.name, data, error)
    finally:
        took = time.process_time() - began
        if measured:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            tally.memory = max(tally.memory, peak)
    tally.outcomes[outcome] += 1
    if not measured:
        tally.slowest = max(tally.slowest, took)
    if measured and peak > MOST_MEMORY + 8 * len(data):
        return Finding(target.name, data, TooMuch(f"{peak} bytes"))
    if watched and outcome != TAKEN and (after := watch.state()) != before:
        return Finding(target.name, data, Changed(f"{outcome}, but {before} became {after}"))
    return None


async def fuzz_one(
    target: Target, rng: random.Random, most: int, ends_at: float, watch: Watch
) -> tuple[Tally, Finding | None]:
    """Give a target its inputs until it is time or something is found."""
    tally, source, began = Tally(), Source(target, rng, most), time.process_time()
    finding = None
    while finding is None and tally.executions < most and time.monotonic() < ends_at:
        data, taken = source.draw(), tally.outcomes[TAKEN]
        finding = await try_one(target, data, tally, watch)
        source.learn(data, taken=tally.outcomes[TAKEN] > taken)
    tally.elapsed = time.process_time() - began
    return tally, finding


async def fuzz(folder: Path, plan: Plan, tell: Tell = _nobody) -> Report:
    """Fuzz one target after another; one in which something is found is left then."""
    report = Report({}, [])
    logging.disable(logging.CRITICAL)  # each drop is a line; an escape is what is looked for
    try:
        async with fuzzing_range(folder) as under_fire:
            gc.freeze()  # what stands for the whole run would be looked at again and again
            targets = [one for number, one in enumerate(under_fire.targets) if plan.wanted(number, one.name)]
            await _fire(under_fire, targets, plan, report, tell)
            await under_fire.honest()
    finally:
        gc.unfreeze()
        logging.disable(logging.NOTSET)
    return report


async def _fire(under_fire: Range, targets: Sequence[Target], plan: Plan, report: Report, tell: Tell) -> None:
    ends_at = time.monotonic() + plan.seconds
    watch = Watch(under_fire.state, plan.watch_every)
    for left, target in zip(range(len(targets), 0, -1), targets, strict=True):
        now = time.monotonic()
        rng = random.Random(f"{plan.seed} {target.name}")
        tally, finding = await fuzz_one(target, rng, plan.inputs, now + (ends_at - now) / left, watch)
        report.tallies[target.name] = tally
        tell(target.name, tally, finding)
        if finding is not None:
            report.findings.append(finding)
