"""Processes that tests start, listen to, kill and wait for; nothing here sleeps."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import forked

PASSPHRASE: Final = "a passphrase of tests"
PATIENCE_S: Final = 120.0
"""How long anything that is waited for may take."""

ECASH: Final = Path(sys.executable).with_name("ecash")
FULL: Final = os.environ.get("ECASH_CRASH") == "full"
"""The whole crash matrix is asked for, not only each point once."""
FORKING: Final = os.environ.get("ECASH_FORK") != "no"
"""Agents are forked from a server that has imported them; else each is started with an interpreter of its own."""

KILLED: Final[Counter[str]] = Counter()
"""How often an agent has killed itself at each trace point."""

_MODULE: Final = [sys.executable, "-P", "-m"]


def agent(name: str, *arguments: object) -> list[str]:
    """The command line of an agent."""
    return [*_MODULE, f"agents.{name}", *map(str, arguments)]


def ecash(*arguments: object) -> list[str]:
    """The command line that a person types."""
    return [str(ECASH), *map(str, arguments)]


class Process:
    """A process whose two outputs are kept line by line as they come."""

    def __init__(self, process: asyncio.subprocess.Process | forked.Forked, crash_at: str = "") -> None:
        self._crash_at = crash_at
        self.said: list[str] = []
        self.logged: list[str] = []
        self._process = process
        self._news = asyncio.Condition()
        assert process.stdout
        assert process.stderr
        self._reading = (
            asyncio.create_task(self._read(process.stdout, self.said)),
            asyncio.create_task(self._read(process.stderr, self.logged)),
        )

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        while line := await stream.readline():
            async with self._news:
                lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def log(self) -> str:
        return "\n".join(self.logged)

    async def logs(self, text: str, times: int = 1) -> None:
        """Wait until so many lines of the log have had this text."""
        await self._until(lambda: sum(text in line for line in self.logged) >= times, text)

    async def says(self, text: str) -> None:
        """Wait until a line of what it prints has this text."""
        await self._until(lambda: any(text in line for line in self.said), text)

    async def _until(self, happened: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: happened() or all(task.done() for task in self._reading))
        assert happened(), f"it never said {what!r}, but:\n{self.log}"

    async def ended(self, within_s: float = PATIENCE_S) -> int:
        """Wait for its end and for its last words; return its exit code."""
        async with asyncio.timeout(within_s):
            code = await self._process.wait()
            await asyncio.wait(self._reading)
        if code == -signal.SIGKILL and self._crash_at:
            KILLED[self._crash_at.partition(":")[0]] += 1
            self._crash_at = ""
        return code

    def send(self, number: signal.Signals) -> None:
        if not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)  # send_signal would ask for the exit code, which then nobody else is told

    async def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = PATIENCE_S) -> int:
        """Ask it to end, and return its exit code."""
        self.send(number)
        return await self.ended(within_s)

    async def sweep(self) -> None:
        """Leave nothing behind, whatever has become of the test."""
        try:
            self.send(signal.SIGCONT)
            await self.stop(within_s=20)  # so that a broker's parent can end the broker
        except TimeoutError:
            await self.stop(signal.SIGKILL)


async def _start(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process | forked.Forked:
    interpreter, module, arguments = command[:3], command[3:4], command[4:]
    if FORKING and [*interpreter] == _MODULE and forked.MODULES.issuperset(module):
        return await forked.start(module[0], arguments, environment)
    return await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 22,
    )


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_json(self) -> Any:
        return json.loads(self.stdout.splitlines()[-1])


class Processes:
    """All processes of one test."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    async def start(self, command: Sequence[str], crash_at: str = "", **environment: str) -> Process:
        """Start a process; it kills itself when it comes to the trace point `crash_at`."""
        settings = {"ECASH_PASSPHRASE": PASSPHRASE, "ECASH_CRASH_AT": crash_at, "ECASH_CONFIG": os.devnull}
        process = Process(await _start(command, os.environ | settings | forked.OUTPUT | environment), crash_at)
        self._started.append(process)
        return process

    async def run(self, command: Sequence[str], crash_at: str = "", **environment: str) -> Finished:
        """Run a command to its end."""
        process = await self.start(command, crash_at, **environment)
        code = await process.ended()
        return Finished(code, "\n".join(process.said), process.log)

    async def does(self, command: Sequence[str]) -> Finished:
        """Run a command that must succeed."""
        done = await self.run(command)
        assert done.code == 0, f"{' '.join(command[:5])} ended with {done.code}:\n{done.stdout}\n{done.stderr}"
        return done


@contextlib.asynccontextmanager
async def processes() -> AsyncIterator[Processes]:
    """Start processes in the block; none outlives it."""
    started = Processes()
    try:
        yield started
    finally:
        await asyncio.gather(*(process.sweep() for process in started._started))
