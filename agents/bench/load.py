"""The load: so many requests in flight, each begun when another has ended (a closed loop), and what they cost."""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

Tick = Callable[[], None]
"""Called when one more piece of work is done, for whoever watches."""

_J = TypeVar("_J")


class Workload(Protocol[_J]):
    """One kind of load. Its jobs are prepared first, so that none of that is in the figures."""

    async def prepare(self, count: int, tick: Tick) -> Sequence[_J]:
        """Return so many jobs."""
        ...

    async def carry_out(self, job: _J) -> float:
        """Do a job and return how many seconds the part took that is measured."""
        ...

    def figures(self, since: int) -> dict[str, float]:
        """Return what else was measured, without the first `since` jobs."""
        ...


class Trial(NamedTuple):
    """What a load came to: the seconds of each job, and those from the first begin to the last end."""

    latencies: list[float]
    elapsed: float

    @property
    def per_second(self) -> float:
        """Jobs in a second."""
        return len(self.latencies) / self.elapsed

    def percentile_ms(self, part: float) -> float:
        """Return the milliseconds that this part (0 … 1) of the jobs did not exceed."""
        return percentile_ms(self.latencies, part)


def percentile_ms(seconds: Sequence[float], part: float) -> float:
    """Return the nearest-rank percentile in milliseconds."""
    return sorted(seconds)[max(0, math.ceil(part * len(seconds)) - 1)] * 1000


async def closed_loop(
    jobs: Iterable[_J], carry_out: Callable[[_J], Awaitable[float]], in_flight: int, seconds: float, tick: Tick
) -> Trial:
    """Carry jobs out, always `in_flight` at once, until time is up or there are none left. There is at least one.

    What is under way when time is up is carried to its end and counted.
    """
    latencies: list[float] = []
    supply = iter(jobs)
    begun = time.perf_counter()

    async def work() -> None:
        while not latencies or time.perf_counter() - begun < seconds:
            job = next(supply, None)
            if job is None:
                return
            latencies.append(await carry_out(job))
            tick()

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return Trial(latencies, time.perf_counter() - begun)


def cpu_seconds(pid: int) -> float:
    """Return how much processor time a process has used; 0 where there is no /proc to tell."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0.0
    user, system = status.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def is_on_disk(folder: Path) -> bool:
    """Return False where fsync keeps nothing, since the folder is in memory (as far as /proc tells)."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except FileNotFoundError:
        return True
    holding = [(len(at), kind) for at, kind in mounts if folder.resolve().is_relative_to(at)]
    return max(holding)[1] not in {"tmpfs", "ramfs"}
