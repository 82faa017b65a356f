"""What the README tells people to type, typed: separate processes, a real broker, and the figures in the end."""

import asyncio
import os
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.conftest import free_port

from .process import PASSPHRASE, Finished, Process, Processes, ecash, processes
from .world import COMMISSION, Templates, World, check_bought, check_withdrawn, world_for

STOP_S: Final = 5.0
"""How long an agent may take to stop."""


class Town(NamedTuple):
    """A person's terminals: each agent runs in one, `type` is the one where commands are typed."""

    folder: Path
    engine: str
    port: int
    processes: Processes
    running: dict[str, Process]

    def command(self, *words: object) -> list[str]:
        """A command with the home that it is about."""
        role = {"wallet": "wallet", "bank": "bank", "merchant": "merchant", "broker": "broker"}[str(words[0])]
        return ecash(*words, "--home", self.folder / role)

    async def type(self, *words: object) -> Finished:
        """Type a command that must succeed."""
        return await self.processes.does(self.command(*words))

    async def url(self, name: str) -> str:
        """An address with a log-in, if the broker knows log-ins."""
        if self.engine == "embedded":
            return f"mqtt://127.0.0.1:{self.port}"
        return (await self.type("broker", "grant", name, "--port", self.port)).stdout.strip()

    async def run(self, name: str, says: str, *words: object) -> Process:
        """Run an agent in a terminal of its own, and wait until it says that it is there."""
        process = self.running[name] = await self.processes.start(self.command(*words))
        await (process.says(says) if name == "broker" else process.logs(says))
        return process
