"""A world: its time, its network, its inhabitants' processes, and what is written down of them."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, Final

from agents.bank.store import BooksError
from agents.home import HomeError
from agents.requester import NobodyAnswers
from broker.port import LinkError, Outgoing
from protocol import topics
from protocol.errors import PeerError

from .broker import FaultyNetwork
from .checks.knowledge import Knowledge
from .entropy import SeededEntropy
from .founding import START
from .loop import NOBODY, VirtualLoop
from .plan import Plan
from .process import LIFE, Killed, Life
from .reading import Readers

ORDINARY: Final = (LinkError, NobodyAnswers, PeerError, BooksError, HomeError, sqlite3.Error, OSError)
"""What a process may end of; its supervisor starts it again."""


class SkewedClock:
    """An agent's clock, which may be wrong."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._name = name

    def now(self) -> int:
        return self._world.now() + self._world.skews.get(self._name, 0)

    async def sleep_until(self, at: int) -> None:
        await asyncio.sleep(max(0, at - self.now()) / 1000)


class World:
    """A world.

    Attributes:
        skews: how many milliseconds each agent's clock is ahead.
        calm: whether the faults are over; `over`: whether everything is.
        failures: what must not be; the first one ends the world.
        trace: what has happened, a line for each thing.
        counts: the same, counted by kind.
        active: the kinds of fault that last at the moment.
        dirty: the files that something was committed to since they were looked at.
    """

    def __init__(self, plan: Plan, folder: Path, loop: VirtualLoop) -> None:
        self.plan = plan
        self.folder = folder
        self.loop = loop
        self.random = Random(f"events {plan.seed}")
        self.network = FaultyNetwork(Random(f"network {plan.seed}"), self.fault, self._heard)
        self.skews: dict[str, int] = {}
        self.calm = False
        self.over = False
        self.failures: list[str] = []
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.dirty: set[str] = set()
        self.active: Counter[str] = Counter()
        self.listeners: list[Callable[[Outgoing], None]] = []
        self.lives: dict[str, Life] = {}
        self.all_lives: list[Life] = []
        self.next_key = 0
        self.knowledge = Knowledge(self.fail)
        self.readers = Readers()
        self._starters: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._births: Counter[str] = Counter()

    def now(self) -> int:
        """Return the true time in milliseconds."""
        return START + round(self.loop.time() * 1000)

    def clock(self, name: str) -> SkewedClock:
        return SkewedClock(self, name)

    def entropy(self, name: str) -> SeededEntropy:
        """Return entropy that is different at each start of a process."""
        return SeededEntropy(f"{self.plan.seed} {name} {self._births[name]}")

    def tell(self, who: str, what: str) -> None:
        """Write down what has happened."""
        if self.over:
            return
        seconds = self.loop.time()
        self.trace.append(f"{int(seconds // 86_400):3d}d {seconds % 86_400:10.3f}s  {who:<14} {what}")

    def fault(self, kind: str, detail: str = "") -> None:
        """Write down a fault of the world."""
        self.counts[f"fault: {kind}"] += 1
        self.tell("fault", f"{kind} {detail}")

    def fail(self, what: str) -> None:
        """Write down what must not be."""
        if what not in self.failures and not self.over:
            self.failures.append(what)
            self.tell("FAILURE", what)

    def _heard(self, message: Outgoing) -> None:
        life = LIFE.get()
        who = life.name if life else "somebody"
        correlation = message.correlation.hex()[:8] if message.correlation else ""
        self.tell(who, f"-> {_short(message.topic)} {correlation} {len(message.payload)} bytes")
        for listener in self.listeners:
            listener(message)

    def inhabit(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let an agent live, and start it again, a while later, whenever it has died."""
        self._starters[name] = work
        self.start(name)

    def start(self, name: str) -> None:
        """Start an agent, unless it is running."""
        life = self.lives.get(name)
        if life is not None and not life.dead:
            return
        life = self.lives[name] = self.new_life(name)
        life.run(self._live(life, self._starters[name]))

    def new_life(self, name: str) -> Life:
        self._births[name] += 1
        life = Life(name, self._died)
        self.all_lives.append(life)
        self.tell(name, f"starts, for the {self._births[name]}. time")
        return life

    async def run_once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a command to its end, or to its death."""
        life = self.new_life(name)
        life.run(self._live(life, work))
        while not life.dead:  # noqa: ASYNC110 - a life may end between any two steps, without a word
            await asyncio.sleep(0.2)

    async def _live(self, life: Life, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
            self.tell(life.name, "ends")
        except Killed:
            raise
        except Exception as error:  # noqa: BLE001 - what is not ordinary is a failure of the run
            kinds = list(_leaves(error))
            told = "; ".join(f"{type(one).__name__}: {one}" for one in kinds)
            self.tell(life.name, f"ends of {told}")
            if not all(isinstance(one, ORDINARY) for one in kinds):
                self.fail(f"{life.name} ended of {told}")
        finally:
            if not life.dead:
                life.end()
                self._start_later(life.name)

    def _died(self, life: Life, reason: str) -> None:
        self.counts["deaths"] += 1
        self.counts[f"pair: crash × {life.passed}"] += 1
        self.tell(life.name, f"dies {reason}")
        self._start_later(life.name)

    def _start_later(self, name: str) -> None:
        if name in self._starters and name in self.lives:
            pause = 1.0 if self.calm else self.random.choice((0.1, 1.0, 5.0, 30.0, 300.0, 4000.0))
            self.loop.call_later(pause, self.start, name, context=NOBODY)


def _leaves(error: BaseException) -> "list[BaseException]":
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _short(topic: str) -> str:
    return topic.removeprefix(topics.ROOT + "/")
