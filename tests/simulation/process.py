"""Lives and deaths of simulated processes.

A process is a *life*: all that runs in its context. It can be ended between any two steps of the loop, or at a trace
point: then nothing of it runs any more, its open transactions are rolled back, and its connections are cut.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, Protocol

LIFE: ContextVar["Life | None"] = ContextVar("LIFE", default=None)


class Killed(BaseException):
    """Ends a process where it is."""


class Cuttable(Protocol):
    """A presence at the broker, which can lose its connection."""

    def vanish(self) -> None: ...


class Disk:
    """How a process's disk behaves: how long it takes, and whether a statement fails."""

    def __init__(self) -> None:
        self.delay: Callable[[], float] = lambda: 0.0
        self.fails: Callable[[str], sqlite3.OperationalError | None] = lambda _: None


class Life:
    """A process from its start to its death.

    Args:
        name: of the agent.
        died: is told when it is killed, with the reason.

    Attributes:
        passed: the last trace point that it has passed.
        doom: the step of the loop, counted from its start, before which it dies; 0 for none.
    """

    def __init__(self, name: str, died: Callable[["Life", str], None]) -> None:
        self.name = name
        self.dead = False
        self.steps = 0
        self.doom = 0
        self.disk = Disk()
        self.connections: list[sqlite3.Connection] = []
        self.links: list[Cuttable] = []
        self._died = died
        self.passed = "start"
        self._crash_at = ("", 0)

    def crash_at(self, point: str, nth: int) -> None:
        """Die at the nth hit of a trace point from now on."""
        self._crash_at = (point, nth)

    def lives(self) -> bool:
        """Count a step; tell whether there is still somebody to make it."""
        if self.dead:
            return False
        self.steps += 1
        if self.doom and self.steps >= self.doom:
            self.kill(f"at step {self.steps}")
            return False
        return True

    def passes(self, point: str) -> None:
        """Pass a trace point; raise `Killed` if the process dies there, or is dead."""
        if self.dead:
            raise Killed
        self.passed = point
        wanted, nth = self._crash_at
        if point == wanted:
            self._crash_at = (wanted, nth - 1)
            if nth <= 1:
                self.kill(f"at {point}")
                raise Killed

    def kill(self, reason: str) -> None:
        """End the process without a word to anybody."""
        if not self.dead:
            self.dead = True
            self._died(self, reason)
            self.cut_off()

    def end(self) -> None:
        """Note that the process has ended by itself."""
        self.dead = True
        self.cut_off()

    def cut_off(self) -> None:
        """Close the process's files, as the operating system does, and its connections."""
        for connection in list(self.connections):
            try:
                if connection.in_transaction:
                    connection.rollback()
                connection.close()
            except sqlite3.Error:
                continue
        self.connections.clear()
        for link in self.links:
            link.vanish()
        self.links.clear()

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin work in this process."""
        context = copy_context()
        context.run(LIFE.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)
