"""The same targets under atheris (libFuzzer), guided by what the inputs reach in `protocol`, `agents` and `broker`.

libFuzzer ends its process itself, so each target has one of its own: `python -m tests.fuzz.guided NAME …`, which
`python -m tests.fuzz --guided` starts.
"""

import asyncio
import importlib
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from .say import say

_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_PACKAGES: Final = ["protocol", "agents", "broker"]
_HALF: Final = 0.5


class Task(NamedTuple):
    """One target: how many inputs, for how long, and where a finding is kept."""

    name: str
    seed: int
    inputs: int
    seconds: float
    found: Path

    def command(self) -> list[str]:
        arguments = (self.name, self.seed, self.inputs, self.seconds, self.found)
        return [sys.executable, "-m", "tests.fuzz.guided", *map(str, arguments)]


def run_guided(wanted: str, seed: int, inputs: int, minutes: float, processes: int, found: Path) -> int:
    """Fuzz all targets with this text in their names; return the exit code."""
    names = [name for name in asyncio.run(_names()) if wanted in name]
    each = min(minutes * 60 * processes / max(1, len(names)), 10**6)
    tasks = [Task(name, seed, inputs, each, found) for name in names]
    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(_start, tasks))
    failed = [task.name for task, (_, code) in zip(tasks, done, strict=True) if code]
    say(f"{sum(count for count, _ in done)} executions, {len(failed)} findings{f' in {found}' * bool(failed)}")
    return 1 if failed else 0


async def _names() -> list[str]:
    from .targets import fuzzing_range

    with tempfile.TemporaryDirectory() as folder:
        async with fuzzing_range(Path(folder)) as under_fire:
            return [target.name for target in under_fire.targets]


def _start(task: Task) -> tuple[int, int]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:  # libFuzzer leaves no time to clean up
        done = subprocess.run(
            task.command(),
            env=os.environ | {"TMPDIR": folder},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    told = _EXECUTED.search(done.stderr)
    count = int(told[1]) if told else 0
    say(f"{task.name:34}{count:>9} executions{count / (time.monotonic() - began):>8.0f}/s")
    if done.returncode:
        say(f"FOUND in {task.name}; its input is in {task.found}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return count, done.returncode


def _fuzz(task: Task) -> None:
    """Fuzz one target; libFuzzer ends the process."""
    logging.disable(logging.CRITICAL)
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_PACKAGES):
        from .fuzz import Tally, try_one
        from .source import kept
        from .targets import fuzzing_range
    loop, stack, tally = asyncio.new_event_loop(), AsyncExitStack(), Tally()
    folder = Path(tempfile.mkdtemp())
    under_fire = loop.run_until_complete(stack.enter_async_context(fuzzing_range(folder)))
    target = next(one for one in under_fire.targets if one.name == task.name)
    good: Sequence[bytes] = [*kept(target), *target.seeds, *target.form.hostile]

    def one(data: bytes) -> None:
        finding = loop.run_until_complete(try_one(target, data, tally))
        if finding is not None:
            raise finding.error

    def mutator(data: bytes, limit: int, draw: int) -> bytes:
        rng = random.Random(draw)
        if rng.random() < _HALF:
            changed: bytes = atheris.Mutate(data, limit)
            return changed
        return target.form.mutate(data, rng)[:limit]

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(good):
        (corpus / f"{number}").write_bytes(data)
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-seed={task.seed % 2**32 or 1}",
        f"-runs={task.inputs}",
        f"-max_total_time={max(1, int(task.seconds))}",
        f"-artifact_prefix={task.found}/",
        "-max_len=65536",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, one, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    _name, _seed, _inputs, _seconds, _found = sys.argv[1:]
    _fuzz(Task(_name, int(_seed), int(_inputs), float(_seconds), Path(_found)))
