"""Run races of every kind, audit the books after each batch, and tell what happened."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

from tests.agents.world import mint

from .kinds import KINDS, Prepare
from .scene import Scene, found
from .workers import Workers


class Result(NamedTuple):
    """What became of the races of one kind."""

    kind: str
    races: int
    accepted: int
    refused: int
    seconds: float
    faults: list[str]


async def run(
    folder: Path, races: int, workers: int, kinds: Iterable[str] = KINDS, batch: int = 50
) -> AsyncIterator[Result]:
    """Run so many races of each kind between so many workers, kind after kind."""
    scene = await found(folder)
    try:
        with Workers(folder / "books.db", mint().folder, workers) as racing:
            for kind in kinds:
                yield await _run_kind(scene, racing, kind, races, batch)
    finally:
        await scene.town.close()


async def _run_kind(scene: Scene, workers: Workers, kind: str, races: int, batch: int) -> Result:
    began, done, accepted, refused, faults = time.monotonic(), 0, 0, 0, list[str]()
    size = 1 if "deadline" in kind else batch  # a deadline does not wait for the races before
    while done < races:
        this = min(size, races - done)
        won, lost, found_faults = await _run_batch(scene, workers, KINDS[kind], this)
        accepted, refused, done = accepted + won, refused + lost, done + this
        faults += found_faults
    faults += await scene.town.faults()
    return Result(kind, races, accepted, refused, time.monotonic() - began, faults)


async def _run_batch(scene: Scene, workers: Workers, prepare: Prepare, races: int) -> tuple[int, int, list[str]]:
    prepared = [await prepare(scene, workers.count) for _ in range(races)]
    racing = asyncio.to_thread(workers.run, [one.orders for one in prepared])
    answered, meanwhile = await asyncio.gather(racing, scene.town.faults())  # an auditor sees one moment of the books
    refusals = [
        scene.told(*pair).refusal
        for one, answers in zip(prepared, answered, strict=True)
        for pair in zip(one.askings, answers, strict=True)
    ]
    faults = [fault for one, answers in zip(prepared, answered, strict=True) for fault in one.judge(answers)]
    return refusals.count(""), len(refusals) - refusals.count(""), meanwhile + faults
