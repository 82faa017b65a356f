"""Agents as processes of their own, without the start of an interpreter for each.

They are children of a server (`forkserver.py`) that has imported them once; each runs `python -m agents.…` as if it
had just been started, with an environment, outputs, memory, locks and an end of its own. That saves a second of
computing for each of the hundreds of processes that are started to be killed.
"""

import asyncio
import atexit
import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

MODULES: Final = frozenset({"agents.bank", "agents.client", "agents.merchant"})
"""What the server can run."""

OUTPUT: Final = {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
"""What is read from the environment at the start or an import already, so that it is the server's."""

_SERVER: Final = Path(__file__).with_name("forkserver.py")
_LINE_BYTES: Final = 1 << 22


class Forked:
    """A child of the server as the test sees it; it is used as an `asyncio.subprocess.Process` is."""

    def __init__(
        self, pid: int, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader, report: asyncio.StreamReader
    ) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None
        self._following = asyncio.create_task(self._follow(report))

    async def _follow(self, report: asyncio.StreamReader) -> None:
        self.returncode = int(await report.read())

    async def wait(self) -> int:
        """Wait for its end; return its exit code, or minus the number of the signal that killed it."""
        await asyncio.shield(self._following)
        assert self.returncode is not None
        return self.returncode


async def start(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
    """Start `python -m module` with these arguments and nothing but this environment."""
    ends = [os.pipe() for _ in range(3)]
    request = json.dumps([module, arguments, dict(environment)]).encode()
    socket.send_fds(_server(), [request], [write for _, write in ends])
    for _, write in ends:
        os.close(write)
    stdout, stderr, report = [await _reader(read) for read, _ in ends]
    return Forked(int(await report.readline()), stdout, stderr, report)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


@functools.cache
def _server() -> socket.socket:
    """Start the server; return the socket where it takes requests until that is closed."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-P", _SERVER, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | OUTPUT,
            start_new_session=True,  # Ctrl-C is for the tests, which end what they have started
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours
